"""The blocks of EfficientNet-Lite: inverted residuals of 1x1, depthwise and 1x1 convolutions."""

import keras

from keras_dpt.layers.folding import convolve_and_normalize
from keras_dpt.layers.initializers import HostVarianceScaling
from keras_dpt.layers.linear import Conv2D, DepthwiseConv2D
from keras_dpt.ops import in_place


@keras.saving.register_keras_serializable(package="keras_dpt")
class ConvNorm(keras.layers.Layer):
    """Convolution without bias, batch normalisation and an optional ReLU6.

    Args:
        filters: width of the output; `None` for a depthwise convolution, which keeps the width.
        kernel_size, strides, dilation_rate: as in `keras.layers.Conv2D`; padding is "same".
        activate: whether ReLU6 follows.

    Inputs: `(B, h, w, C)` float. Returns: `(B, ceil(h / strides), ceil(w / strides), filters)`.
    Source: Tan & Le 2019 (arXiv 1905.11946); "Lite" replaces Swish with ReLU6.
    """

    def __init__(self, filters, kernel_size=1, strides=1, dilation_rate=1, activate=True, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.dilation_rate = dilation_rate
        self.activate = activate
        geometry = {
            "strides": strides,
            "dilation_rate": dilation_rate,
            "padding": "same",
            "use_bias": False,
            "dtype": self.dtype_policy,
            "name": "conv",
        }
        if filters is None:
            start = HostVarianceScaling(2.0, "fan_in")
            self.conv = DepthwiseConv2D(kernel_size, depthwise_initializer=start, **geometry)
        else:
            start = HostVarianceScaling(2.0, "fan_out")
            self.conv = Conv2D(filters, kernel_size, kernel_initializer=start, **geometry)
        self.norm = keras.layers.BatchNormalization(
            momentum=0.99, epsilon=1e-3, dtype=self.dtype_policy, name="norm"
        )

    def build(self, input_shape):
        self.conv.build(input_shape)
        self.norm.build(self.conv.compute_output_shape(input_shape))

    def call(self, x, training=None):
        x = convolve_and_normalize(self.conv, self.norm, x, training)
        return in_place.relu6(x, of=self.norm) if self.activate else x

    def convolutions(self):
        """A list of this layer alone, as in `InvertedResidual`."""
        return [self]

    def compute_output_shape(self, input_shape):
        return self.conv.compute_output_shape(input_shape)

    def get_config(self):
        return super().get_config() | {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "dilation_rate": self.dilation_rate,
            "activate": self.activate,
        }


@keras.saving.register_keras_serializable(package="keras_dpt")
class InvertedResidual(keras.layers.Layer):
    """Expand, convolve depthwise, project; with a shortcut if the shapes match.

    Args:
        in_channels: width of the input.
        channels: width of the output.
        kernel_size, strides, dilation_rate: of the depthwise convolution.
        expansion: width inside the block / width of its input; 1 omits the first convolution.

    Inputs: `(B, h, w, C)` float. Returns: `(B, ceil(h / strides), ceil(w / strides), channels)`.
    Source: Sandler et al. 2018 (arXiv 1801.04381), Figure 3d; Tan & Le 2019 (arXiv 1905.11946).
    """

    def __init__(
        self,
        in_channels,
        channels,
        kernel_size=3,
        strides=1,
        dilation_rate=1,
        expansion=6,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.in_channels = in_channels
        self.channels = channels
        self.kernel_size = kernel_size
        self.strides = strides
        self.dilation_rate = dilation_rate
        self.expansion = expansion
        self.has_shortcut = strides == 1 and in_channels == channels
        dtype = self.dtype_policy
        if expansion > 1:
            self.expand = ConvNorm(expansion * in_channels, dtype=dtype, name="expand")
        self.depthwise = ConvNorm(
            None, kernel_size, strides, dilation_rate, dtype=dtype, name="depthwise"
        )
        self.project = ConvNorm(channels, activate=False, dtype=dtype, name="project")

    def build(self, input_shape):
        shape = input_shape
        for layer in self.convolutions():
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, x, training=None):
        y = x
        for layer in self.convolutions():
            y = layer(y, training=training)
        return in_place.add(y, x, of=layer) if self.has_shortcut else y

    def convolutions(self):
        """Its `ConvNorm`s, in the order in which they run."""
        widening = [self.expand] if self.expansion > 1 else []
        return [*widening, self.depthwise, self.project]

    def compute_output_shape(self, input_shape):
        sides = (side and -(-side // self.strides) for side in input_shape[1:3])
        return (input_shape[0], *sides, self.channels)

    def get_config(self):
        return super().get_config() | {
            "in_channels": self.in_channels,
            "channels": self.channels,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "dilation_rate": self.dilation_rate,
            "expansion": self.expansion,
        }


@keras.saving.register_keras_serializable(package="keras_dpt")
class EfficientNetStem(ConvNorm):
    """The first convolution, which halves the image and checks its sides.

    Args: channels: width of the output.
    Inputs: `(B, H, W, 3)` float, sides multiples of 16.
    """

    def __init__(self, channels, **kwargs):
        super().__init__(channels, 3, 2, **kwargs)

    def call(self, x, training=None):
        return super().call(x, training=training)

    def get_config(self):
        return keras.layers.Layer.get_config(self) | {"channels": self.filters}
