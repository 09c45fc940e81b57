"""Fusion: RefineNet blocks that merge the pyramid from its deepest level upwards."""

import keras
from keras import ops

from keras_dpt.layers.folding import convolve_and_normalize
from keras_dpt.layers.initializers import decoder_initializer
from keras_dpt.layers.linear import Conv2D
from keras_dpt.ops import in_place
from keras_dpt.ops.resize import resize_bilinear


@keras.saving.register_keras_serializable(package="keras_dpt")
class ResidualConvUnit(keras.layers.Layer):
    """Two pre-activated 3x3 convolutions around a shortcut.

    Args:
        channels: width of input and output.
        use_batch_norm: normalise after each convolution, which then loses its bias; DPT does so
            for segmentation.
        use_bias: whether the convolutions have biases; `None`: unless they are normalised. DINOv2's
            depth heads have none (facebookresearch/dinov2, `dpt_head.py`).
        rectified_shortcut: add the rectified input instead of the input itself, as MiDaS 2.1 does,
            whose first ReLU works in place (isl-org/MiDaS `midas/blocks.py`, `ResidualConvUnit`).

    Inputs: `(B, h, w, channels)` float. Returns: the same shape and dtype.
    Source: Lin et al. 2016 (arXiv 1611.06612), Figure 3b; isl-org/DPT `ResidualConvUnit_custom`.
    """

    def __init__(
        self,
        channels,
        use_batch_norm=False,
        use_bias=None,
        rectified_shortcut=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.channels = channels
        self.use_batch_norm = use_batch_norm
        self.use_bias = not use_batch_norm if use_bias is None else use_bias
        self.rectified_shortcut = rectified_shortcut
        self.conv1, self.conv2 = (
            Conv2D(
                channels,
                3,
                padding="same",
                use_bias=self.use_bias,
                kernel_initializer=decoder_initializer(),
                dtype=self.dtype_policy,
                name=name,
            )
            for name in ("conv1", "conv2")
        )
        if use_batch_norm:
            self.norm1, self.norm2 = (
                keras.layers.BatchNormalization(
                    momentum=0.9, epsilon=1e-5, dtype=self.dtype_policy, name=name
                )
                for name in ("norm1", "norm2")
            )

    def build(self, input_shape):
        self.conv1.build(input_shape)
        self.conv2.build(input_shape)
        if self.use_batch_norm:
            self.norm1.build(input_shape)
            self.norm2.build(input_shape)

    def call(self, x, training=None):
        y = ops.relu(x)
        x = y if self.rectified_shortcut else x
        if self.use_batch_norm:
            y = convolve_and_normalize(self.conv1, self.norm1, y, training)
            y = in_place.relu(y, of=self.norm1)
            y = convolve_and_normalize(self.conv2, self.norm2, y, training)
        else:
            y = self.conv2(in_place.relu(self.conv1(y), of=self.conv1))
        return in_place.add(y, x, of=self.norm2 if self.use_batch_norm else self.conv2)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {
            "channels": self.channels,
            "use_batch_norm": self.use_batch_norm,
            "use_bias": self.use_bias,
            "rectified_shortcut": self.rectified_shortcut,
        }


@keras.saving.register_keras_serializable(package="keras_dpt")
class FeatureFusion(keras.layers.Layer):
    """Add a level's own map to the deeper result, refine, and enlarge to the next level's size.

    Args:
        channels: width of the maps that come in.
        has_skip: whether there is a map to add; the deepest level has none and owns no weights
            for it. (The original keeps them there, unused.)
        use_batch_norm, use_bias, rectified_shortcut: see `ResidualConvUnit`.
        out_channels: width of the result, `channels` by default; MiDaS 2.1 small halves it at
            each level (isl-org/MiDaS `midas/midas_net_custom.py`, `expand`).
        use_projection: whether there is a 1x1 convolution; MiDaS 2.1 has none. It runs before the
            upsampling, in the original after it: the results are the same.
        stretch_skip: bring a skip of another size to the running map's (bilinear, corners not
            aligned), as DINOv2's depth heads do, whose maps only ever double (facebookresearch/
            dinov2, `dpt_head.py`, `FeatureFusionBlock`).

    Inputs:
        x: result of the deeper level, `(B, h, w, channels)` float; at the deepest level its map.
        skip: this level's map, of the same shape unless `stretch_skip`; only with `has_skip`.
        size_like: any map of the size that the result should have; without it the size doubles.
    Returns: `(B, h', w', out_channels)`.
    Source: Ranftl et al. 2021 (arXiv 2103.13413), Figure 1 right; isl-org/DPT
        `FeatureFusionBlock_custom`.
    """

    def __init__(
        self,
        channels,
        has_skip=True,
        use_batch_norm=False,
        use_bias=None,
        rectified_shortcut=False,
        out_channels=None,
        use_projection=True,
        stretch_skip=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.channels = channels
        self.has_skip = has_skip
        self.use_batch_norm = use_batch_norm
        self.use_bias = use_bias
        self.rectified_shortcut = rectified_shortcut
        self.out_channels = channels if out_channels is None else out_channels
        self.use_projection = use_projection
        self.stretch_skip = stretch_skip
        if not use_projection and self.out_channels != channels:
            raise ValueError(
                "Only a projection can change the width. Received: use_projection=False, "
                f"channels={channels}, out_channels={out_channels}."
            )
        dtype = self.dtype_policy

        def unit(name):
            return ResidualConvUnit(
                channels, use_batch_norm, use_bias, rectified_shortcut, dtype=dtype, name=name
            )

        if has_skip:
            self.residual_unit1 = unit("residual_unit1")
        self.residual_unit2 = unit("residual_unit2")
        self.projection = None
        if use_projection:
            self.projection = Conv2D(
                self.out_channels,
                1,
                kernel_initializer=decoder_initializer(),
                dtype=dtype,
                name="projection",
            )

    def build(self, x_shape, skip_shape=None, size_like_shape=None):
        if self.has_skip:
            self.residual_unit1.build(x_shape)
        self.residual_unit2.build(x_shape)
        if self.use_projection:
            self.projection.build(x_shape)

    def call(self, x, skip=None, size_like=None, training=None):
        if self.has_skip != (skip is not None):
            raise ValueError(
                f"`FeatureFusion(has_skip={self.has_skip})` was called "
                f"{'without' if skip is None else 'with'} `skip`."
            )
        if self.has_skip:
            if self.stretch_skip:
                skip = resize_bilinear(skip, ops.shape(x)[1:3], align_corners=False)
            x = in_place.add(
                self.residual_unit1(skip, training=training), x, of=self.residual_unit1
            )
        x = self.residual_unit2(x, training=training)
        # The original enlarges first. A 1x1 convolution commutes with interpolation, whose
        # weights sum to one, and costs a quarter on the small map.
        x = self.projection(x) if self.use_projection else x
        _, height, width, _ = ops.shape(x)
        size = (2 * height, 2 * width) if size_like is None else ops.shape(size_like)[1:3]
        return resize_bilinear(x, size, align_corners=True)

    def compute_output_shape(self, x_shape, skip_shape=None, size_like_shape=None):
        if size_like_shape is not None:
            return (x_shape[0], *size_like_shape[1:3], self.out_channels)
        return (x_shape[0], *doubled(x_shape[1:3]), self.out_channels)

    def get_config(self):
        return super().get_config() | {
            "channels": self.channels,
            "has_skip": self.has_skip,
            "use_batch_norm": self.use_batch_norm,
            "use_bias": self.use_bias,
            "rectified_shortcut": self.rectified_shortcut,
            "out_channels": self.out_channels,
            "use_projection": self.use_projection,
            "stretch_skip": self.stretch_skip,
        }


def doubled(size):
    """Each side doubled; `None` where a side is unknown."""
    return tuple(None if side is None else 2 * side for side in size)
