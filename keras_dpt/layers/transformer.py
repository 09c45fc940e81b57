"""Vision Transformer: from an image to tokens, blocks, and back to maps."""

# Shapes: B batch, H W image, h w token grid, P prefix tokens, T = P + h * w tokens, D width,
# N heads.

import keras
import numpy as np
from keras import ops

from keras_dpt.layers.initializers import HostTruncatedNormal, default_initializer
from keras_dpt.layers.linear import Conv2D, Dense
from keras_dpt.ops import in_place
from keras_dpt.ops.attention import attend
from keras_dpt.ops.gelu import gelu
from keras_dpt.ops.resize import resize_bilinear
from keras_dpt.ops.sides import check_sides


@keras.saving.register_keras_serializable(package="keras_dpt")
class PatchEmbedding(keras.layers.Layer):
    """Cut a map into patches and project each one: `(B, H, W, C) -> (B, h, w, D)`.

    Args:
        hidden_dim: D, width of a token.
        patch_size: side of a patch in pixels; 1 makes it a projection of an existing grid.

    Inputs: `(B, H, W, C)` float, both sides multiples of `patch_size`.
    Returns: `(B, H / patch_size, W / patch_size, hidden_dim)` float.
    Raises: ValueError: the sides are not multiples of `patch_size`.
    Source: Dosovitskiy et al. 2021 (arXiv 2010.11929), section 3.1.
    """

    def __init__(self, hidden_dim, patch_size=16, **kwargs):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.patch_size = patch_size
        self.projection = Conv2D(
            hidden_dim,
            patch_size,
            strides=patch_size,
            kernel_initializer=default_initializer(),
            dtype=self.dtype_policy,
            name="projection",
        )

    def build(self, input_shape):
        self.projection.build(input_shape)

    def call(self, x):
        check_sides(ops.shape(x), self.patch_size)
        return self.projection(x)

    def compute_output_shape(self, input_shape):
        return self.projection.compute_output_shape(input_shape)

    def get_config(self):
        return super().get_config() | {
            "hidden_dim": self.hidden_dim,
            "patch_size": self.patch_size,
        }


@keras.saving.register_keras_serializable(package="keras_dpt")
class PositionEmbedding(keras.layers.Layer):
    """Flatten a grid of patches into tokens, put a class token first, add positions.

    The positions learned on one grid are resized bilinearly to the grid of the input.

    Args:
        grid: `(height, width)` of the grid that the stored positions belong to.
        distilled: whether a distillation token follows the class token, as in DeiT (Touvron et
            al. 2020, arXiv 2012.12877).

    Inputs: `(B, h, w, D)` float.
    Returns: `(B, P + h * w, D)` float, P being 1, or 2 if `distilled`; the grid is read row by row.
    Source: isl-org/DPT `dpt/vit.py`, `_resize_pos_embed`: half-pixel centres, no antialiasing.
    """

    def __init__(self, grid, distilled=False, **kwargs):
        super().__init__(**kwargs)
        self.grid = tuple(grid)
        self.distilled = distilled
        self.num_prefix = 2 if distilled else 1

    def build(self, input_shape):
        dim = input_shape[-1]
        normal = HostTruncatedNormal(stddev=0.02)
        self.class_token = self.add_weight(
            shape=(1, 1, dim), initializer=normal, name="class_token"
        )
        if self.distilled:
            self.distillation_token = self.add_weight(
                shape=(1, 1, dim), initializer=normal, name="distillation_token"
            )
        self.position_embedding = self.add_weight(
            shape=(1, self.num_prefix + self.grid[0] * self.grid[1], dim),
            initializer=normal,
            name="position_embedding",
            # Resized in float32: half precision would move whole rows of positions.
            autocast=False,
        )

    def call(self, x):
        batch, height, width, dim = ops.shape(x)
        positions = ops.convert_to_tensor(self.position_embedding)
        prefix, grid = positions[:, : self.num_prefix], positions[:, self.num_prefix :]
        grid = self.resized(ops.reshape(grid, (1, *self.grid, dim)), (height, width))
        positions = ops.concatenate([prefix, ops.reshape(grid, (1, -1, dim))], axis=1)
        first = (
            [self.class_token, self.distillation_token] if self.distilled else [self.class_token]
        )
        tokens = [ops.broadcast_to(ops.cast(token, x.dtype), (batch, 1, dim)) for token in first]
        tokens = ops.concatenate([*tokens, ops.reshape(x, (batch, height * width, dim))], axis=1)
        return tokens + ops.cast(positions, x.dtype)

    def resized(self, grid, size):
        """The stored positions `(1, h, w, D)` on a grid of another `size`."""
        return resize_bilinear(grid, size, align_corners=False)

    def compute_output_shape(self, input_shape):
        batch, height, width, dim = input_shape
        known = height is not None and width is not None
        return (batch, self.num_prefix + height * width if known else None, dim)

    def get_config(self):
        return super().get_config() | {"grid": self.grid, "distilled": self.distilled}


@keras.saving.register_keras_serializable(package="keras_dpt")
class TokensToMap(keras.layers.Layer):
    """Fold tokens back into a map and return the prefix tokens separately.

    Args:
        num_prefix_tokens: P, number of tokens before those of the grid.

    Inputs: tokens `(B, P + h * w, D)`; `like`, any map `(B, h, w, _)` of that grid.
    Returns: map `(B, h, w, D)` and prefix tokens `(B, P, D)`.
    """

    def __init__(self, num_prefix_tokens=1, **kwargs):
        super().__init__(**kwargs)
        self.num_prefix_tokens = num_prefix_tokens

    def call(self, tokens, like):
        batch, height, width, _ = ops.shape(like)
        prefix = tokens[:, : self.num_prefix_tokens]
        grid = tokens[:, self.num_prefix_tokens :]
        return ops.reshape(grid, (batch, height, width, tokens.shape[-1])), prefix

    def compute_output_shape(self, tokens_shape, like_shape):
        batch, _, dim = tokens_shape
        return (*like_shape[:3], dim), (batch, self.num_prefix_tokens, dim)

    def get_config(self):
        return super().get_config() | {"num_prefix_tokens": self.num_prefix_tokens}


@keras.saving.register_keras_serializable(package="keras_dpt")
class Attention(keras.layers.Layer):
    """Multi-head self-attention with one fused projection for queries, keys and values.

    Args:
        hidden_dim: D, width of a token.
        num_heads: N; each head has `hidden_dim / num_heads` channels.
        qkv_bias: whether the fused projection has a bias.

    Inputs: `(B, T, D)` float. Returns: the same shape and dtype.
    Raises: ValueError: `hidden_dim` is not a multiple of `num_heads`.
    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.
    """

    def __init__(self, hidden_dim, num_heads, qkv_bias=True, **kwargs):
        super().__init__(**kwargs)
        if hidden_dim % num_heads:
            raise ValueError(
                f"`hidden_dim` must be a multiple of `num_heads`. Received: {hidden_dim} and "
                f"{num_heads}."
            )
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.qkv_bias = qkv_bias
        self.qkv = dense(3 * hidden_dim, self.dtype_policy, "qkv", use_bias=qkv_bias)
        self.projection = dense(hidden_dim, self.dtype_policy, "projection")

    def build(self, input_shape):
        self.qkv.build(input_shape)
        self.projection.build(input_shape)

    def call(self, x):
        return self.join(attend(self.project(x)))

    def project(self, x):
        """Queries, keys and values of tokens `(B, T, D)`: `(B, T, 3, N, D / N)`."""
        batch, length, _ = ops.shape(x)
        head_dim = self.hidden_dim // self.num_heads
        return ops.reshape(self.qkv(x), (batch, length, 3, self.num_heads, head_dim))

    def join(self, x):
        """The heads `(B, T, N, D / N)` side by side, projected: `(B, T, D)`."""
        batch, length, _, _ = ops.shape(x)
        return self.projection(ops.reshape(x, (batch, length, self.hidden_dim)))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "qkv_bias": self.qkv_bias,
        }


@keras.saving.register_keras_serializable(package="keras_dpt")
class MLP(keras.layers.Layer):
    """Two dense layers around a GELU, applied to each token.

    Args: hidden_dim: D, width of a token. mlp_dim: width in between.
    Inputs: `(B, T, D)` float. Returns: the same shape and dtype.
    """

    def __init__(self, hidden_dim, mlp_dim, **kwargs):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.mlp_dim = mlp_dim
        self.dense1 = dense(mlp_dim, self.dtype_policy, "dense1", gelu)
        self.dense2 = dense(hidden_dim, self.dtype_policy, "dense2")

    def build(self, input_shape):
        self.dense1.build(input_shape)
        self.dense2.build((*input_shape[:-1], self.mlp_dim))

    def call(self, x):
        return self.dense2(self.dense1(x))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"hidden_dim": self.hidden_dim, "mlp_dim": self.mlp_dim}


@keras.saving.register_keras_serializable(package="keras_dpt")
class LayerScale(keras.layers.Layer):
    """Multiply each channel by a learned factor; factors start at 1.

    Inputs: `(..., D)` float. Returns: the same shape and dtype.
    Source: Touvron et al. 2021 (arXiv 2103.17239), section 2, "LayerScale".
    """

    def build(self, input_shape):
        self.gamma = self.add_weight(shape=input_shape[-1:], initializer="ones", name="gamma")

    def call(self, x):
        return x * ops.cast(self.gamma, x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="keras_dpt")
class TransformerBlock(keras.layers.Layer):
    """Attention and MLP, each after a LayerNorm and around a shortcut.

    Args:
        hidden_dim: D, width of a token.
        num_heads: heads of the attention.
        mlp_dim: width inside the MLP.
        epsilon: added to the variance in both norms; timm's ViTs use 1e-6.

    Inputs: `(B, T, D)` float. Returns: the same shape and dtype.
    Source: Dosovitskiy et al. 2021 (arXiv 2010.11929), equations 2 and 3.
    """

    def __init__(self, hidden_dim, num_heads, mlp_dim, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.epsilon = epsilon
        dtype = self.dtype_policy
        self.norm1 = keras.layers.LayerNormalization(epsilon=epsilon, dtype=dtype, name="norm1")
        self.attention = self.make_attention()
        self.norm2 = keras.layers.LayerNormalization(epsilon=epsilon, dtype=dtype, name="norm2")
        self.mlp = self.feed_forward()

    def make_attention(self):
        """The attention layer."""
        return Attention(self.hidden_dim, self.num_heads, dtype=self.dtype_policy, name="attention")

    def feed_forward(self):
        """The layer after the attention."""
        return MLP(self.hidden_dim, self.mlp_dim, dtype=self.dtype_policy, name="mlp")

    def build(self, input_shape):
        for layer in (self.norm1, self.attention, self.norm2, self.mlp):
            layer.build(input_shape)

    def call(self, x):
        x = in_place.add(self.attention(self.norm1(x)), x, of=self.attention)
        return in_place.add(self.mlp(self.norm2(x)), x, of=self.mlp)

    def attention_weights(self, x, queries, size=None):
        """Attention of some tokens to all tokens.

        Args:
            x: input of the block, `(1, T, D)`.
            queries: positions of Q tokens.
            size: `(height, width)` of the grid, for blocks that need it.

        Returns: NumPy `(Q, N, T)` float32; sums to 1 over T.
        """
        qkv = self.attention.project(self.norm1(ops.convert_to_tensor(x)))
        qkv = ops.convert_to_numpy(ops.cast(qkv, "float32"))[0]
        query, key = qkv[queries, 0], qkv[:, 1]
        scores = np.einsum("qnd,tnd->qnt", query, key) * query.shape[-1] ** -0.5
        scores = scores + self.attention_bias(queries, size)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return scores / scores.sum(axis=-1, keepdims=True)

    def attention_bias(self, queries, size):
        """The bias added to the scores of these tokens, NumPy `(Q, N, T)` or a number."""
        return 0.0

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "epsilon": self.epsilon,
        }


def dense(units, dtype, name, activation=None, use_bias=True):
    """A dense layer with Keras's default initializers."""
    return Dense(
        units,
        activation,
        use_bias=use_bias,
        kernel_initializer=default_initializer(),
        dtype=dtype,
        name=name,
    )
