"""What a keras-hub backbone can be tapped at, and at which strides."""

import math

import keras
import numpy as np

from keras_dpt.layers.tokens import TappedBlocks

_PROBE = 256  # pixels: a side on which strides up to 32 can be read


def image_input(backbone):
    """The backbone's input tensor `(B, H, W, 3)`.

    Raises: ValueError: it has another.
    """
    inputs = backbone.input
    inputs = list(inputs.values()) if isinstance(inputs, dict) else [inputs]
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[-1] != 3:
        raise ValueError(
            f"{type(backbone).__name__} is not a backbone for images (B, H, W, 3). Its inputs: "
            f"{[tuple(x.shape) for x in inputs]}."
        )
    return inputs[0]


def outputs_of(backbone):
    """What can be tapped, in order: `{name: Keras tensor, or the number of a block}`."""
    if pyramid := getattr(backbone, "pyramid_outputs", None):
        return dict(pyramid)
    if owner := _nested_blocks(backbone):
        return {f"block_{i}": i for i in range(len(owner.encoder_layers))}
    if blocks := getattr(backbone, "encoder_layers", None):  # by number: names may differ next time
        return {f"block_{i}": block.output for i, block in enumerate(blocks)}
    return {layer.name: layer.output for layer in backbone.layers[1:]}


def _nested_blocks(backbone):
    """The layer whose `encoder_layers` are the blocks of a transformer, `None` if there is none."""
    owners = [x for x in backbone.layers if getattr(x, "encoder_layers", None)]
    return owners[0] if owners else None


def tensors(backbone, named, outputs):
    """Keras tensors of outputs by name."""
    if isinstance(named[outputs[0]], int):
        owner = _nested_blocks(backbone)
        return TappedBlocks(owner.encoder_layers, [named[x] for x in outputs])(owner.input)
    return [named[name] for name in outputs]


def default_outputs(backbone, named):
    """Names of four outputs: one map for each of strides 4 to 32, or four blocks of tokens."""
    if getattr(backbone, "pyramid_outputs", None):
        maps = [name for name, x in named.items() if len(x.shape) == 4]
        if maps:
            strides = [_stride_of_map(backbone, named[name]) for name in maps]
            last = {stride: name for name, stride in zip(maps, strides, strict=True)}
            if {4, 8, 16, 32} <= last.keys():
                return [last[stride] for stride in (4, 8, 16, 32)]
            return maps[-4:]
    blocks = [name for name in named if name.startswith(("block_", "stage"))]
    if hasattr(backbone, "window_size") and len(blocks) == 4:
        # Swin's stages end with merging, so the map at stride 4 is the one before the first.
        return [list(named)[list(named).index(blocks[0]) - 1], blocks[0], blocks[1], blocks[3]]
    return [blocks[len(blocks) * quarter // 4 - 1] for quarter in (1, 2, 3, 4)] if blocks else []


def _stride_of_map(backbone, x):
    """Input pixels per cell of a map `(B, h, w, C)`."""
    image = image_input(backbone)
    if None not in (image.shape[1], x.shape[1]):
        return round(image.shape[1] / x.shape[1])
    return round(_PROBE / keras.Model(image, x).compute_output_shape((1, _PROBE, _PROBE, 3))[1])


def grids(backbone, named, outputs):
    """The stride of each output, and how many tokens stand before those of the grid.

    Raises: ValueError: an output that is neither tokens of a known grid nor a map.
    """
    image, strides, num_prefix_tokens = image_input(backbone), [], None
    for name in outputs:
        x = named[name] if not isinstance(named[name], int) else _nested_blocks(backbone).input
        if len(x.shape) == 4:
            strides.append(_stride_of_map(backbone, x))
            continue
        stride = _patch_size(backbone)
        if len(x.shape) != 3 or stride is None or None in image.shape[1:3]:
            raise ValueError(
                f"{name!r}, of shape {tuple(x.shape)}, of {type(backbone).__name__} is neither "
                "tokens (B, T, C) of a known grid nor a map (B, h, w, C)."
            )
        if num_prefix_tokens is None:
            num_prefix_tokens = _count_prefix_tokens(backbone, named, outputs, stride)
        if hasattr(backbone, "window_size"):  # tokens of later stages have larger cells
            while x.shape[1] < math.prod(side // stride for side in image.shape[1:3]):
                stride *= 2
        strides.append(stride)
    return strides, num_prefix_tokens or 0


def _patch_size(backbone):
    patch = getattr(backbone, "patch_size", None)
    return patch[0] if isinstance(patch, list | tuple) else patch


def _count_prefix_tokens(backbone, named, outputs, stride):
    """Run the first layers: what keras-hub's layers say of their shapes is not always true."""
    image = image_input(backbone)
    first = next(iter(named.values()))
    if isinstance(first, int):
        first = _nested_blocks(backbone).input
    elif blocks := getattr(backbone, "encoder_layers", None):
        first = blocks[0].input
    tokens = keras.Model(image, first)(np.zeros((1, *image.shape[1:]), "float32"))
    return tokens.shape[1] - math.prod(side // stride for side in image.shape[1:3])
