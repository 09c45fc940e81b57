"""Large photos, window by window: where windows lie, and how depths of windows become one map."""

import numpy as np

from keras_dpt.errors import DepthError
from keras_dpt.maps.alignment import align_scale_shift


def check_side(side, smallest):
    """Raise ValueError unless `side` can be that of windows, or is `None`.

    Args: side: in pixels. smallest: the model's `size_multiple`.
    """
    if side is not None and not (isinstance(side, int) and side >= smallest):
        raise ValueError(
            f"`sliding_window` must be one number, at least {smallest}. Received: {side!r}."
        )


def windows(length, side):
    """Where windows lie along one axis, and which part of it each one labels.

    Args:
        length: of the axis, in pixels.
        side: of a window; `None` for one window as long as the axis.

    Returns: list of pairs of slices. Windows are `side` long (or the axis, if that is shorter) and
        overlap by a third or more; their parts, cut in the middle of overlaps, make up the axis.
    """
    side = length if side is None else min(side, length)
    count = 1 if side == length else 1 + -(-(length - side) // max(1, side * 2 // 3))
    starts = [round(i * (length - side) / max(1, count - 1)) for i in range(count)]
    cuts = [(a + side + b) // 2 for a, b in zip(starts, starts[1:], strict=False)]
    edges = [0, *cuts, length]
    return [
        (slice(start, start + side), slice(*part))
        for start, part in zip(starts, zip(edges, edges[1:], strict=False), strict=True)
    ]


def blend(whole, side, predict):
    """One inverse depth map out of those of windows, each of its own scale and shift.

    The look at the whole photo knows what is near and far, windows know details. Each window is
    brought onto the whole by least squares, then they fade into each other where they overlap. A
    window that contradicts the whole (a flat wall has no depth to align) leaves it as it is.

    Args:
        whole: `(H, W)` inverse depth of the whole photo.
        side: of windows, in pixels.
        predict: function of a list of `(rows, columns)` slices, to a list of `(h, w)` maps.

    Returns: `(H, W)` float32, within the range of values that `whole` and the windows have.
    """
    height, width = whole.shape
    total = np.zeros(whole.shape, "float32")
    weights = np.zeros(whole.shape, "float32")
    columns = [column for column, _ in windows(width, side)]
    for row, _ in windows(height, side):
        places = [(row, column) for column in columns]
        for place, values in zip(places, predict(places), strict=True):
            weight = _fading(values.shape)
            total[place] += weight * _onto(values, whole[place])
            weights[place] += weight
    return np.maximum(total / weights, whole.min())


def _onto(values, reference):
    """`values` with the scale and shift that bring them closest to `reference`."""
    try:
        scale, shift = align_scale_shift(values, reference)
    except DepthError:
        return reference
    return scale * values + shift if scale > 0 else reference


def _fading(shape):
    """Weights `(h, w)`: largest in the middle, small but above 0 at the border."""
    rows, columns = (1 - np.abs(np.linspace(-1, 1, n + 2)[1:-1]) for n in shape)
    return (rows[:, None] * columns).astype("float32")
