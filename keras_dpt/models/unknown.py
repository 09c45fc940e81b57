"""Targets that are NaN or infinite, before they make a loss NaN.

They mean "unknown" to the losses of this package, and may to a user's. So it is the loss that is
asked: whether it stays finite for such targets.
"""

import keras
import numpy as np
from keras import ops

from keras_dpt.errors import TrainingError
from keras_dpt.losses.depth import DepthLoss
from keras_dpt.losses.segmentation import SegmentationLoss
from keras_dpt.models.data import in_graph, is_graph_tensor
from keras_dpt.models.finite import all_finite


def check_unknown(task, y, sample_weight=None):
    """Targets `y` as they are, after a look at their values, which in `tf.data` comes later.

    Args: sample_weight: of images or pixels, or `None`.
    Raises: TrainingError: some are NaN or infinite, and the loss of `task` would be.
    """
    if not _may_break(task):
        return y
    if is_graph_tensor(y):
        return in_graph(lambda values: _check(task, values), y) if y.dtype.is_floating else y
    _check(task, _array(y), None if sample_weight is None else _array(sample_weight))
    return y


def _may_break(task):
    loss = getattr(task, "loss", None)  # not before `compile`
    if loss is None or isinstance(loss, DepthLoss | SegmentationLoss):
        return False  # they pass over unknown pixels, or name them
    return type(task).compute_loss.__module__.startswith("keras_dpt.")  # else it may mend targets


def _array(x):
    return np.asarray(x) if hasattr(x, "__array__") else ops.convert_to_numpy(x)


def _check(task, y, sample_weight=None):
    if y.dtype.kind != "f" or all_finite(y):
        return
    bad = ~np.isfinite(y)
    first = int(np.flatnonzero(bad.reshape(len(y), -1).any(axis=1))[0])
    weight = None if sample_weight is None else sample_weight[first : first + 1]
    if _stays_finite(task, y[first : first + 1].astype("float32"), weight):
        return
    raise TrainingError(
        f"Targets are unknown where they are NaN or infinite ({np.count_nonzero(bad)} of "
        f"{bad.size} values), which the loss {_name(task.loss)!r} does not pass over. Give them as "
        "a masked array, or finite with a `sample_weight` of 0 for these pixels."
    )


def _stays_finite(task, y, sample_weight):
    """Whether the loss of one image is finite, for a prediction that is 1 everywhere."""
    channels = getattr(task.output, "shape", (None,))[-1]
    shape = y.shape if y.ndim < 3 or channels is None else (*y.shape[:3], channels)
    try:
        loss = keras.losses.get(task.loss)
        options = {"sample_weight": sample_weight} if isinstance(loss, keras.losses.Loss) else {}
        value = loss(ops.convert_to_tensor(y), ops.ones(shape), **options)
        return all_finite(np.asarray(ops.convert_to_numpy(value)))
    except Exception:  # a loss of another form, on which training will tell
        return True


def _name(loss):
    return loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
