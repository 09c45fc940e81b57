"""Vision Transformer: the encoder of DPT-Base and DPT-Large."""

import keras

from keras_dpt.encoders.blocks import taps_of_blocks
from keras_dpt.encoders.encoder import Encoder, Tap, freeze_layers_too, named_taps
from keras_dpt.encoders.shapes import amount, transformer_config
from keras_dpt.layers.transformer import (
    PatchEmbedding,
    PositionEmbedding,
    TransformerBlock,
)


@keras.saving.register_keras_serializable(package="keras_dpt")
class ViTEncoder(Encoder):
    """A plain ViT with a class token, tapped after four of its blocks.

    Nothing is built after the last tapped block: no final norm, no classifier.

    Args:
        num_layers: transformer blocks.
        hidden_dim: width of a token.
        num_heads: attention heads in each block.
        mlp_dim: width inside each block's MLP.
        patch_size: side of a patch in pixels.
        position_grid: `(height, width)` of the grid that the stored positions belong to.
        out_indices: the four tapped blocks, 0-based, ascending.
        layer_norm_epsilon: added to variances; 1e-6 in timm and the original.
        distilled: whether there is a distillation token, as in a distilled DeiT. It takes part in
            attention only: the readout uses the class token.
        image_shape: `(height, width, 3)`; `None` where any size is allowed.
        dtype: dtype or dtype policy of all layers.

    Inputs: `(B, H, W, 3)` float in [-1, 1], sides multiples of `patch_size`.
    Returns: see `keras_dpt.encoders.encoder.Encoder`; all maps are at stride `patch_size`.
    Raises: ValueError: `out_indices` are not four blocks of the network in ascending order.
    Source: Dosovitskiy et al. 2021 (arXiv 2010.11929); taps as in isl-org/DPT `dpt/vit.py`.
    """

    def __init__(
        self,
        num_layers,
        hidden_dim,
        num_heads,
        mlp_dim,
        patch_size=16,
        position_grid=(24, 24),
        out_indices=(2, 5, 8, 11),
        layer_norm_epsilon=1e-6,
        distilled=False,
        image_shape=(None, None, 3),
        dtype=None,
        **kwargs,
    ):
        check_out_indices(out_indices, 4, num_layers)

        # === Layers and functional model ===
        image = keras.Input(image_shape, name="images")
        patches = PatchEmbedding(hidden_dim, patch_size, dtype=dtype, name="patch_embedding")(image)
        maps, prefixes = transformer_taps(
            patches,
            out_indices,
            position_grid,
            dtype,
            distilled,
            hidden_dim=hidden_dim,
            num_heads=num_heads,
            mlp_dim=mlp_dim,
            epsilon=layer_norm_epsilon,
        )
        super().__init__(image, named_taps(maps, prefixes), dtype=dtype, **kwargs)
        freeze_layers_too(self)

        # === Config ===
        self.num_layers = num_layers
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.patch_size = patch_size
        self.position_grid = tuple(position_grid)
        self.out_indices = tuple(out_indices)
        self.layer_norm_epsilon = layer_norm_epsilon
        self.distilled = distilled
        self.image_shape = tuple(image_shape)

    @property
    def taps(self):
        prefix = 2 if self.distilled else 1
        return (Tap(self.hidden_dim, self.patch_size, num_prefix_tokens=prefix),) * 4

    def attention_blocks(self):
        return transformer_blocks(self)

    @classmethod
    def config_from_shapes(cls, shapes, **untold):
        kernel = shapes.get("patch_embedding/projection/kernel", (16,))
        return transformer_config(shapes, **untold) | {
            "patch_size": kernel[0],
            "distilled": amount(shapes, "position_embedding/distillation_token") > 0,
        }

    def get_config(self):
        return super().get_config() | {
            "num_layers": self.num_layers,
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "patch_size": self.patch_size,
            "position_grid": self.position_grid,
            "out_indices": self.out_indices,
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "distilled": self.distilled,
            "image_shape": self.image_shape,
        }


def transformer_taps(patches, out_indices, position_grid, dtype, distilled=False, **block_config):
    """Run transformer blocks over a grid of patches and fold the tapped ones back into maps.

    Returns: as `taps_of_blocks`; prefix tokens are the class token and, if `distilled`, the
        distillation token.
    """
    embed = PositionEmbedding(position_grid, distilled, dtype=dtype, name="position_embedding")

    def run(i, x):
        return TransformerBlock(**block_config, dtype=dtype, name=f"block_{i}")(x)

    return taps_of_blocks(embed(patches), patches, out_indices, run, embed.num_prefix, dtype=dtype)


def transformer_blocks(encoder):
    """The blocks that `transformer_taps` made, in order."""
    return tuple(x for x in encoder.layers if isinstance(x, TransformerBlock))


def check_out_indices(out_indices, count, num_layers):
    """Raise a ValueError unless these are `count` blocks out of `num_layers`, ascending."""
    indices = list(out_indices)
    in_range = all(0 <= i < num_layers for i in indices)
    if len(indices) != count or not in_range or indices != sorted(set(indices)):
        raise ValueError(
            f"`out_indices` must name {count} of the blocks 0 to {num_layers - 1} in ascending "
            f"order. Received: {tuple(out_indices)}."
        )


def check_out_stages(out_stages):
    """Raise a ValueError unless these are the first of the maps at strides 4, 8 and 16."""
    if list(out_stages) != list(range(len(out_stages)))[:3]:
        raise ValueError(
            "`out_stages` must be (), (0,), (0, 1) or (0, 1, 2): the finest maps come from the "
            f"first stages. Received: {tuple(out_stages)}."
        )
