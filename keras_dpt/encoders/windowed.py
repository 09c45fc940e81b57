"""What both versions of Swin Transformer share: four stages of windows, for images of one size."""

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
    """What both versions of Swin share: four stages, each tapped before its cells are merged.

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
        """Widths of the four maps, of constructor arguments."""
        return [config["embed_dim"] * 2**s for s in range(4)]

    @classmethod
    def shared_config(cls, shapes, **untold):
        """Arguments of both versions that shapes show."""
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
    """Side of the windows of a stage and by how much every other block shifts them, in cells.

    A window is no larger than the map, and one that is as large as the map is not shifted.
    """
    grid = image_size // (PATCH * 2**stage)
    return (grid, 0) if grid <= window_size else (window_size, window_size // 2)


def _checked_shape(image_size, window_size, image_shape):
    """The shape of images. Raises: ValueError: windows do not fill maps of that size, their masks
    would fill the memory, or the shape has other sides."""
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
