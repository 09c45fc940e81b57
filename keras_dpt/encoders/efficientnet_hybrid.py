"""EfficientNet-Lite stages in front of a ViT: the encoder of the small depth preset."""

import keras

from keras_dpt.encoders.encoder import Encoder, Tap, freeze_layers_too, named_taps
from keras_dpt.encoders.shapes import number_of, vote
from keras_dpt.encoders.vit import (
    check_out_indices,
    check_out_stages,
    transformer_blocks,
    transformer_taps,
)
from keras_dpt.layers.efficientnet import ConvNorm, EfficientNetStem, InvertedResidual
from keras_dpt.layers.transformer import PatchEmbedding

# Of the seven stages of each EfficientNet: Tan & Le 2019, Table 1.
KERNEL_SIZES = (3, 3, 5, 3, 5, 5, 3)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
EXPANSIONS = (1, 6, 6, 6, 6, 6, 6)
# The last stages at strides 4, 8 and 16, the levels that convolutions can provide.
LAST_AT_STRIDE = (1, 2, 6)


@keras.saving.register_keras_serializable(package="keras_dpt")
class EfficientNetHybridEncoder(Encoder):
    """An EfficientNet-Lite down to stride 16, whose cells are the tokens of a ViT.

    The idea of DPT-Hybrid, for small networks. The sixth stage, at stride 32 in the classifier,
    stays at stride 16 and dilates its kernels instead.

    Args:
        num_layers, hidden_dim, num_heads, mlp_dim, position_grid, layer_norm_epsilon, image_shape,
            dtype: see `ViTEncoder`.
        out_indices: tapped transformer blocks, 0-based, ascending.
        out_stages: tapped maps of convolutions, 0 the last one at stride 4, 1 that at stride 8, 2
            that at stride 16, ascending. Together with `out_indices` they make four taps; `()`
            taps blocks only, as in the paper's Table 6.
        stem_channels: width after the first convolution.
        stage_channels, stage_depths: width and blocks of each of the seven stages; the defaults
            are EfficientNet-Lite0's.

    Inputs: `(B, H, W, 3)` float in [-1, 1], sides multiples of 16.
    Returns: see `keras_dpt.encoders.encoder.Encoder`; maps of stages are at strides 4, 8 and 16,
        those of blocks at stride 16.
    Raises: ValueError: the taps are not four, not ascending or do not exist.
    Source: Tan & Le 2019 (arXiv 1905.11946); Ranftl et al. 2021 (arXiv 2103.13413), section 3.1,
        "ViT-Hybrid"; dilation as in Chen et al. 2017 (arXiv 1706.05587).
    """

    def __init__(
        self,
        num_layers,
        hidden_dim,
        num_heads,
        mlp_dim,
        position_grid=(12, 16),
        out_indices=(1, 3),
        layer_norm_epsilon=1e-6,
        out_stages=(0, 1),
        stem_channels=32,
        stage_channels=(16, 24, 40, 80, 112, 192, 320),
        stage_depths=(1, 2, 2, 3, 3, 4, 1),
        image_shape=(None, None, 3),
        dtype=None,
        **kwargs,
    ):
        check_out_indices(out_indices, 4 - len(out_stages), num_layers)
        check_out_stages(out_stages)

        # === Layers and functional model ===
        image = keras.Input(image_shape, name="images")
        x = EfficientNetStem(stem_channels, dtype=dtype, name="stem")(image)
        stages, stride, dilation, index = [], 2, 1, 0
        for stage, (channels, depth) in enumerate(zip(stage_channels, stage_depths, strict=True)):
            for block in range(depth):
                step = STRIDES[stage] if block == 0 else 1
                keeps_size = stride * step > 16
                x = InvertedResidual(
                    x.shape[-1],
                    channels,
                    KERNEL_SIZES[stage],
                    1 if keeps_size else step,
                    dilation,
                    EXPANSIONS[stage],
                    dtype=dtype,
                    name=f"mbconv_{index}",
                )(x)
                # Dilated kernels then cover the same area as on a smaller map.
                dilation, stride = (step, stride) if keeps_size else (dilation, stride * step)
                index += 1
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
        maps = [stages[LAST_AT_STRIDE[stage]] for stage in out_stages] + maps
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
        self.out_stages = tuple(out_stages)
        self.stem_channels = stem_channels
        self.stage_channels = tuple(stage_channels)
        self.stage_depths = tuple(stage_depths)
        self.image_shape = tuple(image_shape)

    @property
    def taps(self):
        widths = self.stage_widths({"stage_channels": self.stage_channels})
        stages = [Tap(widths[s], 4 << s, reassemble=False) for s in self.out_stages]
        return (*stages, *[Tap(self.hidden_dim, 16, num_prefix_tokens=1)] * len(self.out_indices))

    def attention_blocks(self):
        return transformer_blocks(self)

    @staticmethod
    def stage_widths(config):
        """Widths of the maps of `out_stages` 0, 1 and 2, from constructor arguments."""
        return [config["stage_channels"][stage] for stage in LAST_AT_STRIDE]

    def freeze_norms(self):
        for layer in self.layers:
            if isinstance(layer, ConvNorm | InvertedResidual):
                for part in layer.convolutions():
                    part.norm.trainable = False

    @classmethod
    def config_from_shapes(cls, shapes, **untold):
        blocks = number_of(shapes, r"mbconv_(\d+)/(project/.*)")
        if not blocks:
            return None
        widths = [vote(shapes, {"mbconv_{n}/project/": -1}, i) for i in range(blocks)]
        channels = list(dict.fromkeys(widths))
        return untold | {
            "stem_channels": vote(shapes, {"stem/": -1}),
            "stage_channels": channels,
            "stage_depths": [widths.count(width) for width in channels],
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
            "out_stages": self.out_stages,
            "stem_channels": self.stem_channels,
            "stage_channels": self.stage_channels,
            "stage_depths": self.stage_depths,
            "image_shape": self.image_shape,
        }
