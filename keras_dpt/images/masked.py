"""Masked arrays: a masked pixel is no pixel. NumPy only.

`np.asarray` drops the mask and hands out whatever is stored beneath, so everything that takes
arrays looks here first.
"""

import numpy as np


def refuse_masked(array, name, error_class, advice):
    """Raise `error_class` if an array has masked values.

    Args:
        array: what the user gave, before `np.asarray`.
        name: of the array in the message.
        error_class: of the error.
        advice: what to do, a sentence.
    """
    if np.ma.is_masked(array):
        count = int(np.ma.count_masked(array))
        raise error_class(f"{name}: {count} of {np.size(array)} values are masked. {advice}")


def nan_if_masked(array):
    """The array as float64, NaN where it is masked; other arrays are not copied if they are."""
    if np.ma.is_masked(array):
        return np.ma.filled(np.ma.asarray(array, "float64"), np.nan)
    return np.asarray(array, "float64")


def false_if_masked(mask):
    """A mask as a plain array of bool, false where it is itself masked."""
    return np.asarray(np.ma.filled(mask, False) if np.ma.is_masked(mask) else mask).astype(bool)


def filled(array, value):
    """An array with `value` where it is masked, of a type that holds it; others as they are."""
    if not np.ma.is_masked(array):
        return np.ma.getdata(array) if isinstance(array, np.ma.MaskedArray) else array
    if not np.can_cast(np.min_scalar_type(value), array.dtype):
        array = array.astype("float32" if isinstance(value, float) else "int32")
    return array.filled(value)


def weights_of_known(array, weights=None):
    """Weights `(B, H, W)` float32 of pixels, 0 where targets `(B, H, W[, C])` are masked.

    Args: weights: of each image or pixel, which they are multiplied by; `None` for 1.
    """
    known = ~np.ma.getmaskarray(array)
    known = (known.all(-1) if known.ndim == 4 else known).astype("float32")
    if weights is None:
        return known
    weights = np.asarray(weights, "float32")
    if weights.size == len(known):
        weights = weights.reshape(-1, 1, 1)
    return known * weights.reshape(weights.shape[:3])
