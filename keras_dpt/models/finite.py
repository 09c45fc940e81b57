"""Weights that are numbers: NaN and infinity are refused before they predict anything."""

import keras
import numpy as np

from keras_dpt.errors import WeightsError


def all_finite(array) -> bool:
    """Whether no number of an array is NaN or infinite; as quick as memory is for large ones."""
    if array.dtype.itemsize < 4:
        array = array.astype("float32")
    flat = array.ravel(order="K")
    with np.errstate(over="ignore", invalid="ignore"):
        # A product of NaN or infinity is none; one that is too large is no proof.
        return bool(np.isfinite(flat @ flat)) or bool(np.isfinite(flat).all())


def check_finite(variables, name):
    """Raise a WeightsError, naming the variable, if one of a network's has NaN or infinity.

    TensorFlow's ReLU makes 0 of NaN, so that a broken network predicts maps that look like any.

    Args: name: of the file that they come from.
    """
    bad = [variable.path for variable in variables if not _is_finite(variable)]
    if bad:
        others = f" and {len(bad) - 1} more variables" if len(bad) > 1 else ""
        raise WeightsError(
            f"{name} holds weights that are NaN or infinite, in {bad[0]}{others}. Fetch it again; "
            "if it is your own, its training diverged: take an earlier state."
        )


def _is_finite(variable):
    if not keras.backend.is_float_dtype(variable.dtype):
        return True
    if not getattr(variable.value, "is_fully_addressable", True):
        return True  # on other machines
    return all_finite(keras.ops.convert_to_numpy(variable.value))
