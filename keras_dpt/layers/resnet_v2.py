"""Stem and bottlenecks of "ResNetV2", the ResNet before the hybrid's transformer.

Despite its name this network is *not* pre-activation: norm and ReLU follow each convolution. All
its convolutions are bias-free and weight-standardised, and pad as TensorFlow's SAME does.
"""

import keras
from keras import ops

from keras_dpt.layers.initializers import default_initializer
from keras_dpt.layers.linear import Conv2D
from keras_dpt.ops import in_place
from keras_dpt.ops.standardize import centred

STANDARDIZATIONS = ("std", "variance")


@keras.saving.register_keras_serializable(package="keras_dpt")
class WeightStandardizedConv2D(Conv2D):
    """Convolution with a kernel standardised to zero mean and unit variance per output channel.

    Args:
        filters, kernel_size, strides: as in `keras.layers.Conv2D`; padding is "same", no bias.
        standardization: `"std"` divides by `std + 1e-5`, as timm 0.4.5, which trained the official
            hybrids; `"variance"` divides by `sqrt(var + 1e-8)`, as transformers and timm since
            0.4.12. They differ by up to 3e-3 of the depth's spread.

    Source: Qiao et al. 2019 (arXiv 1903.10520), equation 6; timm `StdConv2dSame`.
    """

    def __init__(self, filters, kernel_size, strides=1, standardization="std", **kwargs):
        if standardization not in STANDARDIZATIONS:
            raise ValueError(
                f"`standardization` must be one of {STANDARDIZATIONS}. Received: "
                f"{standardization!r}."
            )
        defaults = {"padding": "same", "use_bias": False}
        kwargs = defaults | {"kernel_initializer": default_initializer()} | kwargs
        super().__init__(filters, kernel_size, strides=strides, **kwargs)
        self.standardization = standardization

    def convolution_op(self, inputs, kernel, bias=None, training=None):
        return super().convolution_op(inputs, self.standardize(kernel), bias, training)

    def standardize(self, kernel):
        """The standardised kernel `(kh, kw, in, out)`, by population statistics."""
        dtype = kernel.dtype
        kernel = ops.cast(kernel, "float32")
        kernel, variance = centred(kernel)
        if self.standardization == "std":
            kernel = kernel / (ops.sqrt(variance) + 1e-5)
        else:
            kernel = kernel / ops.sqrt(variance + 1e-8)
        return ops.cast(kernel, dtype)

    def get_config(self):
        return super().get_config() | {"standardization": self.standardization}


@keras.saving.register_keras_serializable(package="keras_dpt")
class GroupNorm(keras.layers.GroupNormalization):
    """Keras's group normalisation with means taken axis by axis and variances about them.

    The network normalises forty times in a row; means by one long sum, or variances as the
    difference of two squares, would change the fifth digit of the depth.

    Inputs: `(B, h, w, C)` float. Returns: the same shape and dtype; statistics are float32.
    Source: Wu & He 2018 (arXiv 1803.08494).
    """

    def call(self, inputs):
        x = ops.cast(inputs, "float32")
        gamma, beta = ops.cast(self.gamma, "float32"), ops.cast(self.beta, "float32")
        x = x - self._group_mean(x)
        factor = gamma / ops.sqrt(self._group_mean(x * x) + self.epsilon)
        one_pass = keras.config.backend() == "torch"
        x = beta.addcmul(x, factor) if one_pass else x * factor + beta
        return ops.cast(x, self.compute_dtype)

    def _group_mean(self, x):
        """Mean of each group, repeated for each of its channels: `(B, 1, 1, C)`."""
        channels = x.shape[-1]
        size = channels // self.groups
        if keras.config.backend() == "torch":
            mean = x.mean(2).mean(1)  # Keras's takes twice as long
        else:
            mean = ops.mean(ops.mean(x, axis=2), axis=1)
        mean = ops.mean(ops.reshape(mean, (-1, self.groups, size)), axis=2, keepdims=True)
        return ops.reshape(ops.repeat(mean, size, axis=2), (-1, 1, 1, channels))


@keras.saving.register_keras_serializable(package="keras_dpt")
class ResNetStem(keras.layers.Layer):
    """7x7 convolution and max-pooling: `(B, H, W, 3) -> (B, H / 4, W / 4, channels)`.

    Args:
        channels: width of the output.
        num_groups: groups of the normalisation.
        standardization: see `WeightStandardizedConv2D`.

    Source: timm `ResNetV2`, stem type "same".
    """

    def __init__(self, channels, num_groups=32, standardization="std", **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.num_groups = num_groups
        self.standardization = standardization
        dtype = self.dtype_policy
        self.conv = WeightStandardizedConv2D(
            channels, 7, strides=2, standardization=standardization, dtype=dtype, name="conv"
        )
        self.norm = GroupNorm(num_groups, epsilon=1e-5, dtype=dtype, name="norm")
        self.pool = keras.layers.MaxPooling2D(
            3, strides=2, padding="same", data_format="channels_last", dtype=dtype
        )

    def build(self, input_shape):
        self.conv.build(input_shape)
        self.norm.build(self.conv.compute_output_shape(input_shape))

    def call(self, x):
        return self.pool(in_place.relu(self.norm(self.conv(x)), of=self.norm))

    def compute_output_shape(self, input_shape):
        return self.pool.compute_output_shape(self.conv.compute_output_shape(input_shape))

    def get_config(self):
        return super().get_config() | {
            "channels": self.channels,
            "num_groups": self.num_groups,
            "standardization": self.standardization,
        }


@keras.saving.register_keras_serializable(package="keras_dpt")
class Bottleneck(keras.layers.Layer):
    """1x1, 3x3, 1x1 convolutions around a shortcut.

    Args:
        channels: width of the output; inside it is a quarter of that.
        strides: of the 3x3 convolution and the shortcut.
        project: whether the shortcut has its own convolution, as in the first block of a stage.
        num_groups: groups of the normalisations.
        standardization: see `WeightStandardizedConv2D`.

    Inputs: `(B, h, w, C)` float. Returns: `(B, ceil(h / strides), ceil(w / strides), channels)`.
    Source: He et al. 2015 (arXiv 1512.03385), Figure 5; timm `resnetv2.Bottleneck`.
    """

    def __init__(
        self, channels, strides=1, project=False, num_groups=32, standardization="std", **kwargs
    ):
        super().__init__(**kwargs)
        self.channels = channels
        self.strides = strides
        self.project = project
        self.num_groups = num_groups
        self.standardization = standardization

        def conv(filters, size, name, strides=1):
            return WeightStandardizedConv2D(
                filters,
                size,
                strides=strides,
                standardization=standardization,
                dtype=self.dtype_policy,
                name=name,
            )

        def norm(name):
            return GroupNorm(num_groups, epsilon=1e-5, dtype=self.dtype_policy, name=name)

        self.conv1, self.norm1 = conv(channels // 4, 1, "conv1"), norm("norm1")
        self.conv2, self.norm2 = conv(channels // 4, 3, "conv2", strides), norm("norm2")
        self.conv3, self.norm3 = conv(channels, 1, "conv3"), norm("norm3")
        if project:
            self.downsample_conv = conv(channels, 1, "downsample_conv", strides)
            self.downsample_norm = norm("downsample_norm")

    def build(self, input_shape):
        shape = input_shape
        for conv, norm in (
            (self.conv1, self.norm1),
            (self.conv2, self.norm2),
            (self.conv3, self.norm3),
        ):
            conv.build(shape)
            shape = conv.compute_output_shape(shape)
            norm.build(shape)
        if self.project:
            self.downsample_conv.build(input_shape)
            self.downsample_norm.build(shape)

    def call(self, x):
        shortcut = self.downsample_norm(self.downsample_conv(x)) if self.project else x
        x = in_place.relu(self.norm1(self.conv1(x)), of=self.norm1)
        x = in_place.relu(self.norm2(self.conv2(x)), of=self.norm2)
        return in_place.relu(in_place.add(self.norm3(self.conv3(x)), shortcut, of=self.norm3))

    def compute_output_shape(self, input_shape):
        return (*self.conv2.compute_output_shape(input_shape)[:-1], self.channels)

    def get_config(self):
        return super().get_config() | {
            "channels": self.channels,
            "strides": self.strides,
            "project": self.project,
            "num_groups": self.num_groups,
            "standardization": self.standardization,
        }
