"""Bilinear resizing of feature maps: the one place where the network interpolates.

Interpolation positions are ratios of small integers, so they are kept as integers until the last
division. PyTorch and TensorFlow multiply a rounded float32 step by the index instead, which moves
the sampling points by up to 3e-5 pixels; that is most of what separates a float32 DPT from its
float64 self.
"""

import functools

import keras
import numpy as np
from keras import ops


def resize_bilinear(x, size, align_corners, rows=None):
    """Resize maps bilinearly, without antialiasing.

    Two products with small matrices, one per axis. They run on every backend, forward and
    backward, and accept sizes that are only known when the graph runs.

    Args:
        x: `(B, H, W, C)` float tensor.
        size: `(height, width)` of the result; integers or scalar integer tensors.
        align_corners: `True` maps the centres of corner pixels onto each other (all upsampling in
            DPT's decoder), `False` maps the pixels' outer borders, the half-pixel convention
            (position embeddings).
        rows: `(start, stop)` to get only these rows of the result; all sizes must be known then.

    Returns:
        `(B, height, width, C)` tensor with the dtype of `x`; `(B, stop - start, width, C)` of
        `rows`.

    Source: `torch.nn.functional.interpolate(mode="bilinear")`, whose float64 result this equals.
    """
    _, in_height, in_width, channels = ops.shape(x)
    height, width = size
    if rows is not None:
        x = _some_rows(x, height, align_corners, *rows)
        height = rows[1] - rows[0]
    elif all(isinstance(n, int) for n in (in_height, in_width, height, width)) and (
        (in_height, in_width) == (height, width)
    ):
        return x
    else:
        x = ops.reshape(x, (-1, in_height, in_width * channels))
        x = _interpolate(x, height, align_corners)
    x = _interpolate(ops.reshape(x, (-1, in_width, channels)), width, align_corners)
    return ops.reshape(x, (-1, height, width, channels))


def _some_rows(x, out_height, align_corners, start, stop):
    """Rows `start` to `stop` of `x`, `(B, H, W, C)`, resized along H only."""
    _, height, width, channels = x.shape
    matrix = _matrix(height, out_height, align_corners)[start:stop]
    used = np.flatnonzero(matrix.any(axis=0))
    columns = slice(int(used[0]), int(used[-1]) + 1)
    piece = ops.reshape(x[:, columns], (-1, columns.stop - columns.start, width * channels))
    return ops.matmul(ops.convert_to_tensor(matrix[:, columns], dtype=x.dtype), piece)


def _interpolate(x, out_size, align_corners):
    """Resize `(N, in, C)` along its middle axis: `(N, out_size, C)`.

    The matrix of weights has two entries a row, so its product with `x` has cheaper forms; which
    of them is fastest depends on the backend's compiler.
    """
    in_size = ops.shape(x)[1]
    if not (isinstance(in_size, int) and isinstance(out_size, int)):
        return ops.matmul(ops.cast(_weights(ops, in_size, out_size, align_corners), x.dtype), x)
    if keras.config.backend() == "jax":
        return _sum_of_taps(x, out_size, align_corners)
    bands, windows = _bands(in_size, out_size, align_corners)
    if windows is None:
        return ops.matmul(ops.cast(bands, x.dtype), x)
    return _product_of_bands(x, bands, windows)[:, :out_size]


def _product_of_bands(x, bands, windows):
    """Product of `x` with a matrix that was cut by `_bands`; may have more rows at the end.

    At 192 -> 384 two to three times faster than the whole matrix on TensorFlow and PyTorch, forward
    and backward.
    """
    count, rows, width = bands.shape
    channels = ops.shape(x)[-1]  # TensorFlow may not know it yet
    pieces = ops.reshape(ops.take(x, windows, axis=1), (-1, count, width, channels))
    x = ops.matmul(ops.cast(bands, x.dtype), pieces)
    return ops.reshape(x, (-1, count * rows, channels))


def _sum_of_taps(x, out_size, align_corners):
    """Sum of two shifted and weighted copies of `x`, which XLA makes in one pass.

    The gradient is such a sum, too; XLA's own would scatter, which takes ten times as long.
    """
    in_size = x.shape[1]

    @ops.custom_gradient
    def forward(x):
        return _gather(x, *_taps(in_size, out_size, align_corners)), backward

    def backward(upstream):
        return _gather(upstream, *_taps(in_size, out_size, align_corners, transposed=True))

    return forward(x)


def _gather(x, indices, weights):
    taps = zip(indices, weights, strict=True)
    return sum(ops.take(x, index, axis=1) * ops.cast(weight, x.dtype) for index, weight in taps)


@functools.lru_cache(maxsize=256)
def _matrix(in_size, out_size, align_corners):
    """Interpolation weights, `(out_size, in_size)`: at most two a row, summing to one."""
    return _weights(np, in_size, out_size, align_corners).astype("float32")


_BAND = 32  # rows; of 16, 32 and 48 the fastest


@functools.lru_cache(maxsize=256)
def _bands(in_size, out_size, align_corners):
    """The matrix in bands of rows, each with just the columns that are not 0.

    Returns: bands `(count, rows, width)`, and the columns of all of them, `(count * width)`; or the
        whole matrix and `None`, where that is no slower.
    """
    matrix = _matrix(in_size, out_size, align_corners)
    count = -(-out_size // _BAND)
    padded = np.pad(matrix, ((0, count * _BAND - out_size), (0, 0)))
    used = [np.flatnonzero(band.any(axis=0)) for band in padded.reshape(count, _BAND, in_size)]
    width = max(columns[-1] + 1 - columns[0] for columns in used)
    if in_size < 64 or 2 * width > in_size:
        return matrix, None
    starts = [min(columns[0], in_size - width) for columns in used]
    windows = np.stack([np.arange(start, start + width) for start in starts]).astype("int32")
    bands = np.stack([padded[i * _BAND : (i + 1) * _BAND, w] for i, w in enumerate(windows)])
    return bands, windows.ravel()


@functools.lru_cache(maxsize=256)
def _taps(in_size, out_size, align_corners, transposed=False):
    """The matrix, or its transpose, as columns and weights of the entries that are not 0.

    Returns: indices `(taps, rows)` and weights `(taps, rows, 1)`; where a row has fewer entries
        than another, weights of 0.
    """
    matrix = _matrix(in_size, out_size, align_corners)
    matrix = matrix.T if transposed else matrix
    taps = max(1, np.count_nonzero(matrix, axis=1).max())
    # Those that are not 0 first, in their order.
    indices = np.argsort(matrix == 0, axis=1, kind="stable")[:, :taps]
    weights = np.take_along_axis(matrix, indices, axis=1)
    return indices.T.astype("int32"), weights.T[..., None]


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
    # Not `/`, which makes float64 of TensorFlow's integers; LiteRT has none.
    fraction = xp.expand_dims(xp.true_divide(numerator - low * denominator, denominator), 1)
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
