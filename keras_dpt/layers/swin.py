"""Swin Transformer, versions 1 and 2: blocks of shifted windows, and merging of patches."""

# Shapes: B batch, h w grid, s side of a window, M windows of a map, T = s * s cells of a window,
# C width.

import functools

import keras
import numpy as np
from keras import ops

from keras_dpt.layers.transformer import MLP, dense
from keras_dpt.layers.window_attention import CosineWindowAttention, WindowAttention
from keras_dpt.ops import in_place

APART = -100.0  # added to scores of cells that only a shift brought into one window


class _WindowBlock(keras.layers.Layer):
    """Base class of both versions' blocks: shift the map, split it into windows, join them.

    Args:
        hidden_dim, num_heads: of the attention. mlp_dim: width inside the MLP.
        window: side of a window in cells; sides of maps are multiples of it.
        shift: how many cells the windows are shifted by.
        epsilon: added to variances.
    """

    def __init__(self, hidden_dim, num_heads, mlp_dim, window, shift=0, epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.window = window
        self.shift = shift
        self.epsilon = epsilon
        dtype = self.dtype_policy
        self.norm1 = keras.layers.LayerNormalization(epsilon=epsilon, dtype=dtype, name="norm1")
        self.attention = self.make_attention()
        self.norm2 = keras.layers.LayerNormalization(epsilon=epsilon, dtype=dtype, name="norm2")
        self.mlp = MLP(hidden_dim, mlp_dim, dtype=dtype, name="mlp")

    def build(self, input_shape):
        cells = (None, self.window**2, self.hidden_dim)
        self.attention.build(cells)
        self.mlp.build(cells)
        self.norm1.build(input_shape)
        self.norm2.build(input_shape)

    def attend(self, x):
        """Attention inside windows, `(B, h, w, C)` to the same."""
        batch, height, width, channels = ops.shape(x)
        side, shift = self.window, self.shift
        mask = None
        if shift:
            x = rolled(x, shift)
            mask = shift_mask(height, width, side, shift)
        rows, columns = height // side, width // side
        x = ops.reshape(x, (-1, rows, side, columns, side, channels))
        x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, side * side, channels))
        x = self.attention(x) if mask is None else self.attention(x, mask)
        x = ops.reshape(x, (-1, rows, columns, side, side, channels))
        x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, height, width, channels))
        return rolled(x, -shift) if shift else x

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "window": self.window,
            "shift": self.shift,
            "epsilon": self.epsilon,
        }


def rolled(x, shift):
    """A map `(B, h, w, C)` that begins `shift` cells further down and to the right.

    By slices, because LiteRT has no roll.
    """
    x = ops.concatenate([x[:, shift:], x[:, :shift]], axis=1)
    return ops.concatenate([x[:, :, shift:], x[:, :, :shift]], axis=2)


@functools.lru_cache(maxsize=32)
def shift_mask(height, width, side, shift):
    """`(M, T, T)` float32: `APART` where a shift brought two cells into one window, else 0.

    Args: height, width: of the map. side, shift: of the windows, `shift` not 0; all in cells.
    """
    zones = []
    for length in (height, width):
        zone = np.zeros(length, "int32")
        zone[length - side :], zone[length - shift :] = 1, 2
        zones.append(zone)
    zone = 3 * zones[0][:, None] + zones[1]
    zone = zone.reshape(height // side, side, width // side, side).transpose(0, 2, 1, 3)
    zone = zone.reshape(-1, side * side)
    return np.where(zone[:, :, None] == zone[:, None], 0, APART).astype("float32")


@keras.saving.register_keras_serializable(package="keras_dpt")
class SwinBlock(_WindowBlock):
    """A block of Swin Transformer: norms before attention and MLP.

    Args: see `_WindowBlock`.
    Inputs: `(B, h, w, C)` float of known height and width. Returns: the same shape and dtype.
    Source: Liu et al. 2021 (arXiv 2103.14030), equation 3.
    """

    def make_attention(self):
        return WindowAttention(
            self.hidden_dim,
            self.num_heads,
            self.window,
            dtype=self.dtype_policy,
            name="attention",
        )

    def call(self, x):
        x = in_place.add(self.attend(self.norm1(x)), x, of=self.attention)
        return in_place.add(self.mlp(self.norm2(x)), x, of=self.mlp)


@keras.saving.register_keras_serializable(package="keras_dpt")
class Swin2Block(_WindowBlock):
    """A block of Swin Transformer V2: norms after attention and MLP, before the shortcut is added.

    Args:
        pretrained_window: see `CosineWindowAttention`.
        others: see `_WindowBlock`.

    Inputs: `(B, h, w, C)` float of known height and width. Returns: the same shape and dtype.
    Source: Liu et al. 2021 (arXiv 2111.09883), Figure 1.
    """

    def __init__(self, *args, pretrained_window=None, **kwargs):
        # Before the layers: one of them depends on it, and Keras wants `super().__init__` first.
        self._pretrained_window = pretrained_window
        super().__init__(*args, **kwargs)

    def make_attention(self):
        return CosineWindowAttention(
            self.hidden_dim,
            self.num_heads,
            self.window,
            self._pretrained_window,
            dtype=self.dtype_policy,
            name="attention",
        )

    def call(self, x):
        x = in_place.add(self.norm1(self.attend(x)), x, of=self.norm1)
        return in_place.add(self.norm2(self.mlp(x)), x, of=self.norm2)

    def get_config(self):
        return super().get_config() | {"pretrained_window": self._pretrained_window}


@keras.saving.register_keras_serializable(package="keras_dpt")
class PatchMerging(keras.layers.Layer):
    """Concatenate each 2x2 cells and project them: half the size of the map, twice the width.

    Args:
        hidden_dim: width of the result.
        norm_first: whether the LayerNorm comes before the projection, as in Swin, or after it, as
            in Swin V2.
        epsilon: added to variances.

    Inputs: `(B, h, w, C)` float, sides even. Returns: `(B, h / 2, w / 2, hidden_dim)`.
    Source: Liu et al. 2021 (arXiv 2103.14030), section 3.1; microsoft/Swin-Transformer
        `PatchMerging`: the cells in the order (row, column) (0, 0), (1, 0), (0, 1), (1, 1).
    """

    def __init__(self, hidden_dim, norm_first=False, epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.norm_first = norm_first
        self.epsilon = epsilon
        self.norm = keras.layers.LayerNormalization(
            epsilon=epsilon, dtype=self.dtype_policy, name="norm"
        )
        self.reduction = dense(hidden_dim, self.dtype_policy, "reduction", use_bias=False)

    def build(self, input_shape):
        four = (*input_shape[:-1], 4 * input_shape[-1])
        self.reduction.build(four)
        self.norm.build(four if self.norm_first else (*input_shape[:-1], self.hidden_dim))

    def call(self, x):
        _, height, width, channels = ops.shape(x)
        x = ops.reshape(x, (-1, height // 2, 2, width // 2, 2, channels))
        x = ops.transpose(x, (0, 1, 3, 4, 2, 5))
        x = ops.reshape(x, (-1, height // 2, width // 2, 4 * channels))
        if self.norm_first:
            return self.reduction(self.norm(x))
        return self.norm(self.reduction(x))

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        return (batch, height // 2, width // 2, self.hidden_dim)

    def get_config(self):
        return super().get_config() | {
            "hidden_dim": self.hidden_dim,
            "norm_first": self.norm_first,
            "epsilon": self.epsilon,
        }
