"""Metrics for segmentation, from logits and class ids. Ignored pixels count nowhere.

Labels are `(B, H, W)`, `(B, H, W, 1)` or one-hot, predictions logits `(B, h, w, num_classes)`,
resized like in the loss if the sizes differ. Not counted are pixels labelled `ignore_index`, pixels
whose label is no class at all, and pixels of sample weight 0.
"""

import keras
import numpy as np
from keras import ops

from keras_dpt.ops.labels import class_ids, per_pixel
from keras_dpt.ops.resize import resize_like


@keras.saving.register_keras_serializable(package="keras_dpt")
class MeanIoU(keras.metrics.MeanIoU):
    """Mean over classes of intersection / union, counted over all pixels seen since the reset.

    Classes that appear neither in labels nor in predictions have no such ratio and are left out of
    the mean; a class that is only predicted counts as 0. Keras's own metric, whose ratio this uses,
    takes class ids instead of logits of any size, and integer sample weights.

    Args:
        num_classes: classes of the model.
        ignore_index: label of pixels whose class is unknown.
    """

    def __init__(self, num_classes, ignore_index=255, name="mean_iou", dtype=None):
        # Counts in float32 lose at most digits when they grow large; in int32 they would wrap.
        super().__init__(num_classes, name=name, dtype=dtype or "float32")
        self.ignore_index = ignore_index

    def update_state(self, y_true, y_pred, sample_weight=None):
        labels, classes, weight = _pixels(y_true, y_pred, sample_weight, self.ignore_index)
        # Not Keras's: its scatter asks JAX for 64-bit indices, which JAX warns of.
        cells = ops.reshape(labels * self.num_classes + classes, (-1,))
        counts = ops.segment_sum(ops.reshape(weight, (-1,)), cells, self.num_classes**2)
        counts = ops.reshape(counts, (self.num_classes, self.num_classes))
        self.total_cm.assign_add(ops.cast(counts, self.total_cm.dtype))

    def per_class(self):
        """Intersection / union of each class, `(num_classes,)` float64; NaN where it has none."""
        counts = np.asarray(ops.convert_to_numpy(self.total_cm), "float64")
        hits = np.diag(counts)
        union = counts.sum(0) + counts.sum(1) - hits
        return np.divide(hits, union, out=np.full_like(hits, np.nan), where=union > 0)

    def get_config(self):
        return {
            "num_classes": self.num_classes,
            "ignore_index": self.ignore_index,
            "name": self.name,
            "dtype": self.dtype,
        }


@keras.saving.register_keras_serializable(package="keras_dpt")
class PixelAccuracy(keras.metrics.Mean):
    """Share of pixels whose most likely class is the right one.

    Args:
        ignore_index: label of pixels whose class is unknown.
    """

    def __init__(self, ignore_index=255, name="pixel_accuracy", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.ignore_index = ignore_index

    def update_state(self, y_true, y_pred, sample_weight=None):
        labels, classes, weight = _pixels(y_true, y_pred, sample_weight, self.ignore_index)
        super().update_state(ops.cast(ops.equal(labels, classes), "float32"), sample_weight=weight)

    def get_config(self):
        return {"ignore_index": self.ignore_index, "name": self.name, "dtype": self.dtype}


def _pixels(y_true, y_pred, sample_weight, ignore_index):
    """Labels and predicted classes, int32, and weights, float32, all `(B, H, W)`.

    Pixels that do not count have label 0 and weight 0.
    """
    labels = class_ids(y_true, ignore_index)
    logits = resize_like(ops.convert_to_tensor(y_pred), labels)
    counts = ops.logical_and(labels >= 0, labels < logits.shape[-1])
    counts = ops.logical_and(counts, ops.not_equal(labels, ignore_index))
    weight = ops.cast(counts, "float32")
    if sample_weight is not None:
        weight = weight * per_pixel(sample_weight, labels)
    classes = ops.cast(ops.argmax(logits, axis=-1), "int32")
    return ops.where(counts, labels, 0), classes, weight
