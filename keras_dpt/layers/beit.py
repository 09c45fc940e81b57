"""BEiT's layers: attention with learned biases for relative positions."""

# Shapes: B batch, h w token grid, T = 1 + h * w tokens, D width, N heads.

import keras
import numpy as np
from keras import ops

from keras_dpt.layers.initializers import HostTruncatedNormal
from keras_dpt.layers.query_value_bias import QueryValueBias
from keras_dpt.layers.relative_position import pair_rows
from keras_dpt.layers.transformer import Attention, LayerScale, TransformerBlock
from keras_dpt.ops import in_place
from keras_dpt.ops.attention import attend
from keras_dpt.ops.resize import resize_bilinear

# Rows of the table after those of the patches: class token to patch, patch to class token, class
# token to itself.
CLASS_ROWS = 3


@keras.saving.register_keras_serializable(package="keras_dpt")
class ClassToken(keras.layers.Layer):
    """Flatten a grid of patches into tokens and put a class token first; no positions.

    Inputs: `(B, h, w, D)` float. Returns: `(B, 1 + h * w, D)`; the grid is read row by row.
    """

    def build(self, input_shape):
        self.class_token = self.add_weight(
            shape=(1, 1, input_shape[-1]),
            initializer=HostTruncatedNormal(stddev=0.02),
            name="class_token",
        )

    def call(self, x):
        batch, height, width, dim = ops.shape(x)
        token = ops.broadcast_to(ops.cast(self.class_token, x.dtype), (batch, 1, dim))
        return ops.concatenate([token, ops.reshape(x, (batch, height * width, dim))], axis=1)

    def compute_output_shape(self, input_shape):
        batch, height, width, dim = input_shape
        known = height is not None and width is not None
        return (batch, 1 + height * width if known else None, dim)


@keras.saving.register_keras_serializable(package="keras_dpt")
class BEiTAttention(QueryValueBias, Attention):
    """Self-attention with a bias for each offset between two patches, and none for keys.

    The biases learned on one grid are resized bilinearly to whatever grid comes in.

    Args:
        hidden_dim, num_heads: see `Attention`.
        grid: `(height, width)` of the grid that the stored biases belong to.

    Inputs: tokens `(B, 1 + h * w, D)` float; `like`, any map `(B, h, w, _)` of that grid.
    Returns: the tokens' shape and dtype.
    Source: Bao et al. 2021 (arXiv 2106.08254); isl-org/MiDaS `midas/backbones/beit.py`,
        `_get_rel_pos_bias`: half-pixel centres, no antialiasing.
    """

    def __init__(self, hidden_dim, num_heads, grid, **kwargs):
        kwargs.pop("qkv_bias", None)
        super().__init__(hidden_dim, num_heads, qkv_bias=False, **kwargs)
        self.grid = tuple(grid)

    def build(self, x_shape, like_shape=None):
        super().build(x_shape)
        self.build_query_value_bias()
        height, width = self.grid
        self.bias_table = self.add_weight(
            shape=((2 * height - 1) * (2 * width - 1) + CLASS_ROWS, self.num_heads),
            initializer="zeros",
            name="bias_table",
            autocast=False,  # resized in float32
        )

    def call(self, x, like):
        return self.join(attend(self.project(x), self.biases(ops.shape(like)[1:3])))

    def biases(self, size):
        """The bias added to the score of each pair of tokens on a grid of this size.

        Returns: `(N, T, T)` float32, queries by keys.
        """
        height, width = (2 * side - 1 for side in self.grid)
        table = ops.convert_to_tensor(self.bias_table)
        patches = ops.reshape(table[:-CLASS_ROWS], (1, height, width, self.num_heads))
        new = tuple(2 * side - 1 for side in size)
        patches = resize_bilinear(patches, new, align_corners=False)
        patches = ops.reshape(patches, (-1, self.num_heads))
        table = ops.transpose(ops.concatenate([patches, table[-CLASS_ROWS:]], axis=0))
        length = 1 + size[0] * size[1]
        biases = ops.take(table, ops.reshape(token_pair_rows(size), (-1,)), axis=1)
        return ops.reshape(biases, (self.num_heads, length, length))

    def compute_output_shape(self, x_shape, like_shape=None):
        return x_shape

    def get_config(self):
        return super().get_config() | {"grid": self.grid}


def token_pair_rows(size):
    """Rows of the table for each pair of tokens, `(T, T)` int32, the class token first."""
    rows = pair_rows(size)
    xp = np if isinstance(rows, np.ndarray) else ops
    patches = (2 * size[0] - 1) * (2 * size[1] - 1)
    to_class = xp.full_like(rows[:, :1], patches + 1)
    from_class = xp.full_like(rows[:1], patches)
    corner = xp.full_like(rows[:1, :1], patches + 2)
    above = xp.concatenate([corner, from_class], axis=1)
    return xp.concatenate([above, xp.concatenate([to_class, rows], axis=1)], axis=0)


@keras.saving.register_keras_serializable(package="keras_dpt")
class BEiTBlock(TransformerBlock):
    """A transformer block with `BEiTAttention`, and a `LayerScale` on each branch.

    Args:
        hidden_dim, num_heads, mlp_dim, epsilon: see `TransformerBlock`.
        grid: see `BEiTAttention`.

    Inputs: tokens `(B, 1 + h * w, D)` float; `like`, any map `(B, h, w, _)` of that grid.
    Returns: the tokens' shape and dtype.
    Source: Bao et al. 2021 (arXiv 2106.08254); timm 0.6.12 `models/beit.py`, `Block`.
    """

    def __init__(self, hidden_dim, num_heads, mlp_dim, grid, epsilon=1e-6, **kwargs):
        # Before the layers: one of them depends on it, and Keras wants `super().__init__` first.
        self._grid = tuple(grid)
        super().__init__(hidden_dim, num_heads, mlp_dim, epsilon, **kwargs)
        self.scale1 = LayerScale(dtype=self.dtype_policy, name="scale1")
        self.scale2 = LayerScale(dtype=self.dtype_policy, name="scale2")

    def make_attention(self):
        return BEiTAttention(
            self.hidden_dim, self.num_heads, self._grid, dtype=self.dtype_policy, name="attention"
        )

    def build(self, x_shape, like_shape=None):
        super().build(x_shape)
        self.scale1.build(x_shape)
        self.scale2.build(x_shape)

    def call(self, x, like):
        x = in_place.add(self.scale1(self.attention(self.norm1(x), like)), x, of=self.scale1)
        return in_place.add(self.scale2(self.mlp(self.norm2(x))), x, of=self.scale2)

    def attention_bias(self, queries, size):
        bias = ops.convert_to_numpy(self.attention.biases(size))
        return bias[:, queries].swapaxes(0, 1)

    def compute_output_shape(self, x_shape, like_shape=None):
        return x_shape

    def get_config(self):
        return super().get_config() | {"grid": self._grid}
