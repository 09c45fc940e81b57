"""Read: what becomes of the class token when tokens turn into a map (paper, section 3.1)."""

import keras

from keras_dpt.layers.initializers import default_initializer
from keras_dpt.layers.linear import Dense
from keras_dpt.ops.gelu import gelu


@keras.saving.register_keras_serializable(package="keras_dpt")
class ReadIgnore(keras.layers.Layer):
    """Drop the class token.

    Inputs: map `(B, h, w, D)`; prefix tokens `(B, P, D)`. Returns: the map.
    Source: Ranftl et al. 2021 (arXiv 2103.13413), `Read_ignore`.
    """

    def call(self, x, prefix):
        return x

    def compute_output_shape(self, x_shape, prefix_shape):
        return x_shape


@keras.saving.register_keras_serializable(package="keras_dpt")
class ReadAdd(keras.layers.Layer):
    """Add the class token to every position.

    Inputs: map `(B, h, w, D)`; prefix tokens `(B, P, D)`, the first of which is the class token.
    Returns: `(B, h, w, D)`.
    Source: Ranftl et al. 2021 (arXiv 2103.13413), `Read_add`.
    """

    def call(self, x, prefix):
        return x + prefix[:, :1, None]

    def compute_output_shape(self, x_shape, prefix_shape):
        return x_shape


@keras.saving.register_keras_serializable(package="keras_dpt")
class ReadProject(keras.layers.Layer):
    """Concatenate the class token to every position and project both to one token's width.

    The paper multiplies the concatenation by one matrix. Here that matrix is stored as two halves,
    so that the class token's part is computed once per image instead of once per position.

    Args:
        hidden_dim: D, width of a token.

    Inputs: map `(B, h, w, D)`; prefix tokens `(B, P, D)`, the first of which is the class token.
    Returns: `(B, h, w, D)`.
    Source: Ranftl et al. 2021 (arXiv 2103.13413), `Read_proj`.
    """

    def __init__(self, hidden_dim, **kwargs):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        dtype = self.dtype_policy
        self.token = Dense(
            hidden_dim,
            use_bias=False,
            kernel_initializer=default_initializer(),
            dtype=dtype,
            name="token",
        )
        self.readout = Dense(
            hidden_dim, kernel_initializer=default_initializer(), dtype=dtype, name="readout"
        )

    def build(self, x_shape, prefix_shape):
        self.token.build(x_shape)
        self.readout.build(prefix_shape)

    def call(self, x, prefix):
        return gelu(self.token(x) + self.readout(prefix[:, :1])[:, :, None])

    def compute_output_shape(self, x_shape, prefix_shape):
        return x_shape

    def get_config(self):
        return super().get_config() | {"hidden_dim": self.hidden_dim}


READOUTS = ("project", "add", "ignore")


def make_readout(mode, hidden_dim, **kwargs):
    """The layer for `mode`: "project", "add" or "ignore". Raises ValueError for anything else."""
    if mode == "project":
        return ReadProject(hidden_dim, **kwargs)
    if mode == "add":
        return ReadAdd(**kwargs)
    if mode == "ignore":
        return ReadIgnore(**kwargs)
    raise ValueError(f"`readout` must be one of {READOUTS}. Received: {mode!r}.")
