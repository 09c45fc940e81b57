"""Heads: from the finest fused map, at half resolution, to one prediction per pixel."""

import keras
from keras import ops

from keras_dpt.layers.feature_fusion import doubled
from keras_dpt.layers.folding import convolve_and_normalize
from keras_dpt.layers.initializers import (
    HostTruncatedNormal,
    decoder_initializer,
    default_initializer,
)
from keras_dpt.layers.linear import Conv2D
from keras_dpt.ops import in_place
from keras_dpt.ops.resize import resize_bilinear

_STRIP = 32  # rows


@keras.saving.register_keras_serializable(package="keras_dpt")
class DepthHead(keras.layers.Layer):
    """Three convolutions and one enlargement to a non-negative number per pixel.

    Args:
        channels: widths after the first and the second convolution.

    Inputs: `(B, h, w, C)` float.
    Returns: `(B, 2 h, 2 w, 1)` float32 >= 0, whatever the dtype policy: inverse depths reach
        thousands, where half precision has steps of 2 and more.
    Source: Ranftl et al. 2021 (arXiv 2103.13413), supplement, "monocular depth estimation head".
    """

    def __init__(self, channels=(128, 32), **kwargs):
        super().__init__(**kwargs)
        self.channels = tuple(channels)
        dtype = self.dtype_policy
        self.conv1 = Conv2D(
            channels[0],
            3,
            padding="same",
            kernel_initializer=decoder_initializer(),
            dtype=dtype,
            name="conv1",
        )
        self.conv2 = Conv2D(
            channels[1],
            3,
            padding="same",
            activation="relu",
            kernel_initializer=decoder_initializer(),
            dtype=dtype,
            name="conv2",
        )
        self.conv3 = Conv2D(
            1,
            1,
            activation="relu",
            # A fresh head starts near 1 everywhere: where this ReLU is silent, nothing learns.
            kernel_initializer=HostTruncatedNormal(stddev=0.02),
            bias_initializer="ones",
            dtype="float32",
            name="conv3",
        )

    def build(self, input_shape):
        self.conv1.build(input_shape)
        self.conv2.build((*input_shape[:-1], self.channels[0]))
        self.conv3.build((*input_shape[:-1], self.channels[1]))

    def call(self, x):
        x = self.conv1(x)
        if in_place.keeps_nothing():
            return self._in_strips(x)
        _, height, width, _ = ops.shape(x)
        x = resize_bilinear(x, (2 * height, 2 * width), align_corners=True)
        return self.conv3(self.conv2(x))

    def _in_strips(self, x):
        """The same without the widest map of the whole network ever being there as a whole."""
        height, width = 2 * x.shape[1], 2 * x.shape[2]
        return ops.concatenate(
            [
                ops.concatenate(
                    [self._strip(image, (height, width), top) for top in range(0, height, _STRIP)],
                    axis=1,
                )
                for image in ops.split(x, x.shape[0])
            ]
        )

    def _strip(self, x, size, top):
        bottom = min(top + _STRIP, size[0])
        # One more row on each side, for the 3x3 convolution.
        rows = max(top - 1, 0), min(bottom + 1, size[0])
        x = self.conv2(resize_bilinear(x, size, align_corners=True, rows=rows))
        return self.conv3(x[:, top - rows[0] : bottom - rows[0]])

    def compute_output_spec(self, x):
        shape = (x.shape[0], *doubled(x.shape[1:3]), 1)
        return keras.KerasTensor(shape, dtype="float32")

    def get_config(self):
        return super().get_config() | {"channels": self.channels}


@keras.saving.register_keras_serializable(package="keras_dpt")
class InverseToDepth(keras.layers.Layer):
    """Turn a head's output into metres: `depth = 1 / max(scale * x + shift, 1e-8)`.

    Args:
        scale: inverse metres per unit of the input.
        shift: inverse metres at zero.

    Inputs: any shape, float. Returns: the same shape, float32 metres.
    Source: isl-org/DPT `dpt/models.py`, `DPTDepthModel(invert=True)`.
    """

    def __init__(self, scale, shift, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale
        self.shift = shift

    def call(self, x):
        x = ops.cast(x, "float32")
        return 1.0 / ops.maximum(self.scale * x + self.shift, 1e-8)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, dtype="float32")

    def get_config(self):
        return super().get_config() | {"scale": self.scale, "shift": self.shift}


@keras.saving.register_keras_serializable(package="keras_dpt")
class SegmentationHead(keras.layers.Layer):
    """Two convolutions to one number per class and pixel, then an enlargement.

    Args:
        num_classes: classes to tell apart.
        channels: width of the input and between the convolutions.
        dropout: share of values dropped before the last convolution, in training only.
        factor: output / input size: 2, or 1 for the auxiliary head.

    Inputs: `(B, h, w, channels)` float.
    Returns: logits `(B, factor * h, factor * w, num_classes)` float32, whatever the dtype policy.
    Source: Ranftl et al. 2021 (arXiv 2103.13413), supplement, "semantic segmentation head";
        isl-org/DPT `DPTSegmentationModel`.
    """

    def __init__(self, num_classes, channels=256, dropout=0.1, factor=2, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.channels = channels
        self.dropout = dropout
        self.factor = factor
        dtype = self.dtype_policy
        self.conv1 = Conv2D(
            channels,
            3,
            padding="same",
            use_bias=False,
            kernel_initializer=decoder_initializer(),
            dtype=dtype,
            name="conv1",
        )
        self.norm = keras.layers.BatchNormalization(
            momentum=0.9, epsilon=1e-5, dtype=dtype, name="norm"
        )
        self.drop = keras.layers.Dropout(dropout, dtype=dtype, name="drop")
        self.conv2 = Conv2D(
            num_classes,
            1,
            kernel_initializer=default_initializer(),
            dtype="float32",
            name="conv2",
        )

    def build(self, input_shape):
        for layer in (self.conv1, self.norm, self.drop, self.conv2):
            layer.build(input_shape)

    def call(self, x, training=None):
        x = in_place.relu(convolve_and_normalize(self.conv1, self.norm, x, training))
        x = self.conv2(self.drop(x, training=training))
        if self.factor == 1:
            return x
        _, height, width, _ = ops.shape(x)
        return resize_bilinear(x, (self.factor * height, self.factor * width), align_corners=True)

    def compute_output_spec(self, x, training=None):
        size = (None if side is None else self.factor * side for side in x.shape[1:3])
        return keras.KerasTensor((x.shape[0], *size, self.num_classes), dtype="float32")

    def get_config(self):
        return super().get_config() | {
            "num_classes": self.num_classes,
            "channels": self.channels,
            "dropout": self.dropout,
            "factor": self.factor,
        }
