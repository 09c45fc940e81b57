"""Bicubic resizing of small maps, such as tables of positions.

Not `keras.ops.image.resize`: its kernel has a = -0.5 on some backends, and it may antialias.
"""

import functools

import numpy as np
from keras import ops

A = -0.75  # of the cubic kernel, as in PyTorch and OpenCV
A_ANTIALIASED = -0.5  # PyTorch's with antialiasing, and Pillow's


def resize_bicubic(x, size, offset=0.0, antialias=False):
    """Resize maps bicubically: a = -0.75, half-pixel centres, borders replicated.

    Two products with small matrices, one per axis; constants where sizes are known before the graph
    runs.

    Args:
        x: `(B, H, W, C)` float tensor of known height and width.
        size: `(height, width)` of the result; integers or scalar integer tensors.
        offset: added to the size for the factor only: output pixel i is at
            `(i + 0.5) * H / (height + offset) - 0.5` in pixels of the input. 0.1 in DINOv2.
        antialias: shrink with a kernel as wide as the output's pixels. As in PyTorch, a is then
            -0.5, also where nothing shrinks, and what is beyond the border does not count.

    Returns: `(B, height, width, C)` with the dtype of `x`; `x` itself if the size does not change,
        whatever `offset` is.
    Source: `torch.nn.functional.interpolate(mode="bicubic", scale_factor=...)`, whose float64
        result this equals; facebookresearch/dinov2 `vision_transformer.py`,
        `interpolate_pos_encoding`; with `antialias`, `interpolate(antialias=True)`.
    """
    _, in_height, in_width, channels = x.shape
    height, width = size
    if isinstance(height, int) and isinstance(width, int):
        if (in_height, in_width) == (height, width):
            return x
        rows = _matrix(in_height, height, offset, antialias)
        columns = _matrix(in_width, width, offset, antialias)
    else:
        same = ops.logical_and(ops.equal(height, in_height), ops.equal(width, in_width))
        offset = ops.where(same, 0.0, float(offset))
        rows = _weights(ops, in_height, height, offset, antialias)
        columns = _weights(ops, in_width, width, offset, antialias)
    x = ops.matmul(ops.cast(rows, x.dtype), ops.reshape(x, (-1, in_height, in_width * channels)))
    x = ops.matmul(ops.cast(columns, x.dtype), ops.reshape(x, (-1, in_width, channels)))
    return ops.reshape(x, (-1, height, width, channels))


@functools.lru_cache(maxsize=256)
def _matrix(in_size, out_size, offset, antialias):
    """Interpolation weights, `(out_size, in_size)`, computed in float64."""
    return _weights(np, in_size, out_size, offset, antialias).astype("float32")


def _weights(xp, in_size, out_size, offset, antialias):
    """The matrix in terms of `xp`, which is `numpy` or `keras.ops`."""
    kind = "float64" if xp is np else "float32"
    index, size = xp.arange(out_size, dtype="int32"), xp.array(out_size)
    index, size = (x.astype(kind) if xp is np else ops.cast(x, kind) for x in (index, size))
    source = (index + 0.5) * in_size / (size + offset) - 0.5
    if antialias:
        return _antialiased(xp, source, in_size, in_size / (size + offset), kind)
    low = xp.floor(source)
    fraction = xp.expand_dims(source - low, 1)
    low = xp.expand_dims(low, 1)
    column = xp.expand_dims(xp.arange(in_size, dtype="int32"), 0)
    column = column if xp is np else ops.cast(column, kind)
    total = 0.0
    for tap in (-1, 0, 1, 2):
        here = column == xp.clip(low + tap, 0, in_size - 1)
        total = total + xp.where(here, _kernel(xp.abs(fraction - tap), tap), 0.0)
    return total


def _antialiased(xp, source, in_size, scale, kind):
    """The matrix of a kernel that is `scale` pixels of the input wide, at least one."""
    column = xp.expand_dims(xp.arange(in_size, dtype="int32"), 0)
    column = column.astype(kind) if xp is np else ops.cast(column, kind)
    x = xp.abs(column - xp.expand_dims(source, 1)) / xp.maximum(scale, 1.0)
    near = ((A_ANTIALIASED + 2) * x - (A_ANTIALIASED + 3)) * x * x + 1
    far = ((A_ANTIALIASED * x - 5 * A_ANTIALIASED) * x + 8 * A_ANTIALIASED) * x - 4 * A_ANTIALIASED
    weights = xp.where(x < 1, near, xp.where(x < 2, far, 0.0))
    return weights / xp.sum(weights, axis=1, keepdims=True)


def _kernel(x, tap):
    """The cubic kernel at distance `x` of a tap: below 1 for the two in the middle, else below 2"""
    if tap in (0, 1):
        return ((A + 2) * x - (A + 3)) * x * x + 1
    return ((A * x - 5 * A) * x + 8 * A) * x - 4 * A
