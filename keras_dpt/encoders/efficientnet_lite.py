"""EfficientNet-Lite down to stride 32: the encoder of MiDaS 2.1 small."""

import keras

from keras_dpt.encoders.efficientnet_hybrid import EXPANSIONS, KERNEL_SIZES, STRIDES
from keras_dpt.encoders.encoder import Encoder, Tap, freeze_layers_too, named_taps
from keras_dpt.encoders.shapes import number_of, vote
from keras_dpt.layers.efficientnet import ConvNorm, EfficientNetStem, InvertedResidual

# The last stages at strides 4, 8, 16 and 32.
TAPPED = (1, 2, 4, 6)


@keras.saving.register_keras_serializable(package="keras_dpt")
class EfficientNetLiteEncoder(Encoder):
    """An EfficientNet-Lite without its last 1x1 convolution, tapped at strides 4, 8, 16 and 32.

    The taps are outputs of blocks, which have no final activation.

    Args:
        stem_channels: width after the first convolution.
        stage_channels, stage_depths: width and blocks of each of the seven stages; the defaults
            are EfficientNet-Lite3's.
        image_shape: `(height, width, 3)`; `None` for a variable side.
        dtype: dtype or dtype policy of all layers.

    Inputs: `(B, H, W, 3)` float, normalised by ImageNet's mean and standard deviation, sides
        multiples of 32.
    Returns: see `keras_dpt.encoders.encoder.Encoder`.
    Source: Tan & Le 2019 (arXiv 1905.11946); isl-org/MiDaS `midas/blocks.py`,
        `_make_pretrained_efficientnet_lite3`.
    """

    has_stages_only = True

    def __init__(
        self,
        stem_channels=32,
        stage_channels=(24, 32, 48, 96, 136, 232, 384),
        stage_depths=(1, 3, 3, 5, 5, 6, 1),
        image_shape=(None, None, 3),
        dtype=None,
        **kwargs,
    ):
        # === Layers and functional model ===
        image = keras.Input(image_shape, name="images")
        x = EfficientNetStem(stem_channels, dtype=dtype, name="stem")(image)
        stages = []
        for s, (channels, depth) in enumerate(zip(stage_channels, stage_depths, strict=True)):
            for j in range(depth):
                x = InvertedResidual(
                    x.shape[-1],
                    channels,
                    KERNEL_SIZES[s],
                    1 if j else STRIDES[s],
                    expansion=EXPANSIONS[s],
                    dtype=dtype,
                    name=f"stage_{s}_block_{j}",
                )(x)
            stages.append(x)
        maps = [stages[s] for s in TAPPED]
        super().__init__(image, named_taps(maps, [None] * 4), dtype=dtype, **kwargs)
        freeze_layers_too(self)

        # === Config ===
        self.stem_channels = stem_channels
        self.stage_channels = tuple(stage_channels)
        self.stage_depths = tuple(stage_depths)
        self.image_shape = tuple(image_shape)

    @property
    def taps(self):
        return tuple(
            Tap(self.stage_channels[s], 4 << n, reassemble=False) for n, s in enumerate(TAPPED)
        )

    @staticmethod
    def stage_widths(config):
        """Widths of the four maps, from constructor arguments."""
        return [config["stage_channels"][s] for s in TAPPED]

    def default_lora_layer_names(self):
        """None: there is no attention to adapt."""
        return []

    def freeze_norms(self):
        for layer in self.layers:
            if isinstance(layer, ConvNorm | InvertedResidual):
                for part in layer.convolutions():
                    part.norm.trainable = False

    @classmethod
    def config_from_shapes(cls, shapes, **untold):
        depths = [number_of(shapes, rf"stage_{s}_block_(\d+)/(project/.*)") for s in range(7)]
        if not all(depths):
            return None
        return untold | {
            "stem_channels": vote(shapes, {"stem/": -1}),
            "stage_channels": [
                vote(shapes, {rf"stage_{s}_block_\d+/project/": -1}) for s in range(7)
            ],
            "stage_depths": depths,
        }

    def get_config(self):
        return super().get_config() | {
            "stem_channels": self.stem_channels,
            "stage_channels": self.stage_channels,
            "stage_depths": self.stage_depths,
            "image_shape": self.image_shape,
        }
