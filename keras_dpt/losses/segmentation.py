"""Losses for segmentation. Pixels of unknown class and of sample weight 0 do not count."""

import keras
from keras import ops

from keras_dpt.errors import LabelError
from keras_dpt.ops.labels import class_ids, per_pixel
from keras_dpt.ops.resize import resize_like


@keras.saving.register_keras_serializable(package="keras_dpt")
class SegmentationLoss(keras.losses.Loss):
    """Cross-entropy of each pixel's class, averaged over the pixels that have one.

    The mean is over all valid pixels of the batch, as in the original, so a pixel counts the same
    in a picture full of labels and in one with few. Pixels labelled `ignore_index` and pixels of
    sample weight 0 are not valid: they change neither the loss nor its gradient. A batch without
    any valid pixel has loss 0 and gradient 0. With `tf.distribute` or PyTorch's DDP each device
    averages over its own part of the batch; with `keras.distribution` it is the whole batch.

    Args:
        ignore_index: label of pixels whose class is unknown.
        class_weights: one number per class, by which the losses of its pixels are multiplied, to
            make rare classes count; pixels of a class of weight 0 are not valid. `None`: all 1.
            `DPTSegmentation.fit(class_weight={id: number})` does the same for one training.

    Targets: class ids `(B, H, W)` or `(B, H, W, 1)`, integer or float, or one-hot
        `(B, H, W, num_classes)`, where a pixel that is 0 for every class is unknown.
        A label that is neither a class nor `ignore_index` makes the loss NaN, so that it cannot go
        unnoticed: data set and model do not agree then. (`DPTSegmentation.fit` says which label it
        was.)
    Predictions: logits `(B, h, w, num_classes)`; of another size than the targets, they are
        resized bilinearly with aligned corners.
    Sample weights: one per pixel, in the targets' shape, or one per image, `(B,)`, or of any shape
        that broadcasts to these; a valid pixel's loss is multiplied by its weight, the divisor
        remains the number of valid pixels.
    Raises: LabelError: (a ValueError) `class_weights` that are negative or not one per class.
    Source: Ranftl et al. 2021 (arXiv 2103.13413), section 4.2.
    """

    def __init__(self, ignore_index=255, name="segmentation", dtype=None, class_weights=None):
        super().__init__(name=name, dtype=dtype)
        self.ignore_index = ignore_index
        if class_weights is not None:
            class_weights = [float(weight) for weight in class_weights]
            if not all(0 <= weight < float("inf") for weight in class_weights):
                raise LabelError(
                    f"`class_weights` must be numbers from 0 on. Received: {class_weights}."
                )
        self.class_weights = class_weights

    def __call__(self, y_true, y_pred, sample_weight=None):
        labels = class_ids(y_true, self.ignore_index)
        if sample_weight is not None:
            sample_weight = per_pixel(sample_weight, labels)
            unknown = ops.full_like(labels, self.ignore_index)
            labels = ops.where(sample_weight > 0, labels, unknown)
        return super().__call__(labels, y_pred, sample_weight)

    def call(self, y_true, y_pred):
        labels = class_ids(y_true, self.ignore_index)
        logits = resize_like(ops.cast(y_pred, "float32"), labels)
        valid = ops.not_equal(labels, self.ignore_index)
        is_class = ops.logical_and(labels >= 0, labels < logits.shape[-1])
        # Class 0 stands in for what is not a class: the loss that this gives is discarded below.
        safe = ops.where(ops.logical_and(valid, is_class), labels, 0)
        loss = ops.sparse_categorical_crossentropy(safe, logits, from_logits=True)
        if self.class_weights is not None:
            weights = ops.take(self._table(logits.shape[-1]), safe)
            loss = loss * weights
            valid = ops.logical_and(valid, ops.logical_or(weights > 0, ops.logical_not(is_class)))
        loss = ops.where(valid, ops.where(is_class, loss, float("nan")), 0.0)
        # Keras divides by the number of all pixels; this makes it the number of valid ones.
        count = ops.sum(ops.cast(valid, "float32"))
        return loss * (ops.cast(ops.size(loss), "float32") / ops.maximum(count, 1.0))

    def _table(self, num_classes):
        if len(self.class_weights) != num_classes:
            raise LabelError(
                f"`class_weights` must be one number for each of the {num_classes} classes. "
                f"Received: {self.class_weights}."
            )
        return ops.convert_to_tensor(self.class_weights, "float32")

    def get_config(self):
        return {
            "name": self.name,
            "ignore_index": self.ignore_index,
            "class_weights": self.class_weights,
        }
