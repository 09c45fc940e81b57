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
    """Three convolutions and one upsampling, to one number per pixel.

    Args:
        channels: widths after the first and the second convolution.
        activation: after the last convolution: "relu", or `None` where an output layer has its own,
            such as `ScaledSigmoid`.
        align_corners: of the upsampling; `False` in MiDaS 2.1 (isl-org/MiDaS `midas_net.py`).
        projection_channels: width of one more 3x3 convolution with ReLU before the others, `None`
            for none; DINOv2's heads have it (facebookresearch/dinov2, `dpt_head.py`, `project`).

    Inputs:
        x: `(B, h, w, C)` float.
        size_like: images or maps `(B, H, W, _)` of the size that the result should have; without
            them the size doubles.
    Returns: `(B, H, W, 1)` float32, >= 0 with "relu", whatever the dtype policy: inverse depths
        reach thousands, where half precision has steps of 2 and more.
    Source: Ranftl et al. 2021 (arXiv 2103.13413), supplement, "monocular depth estimation head";
        one enlargement to the input's size as in DepthAnything/Depth-Anything-V2 `dpt.py`.
    """

    def __init__(
        self,
        channels=(128, 32),
        activation="relu",
        align_corners=True,
        projection_channels=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if activation not in ("relu", None):
            raise ValueError(f'`activation` must be "relu" or None. Received: {activation!r}.')
        self.channels = tuple(channels)
        self.activation = activation
        self.align_corners = align_corners
        self.projection_channels = projection_channels
        self.projection = None
        if projection_channels is not None:
            self.projection = self._convolution(projection_channels, "projection", "relu")
        self.conv1 = self._convolution(channels[0], "conv1")
        self.conv2 = self._convolution(channels[1], "conv2", "relu")
        self.conv3 = Conv2D(
            1,
            1,
            activation=activation,
            # A fresh head starts near 1 everywhere: where this ReLU is 0, no gradient flows.
            kernel_initializer=HostTruncatedNormal(stddev=0.02),
            bias_initializer="ones" if activation == "relu" else "zeros",
            dtype="float32",
            name="conv3",
        )

    def _convolution(self, channels, name, activation=None):
        return Conv2D(
            channels,
            3,
            padding="same",
            activation=activation,
            kernel_initializer=decoder_initializer(),
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, x_shape, size_like_shape=None):
        if self.projection is not None:
            self.projection.build(x_shape)
            x_shape = (*x_shape[:-1], self.projection_channels)
        self.conv1.build(x_shape)
        self.conv2.build((*x_shape[:-1], self.channels[0]))
        self.conv3.build((*x_shape[:-1], self.channels[1]))

    def call(self, x, size_like=None):
        if self.projection is not None:
            x = self.projection(x)
        x = self.conv1(x)
        size = enlarged_size(x, size_like)
        if in_place.keeps_nothing() and not in_place.has_hooks(self.conv2, self.conv3):
            return self._in_strips(x, size)
        x = resize_bilinear(x, size, self.align_corners)
        return self.conv3(self.conv2(x))

    def _in_strips(self, x, size):
        """The same result, without ever holding the widest map of the network in memory."""
        return ops.concatenate(
            [
                ops.concatenate(
                    [self._strip(image, size, top) for top in range(0, size[0], _STRIP)], axis=1
                )
                for image in ops.split(x, x.shape[0])
            ]
        )

    def _strip(self, x, size, top):
        bottom = min(top + _STRIP, size[0])
        # One more row on each side, for the 3x3 convolution.
        rows = max(top - 1, 0), min(bottom + 1, size[0])
        x = self.conv2(resize_bilinear(x, size, self.align_corners, rows=rows))
        return self.conv3(x[:, top - rows[0] : bottom - rows[0]])

    def compute_output_spec(self, x, size_like=None):
        size = doubled(x.shape[1:3]) if size_like is None else size_like.shape[1:3]
        return keras.KerasTensor((x.shape[0], *size, 1), dtype="float32")

    def get_config(self):
        return super().get_config() | {
            "channels": self.channels,
            "activation": self.activation,
            "align_corners": self.align_corners,
            "projection_channels": self.projection_channels,
        }


@keras.saving.register_keras_serializable(package="keras_dpt")
class SegmentationHead(keras.layers.Layer):
    """Two convolutions to one number per class and pixel, then upsampling.

    Args:
        num_classes: number of classes.
        channels: width of the input and between the convolutions.
        dropout: share of values dropped before the last convolution, in training only.
        factor: output / input size: 2, or 1 for the auxiliary head.

    Inputs:
        x: `(B, h, w, channels)` float.
        size_like: images or maps `(B, H, W, _)` of the size that the result should have, in place
            of `factor`.
    Returns: logits `(B, H, W, num_classes)` float32, whatever the dtype policy.
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

    def build(self, x_shape, size_like_shape=None):
        for layer in (self.conv1, self.norm, self.drop, self.conv2):
            layer.build(x_shape)

    def call(self, x, size_like=None, training=None):
        x = convolve_and_normalize(self.conv1, self.norm, x, training)
        x = in_place.relu(x, of=self.norm)
        x = self.conv2(self.drop(x, training=training))
        if self.factor == 1 and size_like is None:
            return x
        size = enlarged_size(x, size_like, self.factor)
        return resize_bilinear(x, size, align_corners=True)

    def compute_output_spec(self, x, size_like=None, training=None):
        size = (None if side is None else self.factor * side for side in x.shape[1:3])
        size = size if size_like is None else size_like.shape[1:3]
        return keras.KerasTensor((x.shape[0], *size, self.num_classes), dtype="float32")

    def get_config(self):
        return super().get_config() | {
            "num_classes": self.num_classes,
            "channels": self.channels,
            "dropout": self.dropout,
            "factor": self.factor,
        }


def enlarged_size(x, size_like=None, factor=2):
    """`(height, width)` of `size_like`, or of maps `x` by `factor`."""
    if size_like is not None:
        return ops.shape(size_like)[1:3]
    _, height, width, _ = ops.shape(x)
    return factor * height, factor * width
