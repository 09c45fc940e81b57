"""Swin Transformer, versions 1 and 2: encoders of MiDaS 3.1, for images of one size."""

import math

import keras

from keras_dpt.encoders.encoder import Encoder, Tap, freeze_layers_too, named_taps
from keras_dpt.encoders.shapes import number_of, vote
from keras_dpt.layers.swin import PatchMerging, Swin2Block, SwinBlock
from keras_dpt.layers.transformer import PatchEmbedding
from keras_dpt.ops.sides import one_size_only

PATCH = 4
MLP_RATIO = 4
_MOST_IN_MASKS = 2**27  # numbers, 0.5 GB; a few bytes of a config could ask for terabytes


class WindowedEncoder(Encoder):
    """Base class of both versions of Swin: four stages, each tapped before patches are merged.

    Args:
        make_block: function of a stage's number and a block's arguments that returns the block.
        norm_first: see `PatchMerging`.
        others: see `SwinEncoder`.
    """

    has_stages_only = True

    def __init__(
        self,
        make_block,
        norm_first,
        embed_dim,
        depths,
        num_heads,
        window_size,
        image_size,
        layer_norm_epsilon,
        image_shape,
        dtype,
        **kwargs,
    ):
        shape = _checked_shape(image_size, window_size, image_shape)

        # === Layers and functional model ===
        image = keras.Input(shape, name="images")
        x = PatchEmbedding(embed_dim, PATCH, dtype=dtype, name="patch_embedding")(image)
        x = keras.layers.LayerNormalization(
            epsilon=layer_norm_epsilon, dtype=dtype, name="patch_norm"
        )(x)
        maps = []
        for s, depth in enumerate(depths):
            dim = embed_dim * 2**s
            window, shift = window_of(image_size, window_size, s)
            for j in range(depth):
                x = make_block(
                    s,
                    dim,
                    num_heads[s],
                    MLP_RATIO * dim,
                    window,
                    shift if j % 2 else 0,
                    layer_norm_epsilon,
                    dtype=dtype,
                    name=f"stage_{s}_block_{j}",
                )(x)
            maps.append(x)
            if s < 3:
                x = PatchMerging(
                    2 * dim, norm_first, layer_norm_epsilon, dtype=dtype, name=f"merge_{s}"
                )(x)
        super().__init__(image, named_taps(maps, [None] * 4), dtype=dtype, **kwargs)
        freeze_layers_too(self)

        # === Config ===
        self.embed_dim = embed_dim
        self.depths = tuple(depths)
        self.num_heads = tuple(num_heads)
        self.window_size = window_size
        self.image_size = image_size
        self.layer_norm_epsilon = layer_norm_epsilon
        self.image_shape = shape

    @property
    def taps(self):
        return tuple(Tap(self.embed_dim * 2**s, PATCH * 2**s, reassemble=False) for s in range(4))

    @property
    def fixed_size(self):
        return (self.image_size, self.image_size)

    def recomputed_layers(self):
        return tuple(layer for layer in self.layers if isinstance(layer, SwinBlock | Swin2Block))

    @staticmethod
    def stage_widths(config):
        """Widths of the four maps, from constructor arguments."""
        return [config["embed_dim"] * 2**s for s in range(4)]

    @classmethod
    def shared_config(cls, shapes, **untold):
        """Arguments of both versions, inferred from shapes."""
        depths = [number_of(shapes, rf"stage_{s}_block_(\d+)/(norm\d/.*)") for s in range(4)]
        width = vote(shapes, {"patch_embedding/": -1, "patch_norm/": 0})
        return {"embed_dim": width, "depths": depths} | untold

    def get_config(self):
        return super().get_config() | {
            "embed_dim": self.embed_dim,
            "depths": self.depths,
            "num_heads": self.num_heads,
            "window_size": self.window_size,
            "image_size": self.image_size,
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "image_shape": self.image_shape,
        }


def window_of(image_size, window_size, stage):
    """Side of the windows of a stage, and the shift of every other block, in cells.

    A window is no larger than the map, and one that is as large as the map is not shifted.
    """
    grid = image_size // (PATCH * 2**stage)
    return (grid, 0) if grid <= window_size else (window_size, window_size // 2)


def _checked_shape(image_size, window_size, image_shape):
    """The shape of images. Raises: ValueError: windows do not fit maps of that size, their masks
    would need too much memory, or the shape has other sides."""
    numbers = (image_size / PATCH * window_size) ** 2  # windows, times pairs of their cells
    if numbers > _MOST_IN_MASKS:
        raise ValueError(
            f"`image_size={image_size}` with `window_size={window_size}` needs masks of "
            f"{numbers:.2g} numbers for its windows; the most is {_MOST_IN_MASKS:.2g}."
        )
    for stage in range(4):
        grid = image_size / (PATCH * 2**stage)
        if grid % window_of(image_size, window_size, stage)[0]:
            raise ValueError(
                f"`image_size={image_size}` makes a map of {grid:g} cells a side in stage {stage}, "
                f"which windows of `window_size={window_size}` do not fill."
            )
    if any(side not in (None, image_size) for side in image_shape[:2]):
        raise ValueError(
            f"{one_size_only('This encoder', (image_size, image_size))} Received: "
            f"image_shape={tuple(image_shape)}."
        )
    return (image_size, image_size, 3)


@keras.saving.register_keras_serializable(package="keras_dpt")
class SwinEncoder(WindowedEncoder):
    """A Swin Transformer, tapped after each of its four stages, for squares of one size.

    No norm follows the taps. In float16 the network overflows: use bfloat16 or float32.

    Args:
        embed_dim: width of the first stage; it doubles with each one.
        depths: blocks of the four stages.
        num_heads: attention heads in the four stages.
        window_size: side of a window in cells, at most that of the map.
        image_size: side of the square images; sizes of windows depend on it.
        layer_norm_epsilon: added to variances.
        image_shape: `(image_size, image_size, 3)`, or `None` for sides.
        dtype: dtype or dtype policy of all layers.

    Inputs: `(B, image_size, image_size, 3)` float in [-1, 1].
    Returns: see `keras_dpt.encoders.encoder.Encoder`; maps are at strides 4, 8, 16 and 32.
    Raises: ValueError: windows do not fit the maps, or `image_shape` has other sides.
    Source: Liu et al. 2021 (arXiv 2103.14030); taps as in isl-org/MiDaS
        `midas/backbones/swin_common.py`.

    Example:

    ```python
    import numpy as np

    import keras_dpt

    encoder = keras_dpt.SwinEncoder(
        embed_dim=16, depths=(1, 1, 2, 1), num_heads=(1, 2, 4, 8), window_size=4, image_size=128
    )
    encoder(np.zeros((1, 128, 128, 3), "float32"))["stage4"].shape  # (1, 4, 4, 128)
    ```
    """

    def __init__(
        self,
        embed_dim=192,
        depths=(2, 2, 18, 2),
        num_heads=(6, 12, 24, 48),
        window_size=12,
        image_size=384,
        layer_norm_epsilon=1e-5,
        image_shape=(None, None, 3),
        dtype=None,
        **kwargs,
    ):
        super().__init__(
            lambda stage, *args, **options: SwinBlock(*args, **options),
            True,
            embed_dim,
            depths,
            num_heads,
            window_size,
            image_size,
            layer_norm_epsilon,
            image_shape,
            dtype,
            **kwargs,
        )

    @classmethod
    def config_from_shapes(cls, shapes, **untold):
        if not number_of(shapes, r"stage_0_block_(\d+)/(attention/bias_table)"):
            return None
        heads = [vote(shapes, {rf"stage_{s}_block_\d+/attention/bias_table": 1}) for s in range(4)]
        rows = vote(shapes, {r"stage_0_block_\d+/attention/bias_table": 0})
        window = {"window_size": (math.isqrt(rows) + 1) // 2, "num_heads": heads}
        return cls.shared_config(shapes, **untold) | window


@keras.saving.register_keras_serializable(package="keras_dpt")
class Swin2Encoder(WindowedEncoder):
    """A Swin Transformer V2, tapped after each of its four stages, for squares of one size.

    No norm follows the taps. In float16 the network overflows: use bfloat16 or float32.

    Args:
        embed_dim, depths, num_heads, window_size, image_size, layer_norm_epsilon, image_shape,
            dtype: see `SwinEncoder`.
        pretrained_window_sizes: for each stage, the side of the windows that the MLP of its biases
            was trained with; 0 for the stage's own.

    Inputs, returns, raises: see `SwinEncoder`.
    Source: Liu et al. 2021 (arXiv 2111.09883); taps as in isl-org/MiDaS
        `midas/backbones/swin_common.py`.
    """

    def __init__(
        self,
        embed_dim=128,
        depths=(2, 2, 18, 2),
        num_heads=(4, 8, 16, 32),
        window_size=24,
        image_size=384,
        pretrained_window_sizes=(0, 0, 0, 0),
        layer_norm_epsilon=1e-5,
        image_shape=(None, None, 3),
        dtype=None,
        **kwargs,
    ):
        pretrained = tuple(pretrained_window_sizes)
        super().__init__(
            lambda stage, *args, **options: Swin2Block(
                *args, pretrained_window=pretrained[stage] or None, **options
            ),
            False,
            embed_dim,
            depths,
            num_heads,
            window_size,
            image_size,
            layer_norm_epsilon,
            image_shape,
            dtype,
            **kwargs,
        )
        self.pretrained_window_sizes = pretrained

    @classmethod
    def config_from_shapes(cls, shapes, **untold):
        if not number_of(shapes, r"stage_0_block_(\d+)/(attention/logit_scale)"):
            return None
        heads = [vote(shapes, {rf"stage_{s}_block_\d+/attention/logit_scale": 0}) for s in range(4)]
        return cls.shared_config(shapes, **untold) | {"num_heads": heads}

    def get_config(self):
        return super().get_config() | {"pretrained_window_sizes": self.pretrained_window_sizes}
