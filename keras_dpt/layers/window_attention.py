"""Attention of Swin Transformer, versions 1 and 2: inside the windows of a map."""

# Shapes: B batch, s side of a window, M windows of a map, T = s * s cells of a window, C width,
# N heads.

import functools
import math

import keras
import numpy as np
from keras import ops

from keras_dpt.layers.initializers import HostTruncatedNormal
from keras_dpt.layers.query_value_bias import QueryValueBias
from keras_dpt.layers.relative_position import pair_rows
from keras_dpt.layers.transformer import Attention, dense
from keras_dpt.ops.attention import attend

LARGEST_SCALE = math.log(100)  # of cosines, before the exponential


@keras.saving.register_keras_serializable(package="keras_dpt")
class WindowAttention(Attention):
    """Self-attention of the cells of each window, with a learned bias for each offset.

    Args:
        hidden_dim, num_heads: see `Attention`.
        window: side of a window in cells.

    Inputs: `(B * M, T, C)` float; `mask`, `(M, T, T)` float or `None`, is added to the scores.
    Returns: the shape and dtype of the cells.
    Source: Liu et al. 2021 (arXiv 2103.14030), section 3.2, equation 4.
    """

    def __init__(self, hidden_dim, num_heads, window, qkv_bias=True, **kwargs):
        super().__init__(hidden_dim, num_heads, qkv_bias, **kwargs)
        self.window = window

    def build(self, x_shape, mask_shape=None):
        super().build(x_shape)
        self.build_biases()

    def build_biases(self):
        self.bias_table = self.add_weight(
            shape=((2 * self.window - 1) ** 2, self.num_heads),
            initializer=HostTruncatedNormal(stddev=0.02),
            name="bias_table",
            autocast=False,
        )

    def call(self, x, mask=None):
        bias = self.biases()
        if mask is not None:
            bias = bias[None] + ops.cast(mask, bias.dtype)[:, None]
        return self.join(self.attend(self.project(x), bias))

    def attend(self, qkv, bias):
        return attend(qkv, bias)

    def biases(self):
        """What is added to the scores of each pair of cells, `(N, T, T)` float32."""
        return self.of_pairs(ops.convert_to_tensor(self.bias_table))

    def of_pairs(self, table):
        """A table of offsets `((2 s - 1)^2, N)` for each pair of cells: `(N, T, T)`."""
        rows = pair_rows((self.window, self.window))
        biases = ops.take(ops.transpose(table), rows.reshape(-1), axis=1)
        return ops.reshape(biases, (self.num_heads, *rows.shape))

    def compute_output_shape(self, x_shape, mask_shape=None):
        return x_shape

    def get_config(self):
        return super().get_config() | {"window": self.window}


@keras.saving.register_keras_serializable(package="keras_dpt")
class CosineWindowAttention(QueryValueBias, WindowAttention):
    """As `WindowAttention`, by cosines, and with biases that a small network makes of offsets.

    Queries and values have a bias and keys have none. A head multiplies its cosines by a learned
    factor of at most 100.

    Args:
        hidden_dim, num_heads, window: see `WindowAttention`.
        pretrained_window: side of the windows that the biases' network was trained with, which
            offsets are measured by; by default `window`.

    Inputs and returns: see `WindowAttention`.
    Source: Liu et al. 2021 (arXiv 2111.09883), sections 3.2 and 3.3; timm 0.6.12
        `models/swin_transformer_v2.py`, `WindowAttention`.
    """

    def __init__(self, hidden_dim, num_heads, window, pretrained_window=None, **kwargs):
        kwargs.pop("qkv_bias", None)
        super().__init__(hidden_dim, num_heads, window, qkv_bias=False, **kwargs)
        self.pretrained_window = pretrained_window
        # In float32: the offsets' logarithms lose what tells far cells apart in half precision.
        self.offsets1 = dense(512, "float32", "offsets1", "relu")
        self.offsets2 = dense(num_heads, "float32", "offsets2", use_bias=False)

    def build_biases(self):
        self.build_query_value_bias()
        self.logit_scale = self.add_weight(
            shape=(self.num_heads,),
            initializer=keras.initializers.Constant(math.log(10)),
            name="logit_scale",
            autocast=False,
        )
        self.offsets1.build((None, 2))
        self.offsets2.build((None, 512))

    def attend(self, qkv, bias):
        scale = ops.exp(ops.minimum(ops.convert_to_tensor(self.logit_scale), LARGEST_SCALE))
        query = _unit(qkv[:, :, 0]) * ops.cast(scale, "float32")[:, None]
        query, key = (ops.cast(x, qkv.dtype) for x in (query, _unit(qkv[:, :, 1])))
        return attend(ops.stack([query, key, qkv[:, :, 2]], axis=2), bias, scale=1.0)

    def biases(self):
        offsets = _log_offsets(self.window, self.pretrained_window or self.window)
        table = self.offsets2(self.offsets1(ops.convert_to_tensor(offsets)))
        return self.of_pairs(16 * ops.sigmoid(table))

    def get_config(self):
        return super().get_config() | {"pretrained_window": self.pretrained_window}


def _unit(x):
    """Vectors `(..., D)` of length 1, float32."""
    x = ops.cast(x, "float32")
    length = ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True))
    return x / ops.maximum(length, 1e-12)


@functools.lru_cache(maxsize=32)
def _log_offsets(window, pretrained):
    """Logarithms of all offsets (rows, columns) in a window, `((2 s - 1)^2, 2)` float32."""
    steps = 8 * np.arange(1 - window, window, dtype="float64") / max(pretrained - 1, 1)
    steps = np.sign(steps) * np.log2(np.abs(steps) + 1) / math.log2(8)
    rows, columns = np.meshgrid(steps, steps, indexing="ij")
    return np.stack([rows, columns], axis=-1).reshape(-1, 2).astype("float32")
