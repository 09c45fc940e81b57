"""BEiT: the encoder of MiDaS 3.1's best models."""

import math

import keras

from keras_dpt.encoders.blocks import taps_of_blocks
from keras_dpt.encoders.encoder import Encoder, Tap, freeze_layers_too, named_taps
from keras_dpt.encoders.shapes import amount, transformer_config, vote
from keras_dpt.encoders.vit import check_out_indices
from keras_dpt.layers.beit import CLASS_ROWS, BEiTBlock, ClassToken
from keras_dpt.layers.transformer import PatchEmbedding

TABLES = {r"block_\d+/attention/bias_table": 0}


@keras.saving.register_keras_serializable(package="keras_dpt")
class BEiTEncoder(Encoder):
    """A BEiT backbone with a class token, tapped after four of its blocks.

    Instead of position embeddings, each block has learned biases for the offset of two tokens,
    which are resized to the grid of the image. Nothing is built after the last tapped block.

    Args:
        num_layers: transformer blocks.
        hidden_dim: width of a token.
        num_heads: attention heads in each block.
        mlp_dim: width inside each block's MLP.
        patch_size: side of a patch in pixels.
        position_grid: `(height, width)` of the grid that the stored biases belong to.
        out_indices: the four tapped blocks, 0-based, ascending.
        layer_norm_epsilon: added to variances; 1e-6 in timm and the original, 1e-12 in
            transformers.
        image_shape: `(height, width, 3)`; `None` for a variable side.
        dtype: dtype or dtype policy of all layers.

    Inputs: `(B, H, W, 3)` float in [-1, 1], sides multiples of `patch_size`.
    Returns: see `keras_dpt.encoders.encoder.Encoder`; all maps are at stride `patch_size`.
    Raises: ValueError: `out_indices` are not four blocks of the network in ascending order.
    Source: Bao et al. 2021 (arXiv 2106.08254); Birkl et al. 2023 (arXiv 2307.14460);
        isl-org/MiDaS `midas/backbones/beit.py`.

    Example:

    ```python
    import numpy as np

    import keras_dpt

    encoder = keras_dpt.BEiTEncoder(num_layers=4, hidden_dim=64, num_heads=2, mlp_dim=256,
                                    out_indices=(0, 1, 2, 3))
    encoder(np.zeros((1, 64, 96, 3), "float32"))["stage4"].shape  # (1, 4, 6, 64)
    ```
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
        image_shape=(None, None, 3),
        dtype=None,
        **kwargs,
    ):
        check_out_indices(out_indices, 4, num_layers)

        # === Layers and functional model ===
        image = keras.Input(image_shape, name="images")
        patches = PatchEmbedding(hidden_dim, patch_size, dtype=dtype, name="patch_embedding")(image)
        x = ClassToken(dtype=dtype, name="class_token")(patches)

        def run(i, x):
            block = BEiTBlock(
                hidden_dim,
                num_heads,
                mlp_dim,
                position_grid,
                layer_norm_epsilon,
                dtype=dtype,
                name=f"block_{i}",
            )
            return block(x, patches)

        maps, prefixes = taps_of_blocks(x, patches, out_indices, run, dtype=dtype)
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
        self.image_shape = tuple(image_shape)

    @property
    def taps(self):
        return (Tap(self.hidden_dim, self.patch_size, num_prefix_tokens=1),) * 4

    def attention_blocks(self):
        return tuple(layer for layer in self.layers if isinstance(layer, BEiTBlock))

    @classmethod
    def config_from_shapes(cls, shapes, num_heads=None, **untold):
        if not amount(shapes, next(iter(TABLES))):
            return None
        side = (math.isqrt(max(vote(shapes, TABLES) - CLASS_ROWS, 1)) + 1) // 2
        heads = vote(shapes, {next(iter(TABLES)): 1})
        kernel = shapes.get("patch_embedding/projection/kernel", (16,))
        config = transformer_config(shapes, num_heads=num_heads or heads, **untold)
        return config | {"patch_size": kernel[0], "position_grid": [side, side]}

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
            "image_shape": self.image_shape,
        }
