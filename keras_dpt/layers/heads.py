"""Heads: from the finest fused map, at half resolution, to one prediction per pixel."""

import keras
from keras import ops

from keras_dpt.layers.feature_fusion import doubled
from keras_dpt.ops.resize import resize_bilinear


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
        self.conv1 = keras.layers.Conv2D(
            channels[0], 3, padding="same", dtype=dtype, name="conv1"
        )
        self.conv2 = keras.layers.Conv2D(
            channels[1], 3, padding="same", activation="relu", dtype=dtype, name="conv2"
        )
        self.conv3 = keras.layers.Conv2D(
            1, 1, activation="relu", dtype="float32", name="conv3"
        )

    def build(self, input_shape):
        self.conv1.build(input_shape)
        self.conv2.build((*input_shape[:-1], self.channels[0]))
        self.conv3.build((*input_shape[:-1], self.channels[1]))

    def call(self, x):
        x = self.conv1(x)
        _, height, width, _ = ops.shape(x)
        x = resize_bilinear(x, (2 * height, 2 * width), align_corners=True)
        return self.conv3(self.conv2(x))

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
