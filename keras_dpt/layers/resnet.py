"""The blocks of ResNet and ResNeXt, with PyTorch's padding."""

import keras
from keras import ops

from keras_dpt.layers.folding import convolve_and_normalize
from keras_dpt.layers.initializers import HostVarianceScaling
from keras_dpt.layers.linear import Conv2D
from keras_dpt.ops import in_place
from keras_dpt.ops.attention import for_other_programs
from keras_dpt.ops.grouped import convolve_in_groups, learns_slowly_in_groups


class GroupedConv2D(Conv2D):
    """`Conv2D` in groups; in training as matrix products where gradients are slow.

    Files exported by TensorFlow use the products too, because its own form calls XLA, which other
    runtimes do not have.

    Args, inputs and returns: as in `keras.layers.Conv2D`, with `padding="valid"`.
    """

    def convolution_op(self, inputs, kernel, bias=None, training=None):
        in_products = (training or for_other_programs()) and learns_slowly_in_groups()
        if self.groups == 1 or not in_products:
            return super().convolution_op(inputs, kernel, bias, training)
        x = ops.convert_to_tensor(inputs)
        x = convolve_in_groups(x, ops.convert_to_tensor(kernel), self.groups, self.strides[0])
        return x if bias is None else x + bias


@keras.saving.register_keras_serializable(package="keras_dpt")
class SymmetricConvNorm(keras.layers.Layer):
    """Convolution with symmetric padding, batch normalisation and an optional ReLU.

    TensorFlow's "same" padding is asymmetric with a stride, which shifts the map.

    Args:
        filters: width of the output.
        kernel_size: odd.
        strides: of both sides.
        groups: as in `keras.layers.Conv2D`.
        activate: whether a ReLU follows.

    Inputs: `(B, h, w, C)` float. Returns: `(B, ceil(h / strides), ceil(w / strides), filters)`.
    Source: He et al. 2015 (arXiv 1512.03385); padding and epsilon of `torchvision.models.resnet`.
    """

    def __init__(self, filters, kernel_size=1, strides=1, groups=1, activate=True, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.groups = groups
        self.activate = activate
        self.conv = GroupedConv2D(
            filters,
            kernel_size,
            strides=strides,
            groups=groups,
            padding="valid",
            use_bias=False,
            kernel_initializer=HostVarianceScaling(2.0, "fan_out"),
            dtype=self.dtype_policy,
            name="conv",
        )
        self.norm = keras.layers.BatchNormalization(
            momentum=0.9, epsilon=1e-5, dtype=self.dtype_policy, name="norm"
        )

    def build(self, input_shape):
        self.conv.build(input_shape)
        self.norm.build((*input_shape[:-1], self.filters))

    def call(self, x, training=None):
        if margin := self.kernel_size // 2:
            x = ops.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
        x = convolve_and_normalize(self.conv, self.norm, x, training)
        return in_place.relu(x, of=self.norm) if self.activate else x

    def compute_output_shape(self, input_shape):
        sides = (side and -(-side // self.strides) for side in input_shape[1:3])
        return (input_shape[0], *sides, self.filters)

    def get_config(self):
        return super().get_config() | {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "groups": self.groups,
            "activate": self.activate,
        }


# Not by its own name: a class of `resnet_v2` has it.
@keras.saving.register_keras_serializable(package="keras_dpt", name="ResNetV1Stem")
class ResNetStem(SymmetricConvNorm):
    """A 7x7 convolution and 3x3 max-pooling, each halving the image.

    Args: channels: width of the output.
    Inputs: `(B, H, W, 3)` float, sides multiples of 4. Returns: `(B, H / 4, W / 4, channels)`.
    Source: see `SymmetricConvNorm`. After the ReLU nothing is below 0, so padding with zeros
        is equivalent to PyTorch's minus infinity.
    """

    def __init__(self, channels, **kwargs):
        super().__init__(channels, 7, 2, **kwargs)

    def call(self, x, training=None):
        x = super().call(x, training=training)
        x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return ops.max_pool(x, 3, 2, "valid", data_format="channels_last")

    def compute_output_shape(self, input_shape):
        sides = (side and -(-side // 4) for side in input_shape[1:3])
        return (input_shape[0], *sides, self.filters)

    def get_config(self):
        return keras.layers.Layer.get_config(self) | {"channels": self.filters}


@keras.saving.register_keras_serializable(package="keras_dpt", name="ResNetV1Bottleneck")
class Bottleneck(keras.layers.Layer):
    """Three convolutions, 1x1, 3x3 and 1x1, around a shortcut; the 3x3 one has the stride.

    Args:
        in_channels, channels: widths of input and output.
        bottleneck_channels: width in between.
        strides: of both sides.
        groups: of the 3x3 convolution; 1 in ResNet.

    Inputs: `(B, h, w, in_channels)` float.
    Returns: `(B, ceil(h / strides), ceil(w / strides), channels)`.
    Source: He et al. 2015 (arXiv 1512.03385), Figure 5; Xie et al. 2016 (arXiv 1611.05431),
        Figure 3c; the stride as in `torchvision.models.resnet`.
    """

    def __init__(self, in_channels, channels, bottleneck_channels, strides=1, groups=1, **kwargs):
        super().__init__(**kwargs)
        self.in_channels = in_channels
        self.channels = channels
        self.bottleneck_channels = bottleneck_channels
        self.strides = strides
        self.groups = groups
        dtype = self.dtype_policy
        self.conv1 = SymmetricConvNorm(bottleneck_channels, dtype=dtype, name="conv1")
        self.conv2 = SymmetricConvNorm(
            bottleneck_channels, 3, strides, groups, dtype=dtype, name="conv2"
        )
        self.conv3 = SymmetricConvNorm(channels, activate=False, dtype=dtype, name="conv3")
        self.has_projection = strides > 1 or in_channels != channels
        if self.has_projection:
            self.shortcut = SymmetricConvNorm(
                channels, 1, strides, activate=False, dtype=dtype, name="shortcut"
            )

    def build(self, input_shape):
        shape = input_shape
        for layer in (self.conv1, self.conv2, self.conv3):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        if self.has_projection:
            self.shortcut.build(input_shape)

    def call(self, x, training=None):
        y = x
        for layer in (self.conv1, self.conv2, self.conv3):
            y = layer(y, training=training)
        x = self.shortcut(x, training=training) if self.has_projection else x
        return in_place.relu(in_place.add(y, x, of=self.conv3), of=self.conv3)

    def convolutions(self):
        """Its `SymmetricConvNorm`s."""
        own = [self.conv1, self.conv2, self.conv3]
        return [*own, self.shortcut] if self.has_projection else own

    def compute_output_shape(self, input_shape):
        return (*self.conv2.compute_output_shape(input_shape)[:3], self.channels)

    def get_config(self):
        return super().get_config() | {
            "in_channels": self.in_channels,
            "channels": self.channels,
            "bottleneck_channels": self.bottleneck_channels,
            "strides": self.strides,
            "groups": self.groups,
        }
