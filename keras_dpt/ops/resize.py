"""Bilinear resizing of feature maps: the one place where the network interpolates.

Interpolation positions are ratios of small integers, so they are kept as integers until the last
division. PyTorch and TensorFlow multiply a rounded float32 step by the index instead, which moves
the sampling points by up to 3e-5 pixels; that is most of what separates a float32 DPT from its
float64 self.
"""

import functools

import numpy as np
from keras import ops


def resize_bilinear(x, size, align_corners):
    """Resize maps bilinearly, without antialiasing.

    Two small matrix products, one per axis. They run on every backend, forward and backward, and
    accept sizes that are only known when the graph runs.

    Args:
        x: `(B, H, W, C)` float tensor.
        size: `(height, width)` of the result; integers or scalar integer tensors.
        align_corners: `True` maps the centres of corner pixels onto each other (all upsampling in
            DPT's decoder), `False` maps the pixels' outer borders, the half-pixel convention
            (position embeddings).

    Returns:
        `(B, height, width, C)` tensor with the dtype of `x`.

    Source: `torch.nn.functional.interpolate(mode="bilinear")`, whose float64 result this equals.
    """
    _, in_height, in_width, channels = ops.shape(x)
    height, width = size
    if all(isinstance(n, int) for n in (in_height, in_width, height, width)) and (
        (in_height, in_width) == (height, width)
    ):
        return x
    rows = ops.cast(_matrix(in_height, height, align_corners), x.dtype)
    columns = ops.cast(_matrix(in_width, width, align_corners), x.dtype)
    x = ops.matmul(rows, ops.reshape(x, (-1, in_height, in_width * channels)))
    return ops.matmul(columns, ops.reshape(x, (-1, height, in_width, channels)))


def _matrix(in_size, out_size, align_corners):
    """Interpolation weights, `(out_size, in_size)`: at most two a row, summing to one."""
    if isinstance(in_size, int) and isinstance(out_size, int):
        return _static_matrix(in_size, out_size, align_corners)
    return _weights(ops, in_size, out_size, align_corners)


@functools.lru_cache(maxsize=256)
def _static_matrix(in_size, out_size, align_corners):
    return _weights(np, in_size, out_size, align_corners).astype("float32")


def _weights(xp, in_size, out_size, align_corners):
    """The matrix in terms of `xp`, which is `numpy` or `keras.ops`."""
    index = xp.arange(out_size, dtype="int32")
    # Source position of output pixel i, as numerator / denominator in pixels of the input.
    if align_corners:
        denominator = xp.maximum(out_size - 1, 1)
        numerator = index * (in_size - 1)
    else:
        denominator = 2 * out_size
        numerator = xp.maximum((2 * index + 1) * in_size - out_size, 0)
    low = numerator // denominator
    fraction = xp.expand_dims((numerator - low * denominator) / denominator, 1)
    low = xp.expand_dims(low, 1)
    high = xp.minimum(low + 1, in_size - 1)
    column = xp.expand_dims(xp.arange(in_size, dtype="int32"), 0)
    return xp.where(column == low, 1 - fraction, 0) + xp.where(column == high, fraction, 0)


def resize_like(x, reference):
    """Resize maps bilinearly with aligned corners to the height and width of other maps.

    Args:
        x: `(B, H, W, C)` float tensor.
        reference: `(B, height, width, ...)` tensor.

    Returns:
        `(B, height, width, C)` tensor with the dtype of `x`; `x` itself if the sizes are equal.
    """
    size = ops.shape(reference)[1:3]
    if all(isinstance(side, int) for side in (*size, *ops.shape(x)[1:3])):
        return resize_bilinear(x, size, align_corners=True)
    # TensorFlow before it knows the sizes: two products with unit matrices would not be free.
    old_size = ops.shape(x)[1:3]
    same = ops.logical_and(ops.equal(size[0], old_size[0]), ops.equal(size[1], old_size[1]))
    return ops.cond(same, lambda: x, lambda: resize_bilinear(x, size, align_corners=True))
