"""ResNet and ResNeXt: the convolutional encoders of MiDaS 2.1."""

import keras

from keras_dpt.encoders.encoder import Encoder, Tap, freeze_layers_too, named_taps
from keras_dpt.encoders.shapes import number_of, vote
from keras_dpt.layers.resnet import Bottleneck, ResNetStem

STRIDES = (4, 8, 16, 32)


@keras.saving.register_keras_serializable(package="keras_dpt")
class ResNetEncoder(Encoder):
    """A ResNet or ResNeXt of bottlenecks with batch normalisation, tapped after its four stages.

    Args:
        stem_channels: width after the first convolution.
        stage_channels, bottleneck_channels, stage_depths: for each of the four stages, its width,
            the width inside its blocks, and their number. The defaults are ResNet-50's; ResNeXt101
            32x8d has `bottleneck_channels` equal to `stage_channels`, and depths (3, 4, 23, 3).
        groups: of the 3x3 convolutions: 1 in ResNet, 32 in ResNeXt.
        image_shape: `(height, width, 3)`; `None` for a variable side.
        dtype: dtype or dtype policy of all layers.

    Inputs: `(B, H, W, 3)` float, normalised by ImageNet's mean and standard deviation, sides
        multiples of 32.
    Returns: see `keras_dpt.encoders.encoder.Encoder`; maps are at strides 4, 8, 16 and 32.
    Source: He et al. 2015 (arXiv 1512.03385); Xie et al. 2016 (arXiv 1611.05431); isl-org/MiDaS
        `midas/blocks.py`, `_make_resnet_backbone`.

    Example:

    ```python
    import numpy as np

    import keras_dpt

    encoder = keras_dpt.ResNetEncoder(stage_depths=(1, 1, 1, 1))
    encoder(np.zeros((1, 64, 96, 3), "float32"))["stage4"].shape  # (1, 2, 3, 2048)
    ```
    """

    has_stages_only = True

    def __init__(
        self,
        stem_channels=64,
        stage_channels=(256, 512, 1024, 2048),
        bottleneck_channels=(64, 128, 256, 512),
        stage_depths=(3, 4, 6, 3),
        groups=1,
        image_shape=(None, None, 3),
        dtype=None,
        **kwargs,
    ):
        # === Layers and functional model ===
        image = keras.Input(image_shape, name="images")
        x = ResNetStem(stem_channels, dtype=dtype, name="stem")(image)
        maps = []
        for s, depth in enumerate(stage_depths):
            for j in range(depth):
                x = Bottleneck(
                    x.shape[-1],
                    stage_channels[s],
                    bottleneck_channels[s],
                    strides=2 if s and not j else 1,
                    groups=groups,
                    dtype=dtype,
                    name=f"stage_{s}_block_{j}",
                )(x)
            maps.append(x)
        super().__init__(image, named_taps(maps, [None] * 4), dtype=dtype, **kwargs)
        freeze_layers_too(self)

        # === Config ===
        self.stem_channels = stem_channels
        self.stage_channels = tuple(stage_channels)
        self.bottleneck_channels = tuple(bottleneck_channels)
        self.stage_depths = tuple(stage_depths)
        self.groups = groups
        self.image_shape = tuple(image_shape)

    @property
    def taps(self):
        widths = zip(self.stage_channels, STRIDES, strict=True)
        return tuple(Tap(width, stride, reassemble=False) for width, stride in widths)

    @staticmethod
    def stage_widths(config):
        """Widths of the four maps, from constructor arguments."""
        return list(config["stage_channels"])

    def default_lora_layer_names(self):
        """None: there is no attention to adapt."""
        return []

    def freeze_norms(self):
        for layer in self.layers:
            if isinstance(layer, ResNetStem):
                layer.norm.trainable = False
            elif isinstance(layer, Bottleneck):
                for part in layer.convolutions():
                    part.norm.trainable = False

    @classmethod
    def config_from_shapes(cls, shapes, **untold):
        depths = [number_of(shapes, rf"stage_{s}_block_(\d+)/(conv\d/.*)") for s in range(4)]
        if not all(depths):
            return None
        widths, inner = (
            [vote(shapes, {rf"stage_{s}_block_\d+/conv{k}/": -1}) for s in range(4)] for k in (3, 1)
        )
        part = vote(shapes, {r"stage_0_block_\d+/conv2/conv/kernel": 2})
        return untold | {
            "stem_channels": vote(shapes, {"stem/": -1}),
            "stage_channels": widths,
            "bottleneck_channels": inner,
            "stage_depths": depths,
            "groups": inner[0] // part,
        }

    def get_config(self):
        return super().get_config() | {
            "stem_channels": self.stem_channels,
            "stage_channels": self.stage_channels,
            "bottleneck_channels": self.bottleneck_channels,
            "stage_depths": self.stage_depths,
            "groups": self.groups,
            "image_shape": self.image_shape,
        }
