"""DINOv2's layers: SwiGLU, blocks with LayerScale, position embeddings."""

# Shapes: B batch, h w token grid, P prefix tokens, T = P + h * w tokens, D width.

import keras
from keras import ops

from keras_dpt.layers.initializers import HostTruncatedNormal
from keras_dpt.layers.transformer import LayerScale, PositionEmbedding, TransformerBlock, dense
from keras_dpt.ops import in_place
from keras_dpt.ops.bicubic import resize_bicubic


@keras.saving.register_keras_serializable(package="keras_dpt")
class SwiGLU(keras.layers.Layer):
    """A gated feed-forward layer, applied to each token: `dense2(silu(gate) * value)`.

    Args: hidden_dim: D, width of a token. mlp_dim: width of gate and of value, the first and
        the second half of one dense layer's outputs.
    Inputs: `(B, T, D)` float. Returns: the same shape and dtype.
    Source: Shazeer 2020 (arXiv 2002.05202); facebookresearch/dinov2 `layers/swiglu_ffn.py`.
    """

    def __init__(self, hidden_dim, mlp_dim, **kwargs):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.mlp_dim = mlp_dim
        self.dense1 = dense(2 * mlp_dim, self.dtype_policy, "dense1")
        self.dense2 = dense(hidden_dim, self.dtype_policy, "dense2")

    def build(self, input_shape):
        self.dense1.build(input_shape)
        self.dense2.build((*input_shape[:-1], self.mlp_dim))

    def call(self, x):
        x = self.dense1(x)
        gate, value = x[..., : self.mlp_dim], x[..., self.mlp_dim :]
        return self.dense2(ops.silu(gate) * value)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"hidden_dim": self.hidden_dim, "mlp_dim": self.mlp_dim}


@keras.saving.register_keras_serializable(package="keras_dpt")
class DINOv2Block(TransformerBlock):
    """A transformer block with a `LayerScale` on each branch, before the shortcut is added.

    Args:
        hidden_dim, num_heads, mlp_dim, epsilon: see `TransformerBlock`.
        swiglu: whether the feed-forward layer is a `SwiGLU`, as in DINOv2's giant.

    Inputs: `(B, T, D)` float. Returns: the same shape and dtype.
    Source: Oquab et al. 2023 (arXiv 2304.07193); facebookresearch/dinov2 `layers/block.py`.
    """

    def __init__(self, hidden_dim, num_heads, mlp_dim, epsilon=1e-6, swiglu=False, **kwargs):
        # Before the layers: one of them depends on it, and Keras wants `super().__init__` first.
        self._swiglu = swiglu
        super().__init__(hidden_dim, num_heads, mlp_dim, epsilon, **kwargs)
        self.scale1 = LayerScale(dtype=self.dtype_policy, name="scale1")
        self.scale2 = LayerScale(dtype=self.dtype_policy, name="scale2")

    def feed_forward(self):
        if not self._swiglu:
            return super().feed_forward()
        return SwiGLU(self.hidden_dim, self.mlp_dim, dtype=self.dtype_policy, name="mlp")

    def build(self, input_shape):
        super().build(input_shape)
        self.scale1.build(input_shape)
        self.scale2.build(input_shape)

    def call(self, x):
        x = in_place.add(self.scale1(self.attention(self.norm1(x))), x, of=self.scale1)
        return in_place.add(self.scale2(self.mlp(self.norm2(x))), x, of=self.scale2)

    def get_config(self):
        return super().get_config() | {"swiglu": self._swiglu}


@keras.saving.register_keras_serializable(package="keras_dpt")
class DINOv2PositionEmbedding(PositionEmbedding):
    """`PositionEmbedding` with bicubic resizing and optional register tokens.

    Args:
        grid: `(height, width)` of the grid that the stored positions belong to. An image of that
            grid uses them unchanged.
        offset: see `keras_dpt.ops.bicubic.resize_bicubic`: 0.1 in the authors' code, 0 in
            transformers and for backbones with registers.
        num_register_tokens: learned tokens after the class token, without positions.
        antialias: whether the resizing is antialiased, as in DINOv2's backbones with registers.

    Inputs: `(B, h, w, D)` float.
    Returns: `(B, 1 + num_register_tokens + h * w, D)` float; the grid is read row by row.
    Source: facebookresearch/dinov2 `vision_transformer.py`, `interpolate_pos_encoding`; Darcet et
        al. 2023 (arXiv 2309.16588) for registers.
    """

    def __init__(self, grid, offset=0.1, num_register_tokens=0, antialias=False, **kwargs):
        kwargs.pop("distilled", None)
        super().__init__(grid, **kwargs)
        self.offset = offset
        self.num_register_tokens = num_register_tokens
        self.antialias = antialias

    def build(self, input_shape):
        super().build(input_shape)
        if self.num_register_tokens:
            self.register_tokens = self.add_weight(
                shape=(1, self.num_register_tokens, input_shape[-1]),
                initializer=HostTruncatedNormal(stddev=0.02),
                name="register_tokens",
            )

    def resized(self, grid, size):
        return resize_bicubic(grid, size, self.offset, self.antialias)

    def call(self, x):
        tokens = super().call(x)
        if not self.num_register_tokens:
            return tokens
        registers = ops.cast(self.register_tokens, x.dtype)
        registers = ops.broadcast_to(registers, (ops.shape(x)[0], *registers.shape[1:]))
        return ops.concatenate([tokens[:, :1], registers, tokens[:, 1:]], axis=1)

    def compute_output_shape(self, input_shape):
        batch, length, dim = super().compute_output_shape(input_shape)
        return (batch, length and length + self.num_register_tokens, dim)

    def get_config(self):
        return super().get_config() | {
            "offset": self.offset,
            "num_register_tokens": self.num_register_tokens,
            "antialias": self.antialias,
        }
