"""DINOv2's Vision Transformer: the encoder of Depth Anything and of DINOv2's own depth heads."""

import keras

from keras_dpt.encoders.blocks import taps_of_blocks
from keras_dpt.encoders.encoder import Encoder, Tap, freeze_layers_too, named_taps
from keras_dpt.encoders.shapes import amount, transformer_config, vote
from keras_dpt.encoders.vit import check_out_indices
from keras_dpt.layers.dinov2 import DINOv2Block, DINOv2PositionEmbedding
from keras_dpt.layers.transformer import PatchEmbedding


@keras.saving.register_keras_serializable(package="keras_dpt")
class DINOv2Encoder(Encoder):
    """A DINOv2 backbone, tapped after four of its blocks.

    Nothing is built after the last tapped block, except the final norm with `apply_final_norm`.

    Args:
        num_layers: transformer blocks.
        hidden_dim: width of a token.
        num_heads: attention heads in each block.
        mlp_dim: width inside each block's MLP, or of the gate of its SwiGLU.
        patch_size: side of a patch in pixels.
        position_grid: `(height, width)` of the grid that the stored positions belong to.
        out_indices: the four tapped blocks, 0-based, ascending: (2, 5, 8, 11) in Depth Anything V2,
            the last four in V1, and (4, 11, 17, 23) in V2's Large.
        layer_norm_epsilon: added to variances.
        position_offset: of the resized positions, see `keras_dpt.ops.bicubic.resize_bicubic`: 0.1
            in the authors' code, 0 in transformers and for the authors' backbones with registers.
            It affects all sizes except `position_grid`.
        position_antialias: whether that resizing is antialiased, as in the authors' backbones with
            registers.
        apply_final_norm: whether each tap is normalised by the backbone's final LayerNorm, as in
            Depth Anything; DINOv2's depth heads take the blocks' outputs.
        num_register_tokens: tokens after the class token that only take part in attention.
        swiglu: gated feed-forward layers, as in DINOv2's giant.
        image_shape: `(height, width, 3)`; `None` for a variable side.
        dtype: dtype or dtype policy of all layers.

    Inputs: `(B, H, W, 3)` float, normalised by ImageNet's mean and standard deviation, sides
        multiples of `patch_size`.
    Returns: see `keras_dpt.encoders.encoder.Encoder`; all maps are at stride `patch_size`.
    Raises: ValueError: `out_indices` are not four blocks of the network in ascending order.
    Source: Oquab et al. 2023 (arXiv 2304.07193); facebookresearch/dinov2
        `dinov2/models/vision_transformer.py`; taps of DepthAnything/Depth-Anything-V2
        `depth_anything_v2/dpt.py`.

    Example:

    ```python
    import numpy as np

    import keras_dpt

    encoder = keras_dpt.DINOv2Encoder(num_layers=12, hidden_dim=384, num_heads=6, mlp_dim=1536)
    encoder(np.zeros((1, 70, 98, 3), "float32"))["stage4"].shape  # (1, 5, 7, 384)
    ```
    """

    fine_tuning_rate = 5e-6  # Depth Anything's

    def __init__(
        self,
        num_layers,
        hidden_dim,
        num_heads,
        mlp_dim,
        patch_size=14,
        position_grid=(37, 37),
        out_indices=(2, 5, 8, 11),
        layer_norm_epsilon=1e-6,
        position_offset=0.1,
        position_antialias=False,
        apply_final_norm=True,
        num_register_tokens=0,
        swiglu=False,
        image_shape=(None, None, 3),
        dtype=None,
        **kwargs,
    ):
        check_out_indices(out_indices, 4, num_layers)

        # === Layers ===
        embed = PatchEmbedding(hidden_dim, patch_size, dtype=dtype, name="patch_embedding")
        position = DINOv2PositionEmbedding(
            position_grid,
            position_offset,
            num_register_tokens,
            position_antialias,
            dtype=dtype,
            name="position_embedding",
        )
        final_norm = keras.layers.LayerNormalization(
            epsilon=layer_norm_epsilon, dtype=dtype, name="norm"
        )

        # === Functional model ===
        image = keras.Input(image_shape, name="images")
        patches = embed(image)

        def run(i, x):
            block = DINOv2Block(
                hidden_dim,
                num_heads,
                mlp_dim,
                layer_norm_epsilon,
                swiglu,
                dtype=dtype,
                name=f"block_{i}",
            )
            return block(x)

        maps, prefixes = taps_of_blocks(
            position(patches),
            patches,
            out_indices,
            run,
            1 + num_register_tokens,
            final_norm if apply_final_norm else None,
            dtype,
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
        self.position_offset = position_offset
        self.position_antialias = position_antialias
        self.apply_final_norm = apply_final_norm
        self.num_register_tokens = num_register_tokens
        self.swiglu = swiglu
        self.image_shape = tuple(image_shape)

    @property
    def taps(self):
        prefix = 1 + self.num_register_tokens
        return (Tap(self.hidden_dim, self.patch_size, num_prefix_tokens=prefix),) * 4

    def attention_blocks(self):
        return tuple(layer for layer in self.layers if isinstance(layer, DINOv2Block))

    @classmethod
    def config_from_shapes(
        cls, shapes, position_offset=0.1, apply_final_norm=True, out_indices=None, **untold
    ):
        if not amount(shapes, r"block_\d+/scale[12]/gamma"):
            return None
        config = transformer_config(shapes, out_indices=out_indices, **untold)
        kernel = shapes.get("patch_embedding/projection/kernel", (14,))
        registers = shapes.get("position_embedding/register_tokens", (1, 0))
        # The first layer of a gated MLP computes two halves.
        mlp_dim = vote(shapes, {r"block_\d+/mlp/dense2/kernel": 0})
        swiglu = vote(shapes, {r"block_\d+/mlp/dense1/": -1}) == 2 * mlp_dim
        return config | {
            "patch_size": kernel[0],
            "position_offset": position_offset,
            "apply_final_norm": apply_final_norm,
            "num_register_tokens": registers[1],
            "swiglu": swiglu,
            "mlp_dim": mlp_dim,
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
            "position_offset": self.position_offset,
            "position_antialias": self.position_antialias,
            "apply_final_norm": self.apply_final_norm,
            "num_register_tokens": self.num_register_tokens,
            "swiglu": self.swiglu,
            "image_shape": self.image_shape,
        }
