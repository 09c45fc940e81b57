"""Whether labels are classes of a model, said before its loss becomes NaN."""

import numpy as np
from keras import ops

from keras_dpt.errors import LabelError
from keras_dpt.models.data import in_graph, is_graph_tensor


def checked_labels(y, check, is_ours):
    """The labels `y`, after `check` of their values, which in `tf.data` comes later.

    Args:
        y: class ids, or one number per class and pixel.
        check: function of an array that raises.
        is_ours: whether the loss is `SegmentationLoss`; other losses may take any numbers per
            class.
    """
    if len(y.shape) == 4 and y.shape[-1] not in (1, None) and not is_ours:
        return y
    if is_graph_tensor(y):
        return in_graph(check, y)
    check(np.asarray(y) if hasattr(y, "__array__") else ops.convert_to_numpy(y))
    return y


def check_labels(labels, num_classes, ignore_index):
    """Raise a LabelError unless an array holds ids `(B, H, W)` or `(B, H, W, 1)`, or is one-hot."""
    if labels.ndim == 4 and labels.shape[-1] != 1:
        return _check_one_hot(labels, num_classes)
    if labels.ndim not in (3, 4):
        raise LabelError(
            "Labels must be (batch, height, width), one class id per pixel, or one-hot (batch, "
            f"height, width, {num_classes}). Received: {labels.shape}."
        )
    is_class = (labels >= 0) & (labels < num_classes)  # which NaN isn't
    wrong = ~is_class & (labels != ignore_index)
    if wrong.any():
        raise LabelError(
            f"Labels must be classes from 0 to {num_classes - 1}, or {ignore_index} where "
            f"unknown. Received: {labels[wrong][0]}. Renumber them."
        )


def class_table(class_weight, num_classes):
    """Weight of each class, float32, from `{id: weight}`; 1 of those that are not in it.

    Raises: LabelError: ids that are no class, or weights that are negative or no numbers.
    """
    table = np.ones(num_classes, "float32")
    try:
        for key, weight in dict(class_weight).items():
            if isinstance(key, str) or int(key) != key or not 0 <= key < num_classes:
                raise ValueError
            if not 0 <= float(weight) < float("inf"):
                raise ValueError
            table[int(key)] = weight
    except (TypeError, ValueError):
        raise LabelError(
            f"`class_weight` must be {{class id: weight}} with ids from 0 to {num_classes - 1} and "
            f"weights from 0 on. Received: {class_weight!r}."
        ) from None
    return table


def _check_one_hot(labels, num_classes):
    if labels.shape[-1] != num_classes:
        hint = ""
        if labels.shape[1] in (1, num_classes):
            hint = " Move the channels last: `np.moveaxis(y, 1, -1)`."
        raise LabelError(
            f"One-hot labels have one channel for each of the {num_classes} classes; labels of one "
            f"channel hold class ids. Received: {labels.shape}.{hint}"
        )
    is_one_hot = ((labels == 0) | (labels == 1)).all() and (labels.sum(axis=-1) <= 1).all()
    if not is_one_hot:
        raise LabelError(
            "`SegmentationLoss` takes one-hot labels, a single 1 among zeros, but these hold other "
            "numbers. Compile with `keras.losses.CategoricalCrossentropy(from_logits=True)` for "
            "probabilities."
        )
