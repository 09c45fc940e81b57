"""Reassemble: bring one map of tokens to the width and stride of its pyramid level."""

import keras

from keras_dpt.layers.initializers import default_initializer
from keras_dpt.layers.linear import Conv2D, Conv2DTranspose


@keras.saving.register_keras_serializable(package="keras_dpt")
class Reassemble(keras.layers.Layer):
    """Project a map and resize it by a learned factor.

    Args:
        channels: width of the output.
        factor: output / input size: 4 or 2 (transposed convolution), 1 (nothing), 0.5 (strided
            3x3 convolution).

    Inputs: `(B, h, w, D)` float.
    Returns: `(B, ceil(h * factor), ceil(w * factor), channels)`.
    Raises: ValueError: any other `factor`.
    Source: Ranftl et al. 2021 (arXiv 2103.13413), `Resample_s`; isl-org/DPT `dpt/vit.py`,
        `act_postprocess`.
    """

    def __init__(self, channels, factor, **kwargs):
        super().__init__(**kwargs)
        if factor not in (4, 2, 1, 0.5):
            raise ValueError(f"`factor` must be 4, 2, 1 or 0.5. Received: {factor!r}.")
        self.channels = channels
        self.factor = factor
        dtype = self.dtype_policy
        self.projection = Conv2D(
            channels, 1, kernel_initializer=default_initializer(), dtype=dtype, name="projection"
        )
        self.resize = None
        if factor > 1:
            self.resize = Conv2DTranspose(
                channels,
                factor,
                strides=factor,
                kernel_initializer=default_initializer(),
                dtype=dtype,
                name="resize",
            )
        elif factor < 1:
            # One pixel of zeros on each side; a strided "same" would pad on one side only and
            # move the map by half a pixel.
            self.pad = keras.layers.ZeroPadding2D(1, data_format="channels_last", dtype=dtype)
            self.resize = Conv2D(
                channels,
                3,
                strides=2,
                kernel_initializer=default_initializer(),
                dtype=dtype,
                name="resize",
            )

    def build(self, input_shape):
        self.projection.build(input_shape)
        shape = (*input_shape[:-1], self.channels)
        if self.factor < 1:
            self.pad.build(shape)
        if self.resize is not None:
            self.resize.build(shape)

    def call(self, x):
        x = self.projection(x)
        if self.factor < 1:
            x = self.pad(x)
        return x if self.resize is None else self.resize(x)

    def compute_output_shape(self, input_shape):
        shape = self.projection.compute_output_shape(input_shape)
        if self.factor < 1:
            shape = self.pad.compute_output_shape(shape)
        return shape if self.resize is None else self.resize.compute_output_shape(shape)

    def get_config(self):
        return super().get_config() | {"channels": self.channels, "factor": self.factor}
