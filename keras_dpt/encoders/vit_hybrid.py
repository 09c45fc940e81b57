"""ResNet50 stages in front of a ViT: the encoder of DPT-Hybrid."""

import keras

from keras_dpt.encoders.encoder import Encoder, Tap, freeze_layers_too, named_taps
from keras_dpt.encoders.shapes import number_of, transformer_config, vote
from keras_dpt.encoders.vit import (
    check_out_indices,
    check_out_stages,
    transformer_blocks,
    transformer_taps,
)
from keras_dpt.layers.resnet_v2 import Bottleneck, ResNetStem
from keras_dpt.layers.transformer import PatchEmbedding

STRIDES = (4, 8, 16)  # of the three stages
# Where the width of stage n is found, for `vote`.
STAGE_CHANNELS = {r"stage_{n}_block_\d+/(conv3|norm3|downsample_conv|downsample_norm)/": -1}


@keras.saving.register_keras_serializable(package="keras_dpt")
class ViTHybridEncoder(Encoder):
    """A convolutional network down to stride 16, whose cells are the tokens of a ViT.

    Args:
        num_layers, hidden_dim, num_heads, mlp_dim, position_grid, layer_norm_epsilon, image_shape,
            dtype: see `ViTEncoder`.
        out_indices: tapped transformer blocks, 0-based, ascending.
        stem_channels: width after the stem.
        stage_channels: width of each of the three stages, at strides 4, 8 and 16.
        stage_depths: bottlenecks in each stage.
        out_stages: tapped stages, 0-based, ascending. Together with `out_indices` they make four
            taps; `()` taps blocks only, as in the paper's Table 6.
        num_groups: groups of the group normalisations.
        weight_standardization: "std" or "variance", see `WeightStandardizedConv2D`.

    Inputs: `(B, H, W, 3)` float in [-1, 1], sides multiples of 16.
    Returns: see `keras_dpt.encoders.encoder.Encoder`; maps of stages are at strides 4, 8 and 16,
        those of blocks at stride 16.
    Raises: ValueError: the taps are not four, not ascending or do not exist.
    Source: Ranftl et al. 2021 (arXiv 2103.13413), section 3.1, "ViT-Hybrid"; timm
        `vit_base_resnet50_384`.
    """

    def __init__(
        self,
        num_layers,
        hidden_dim,
        num_heads,
        mlp_dim,
        position_grid=(24, 24),
        out_indices=(8, 11),
        layer_norm_epsilon=1e-6,
        stem_channels=64,
        stage_channels=(256, 512, 1024),
        stage_depths=(3, 4, 9),
        out_stages=(0, 1),
        num_groups=32,
        weight_standardization="std",
        image_shape=(None, None, 3),
        dtype=None,
        **kwargs,
    ):
        check_out_indices(out_indices, 4 - len(out_stages), num_layers)
        check_out_stages(out_stages)

        # === Layers and functional model ===
        image = keras.Input(image_shape, name="images")
        convolutions = {
            "num_groups": num_groups,
            "standardization": weight_standardization,
            "dtype": dtype,
        }
        x = ResNetStem(stem_channels, **convolutions, name="stem")(image)
        stages = []
        for stage, (channels, depth) in enumerate(zip(stage_channels, stage_depths, strict=True)):
            for block in range(depth):
                x = Bottleneck(
                    channels,
                    strides=2 if block == 0 and stage > 0 else 1,
                    project=block == 0,
                    **convolutions,
                    name=f"stage_{stage}_block_{block}",
                )(x)
            stages.append(x)
        patches = PatchEmbedding(hidden_dim, 1, dtype=dtype, name="patch_embedding")(x)
        maps, prefixes = transformer_taps(
            patches,
            out_indices,
            position_grid,
            dtype,
            hidden_dim=hidden_dim,
            num_heads=num_heads,
            mlp_dim=mlp_dim,
            epsilon=layer_norm_epsilon,
        )
        maps = [stages[stage] for stage in out_stages] + maps
        prefixes = [None] * len(out_stages) + prefixes
        super().__init__(image, named_taps(maps, prefixes), dtype=dtype, **kwargs)
        freeze_layers_too(self)

        # === Config ===
        self.num_layers = num_layers
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.position_grid = tuple(position_grid)
        self.out_indices = tuple(out_indices)
        self.layer_norm_epsilon = layer_norm_epsilon
        self.stem_channels = stem_channels
        self.stage_channels = tuple(stage_channels)
        self.stage_depths = tuple(stage_depths)
        self.out_stages = tuple(out_stages)
        self.num_groups = num_groups
        self.weight_standardization = weight_standardization
        self.image_shape = tuple(image_shape)

    @property
    def taps(self):
        stages = [
            Tap(self.stage_channels[s], STRIDES[s], reassemble=False) for s in self.out_stages
        ]
        return (*stages, *[Tap(self.hidden_dim, 16, num_prefix_tokens=1)] * len(self.out_indices))

    def attention_blocks(self):
        return transformer_blocks(self)

    @staticmethod
    def stage_widths(config):
        """Widths of the maps of `out_stages` 0, 1 and 2, from constructor arguments."""
        return list(config["stage_channels"])

    @classmethod
    def config_from_shapes(cls, shapes, num_groups=32, weight_standardization=None, **untold):
        depths = [number_of(shapes, rf"stage_{s}_block_(\d+)/(.*)") for s in range(3)]
        if not depths[0]:
            return None
        reads = number_of(
            shapes, r"(?:reassemble|read)_(\d)/(projection/.*|token/kernel|readout/.*)"
        )
        return transformer_config(shapes, reads, **untold) | {
            "stem_channels": vote(shapes, {"stem/": -1}),
            "stage_channels": [vote(shapes, STAGE_CHANNELS, s) for s in range(3)],
            "stage_depths": depths,
            "out_stages": list(range(4 - reads)),
            "num_groups": num_groups,
            "weight_standardization": weight_standardization,
        }

    def get_config(self):
        return super().get_config() | {
            "num_layers": self.num_layers,
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "position_grid": self.position_grid,
            "out_indices": self.out_indices,
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "stem_channels": self.stem_channels,
            "stage_channels": self.stage_channels,
            "stage_depths": self.stage_depths,
            "out_stages": self.out_stages,
            "num_groups": self.num_groups,
            "weight_standardization": self.weight_standardization,
            "image_shape": self.image_shape,
        }
