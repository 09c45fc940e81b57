"""Losses for depth. One rule of validity: target finite and above zero, sample weight above zero.

Invalid pixels are replaced *before* any arithmetic: their values reach neither loss nor gradient.
"""

import keras
from keras import ops


class DepthLoss(keras.losses.Loss):
    """Base class: sorts out valid pixels and leaves the formula to `per_image`.

    Targets and predictions are `(B, H, W, 1)` or `(B, H, W)`. Sample weights mark pixels as valid
    (above zero) or not if they have the target's shape, and weigh whole images if they are `(B,)`.
    The loss is the mean over images; an image without a valid pixel contributes zero.
    """

    def __call__(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None and len(sample_weight.shape) > 1:
            sample_weight = ops.reshape(ops.cast(sample_weight, "float32"), ops.shape(y_true))
            y_true = ops.where(sample_weight > 0, y_true, ops.zeros_like(y_true))
            sample_weight = None
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true, y_pred):
        target, prediction = (_maps(ops.cast(y, "float32")) for y in (y_true, y_pred))
        sizes = tuple(target.shape[1:]), tuple(prediction.shape[1:])
        if None not in sizes[0] + sizes[1] and sizes[0] != sizes[1]:
            raise ValueError(
                f"Targets are {sizes[0]} but predictions {sizes[1]} (height, width). `fit` resizes "
                "images as the preprocessor says: set `model.preprocessor.image_size` to the "
                "targets' size."
            )
        # A comparison with NaN is false, and infinity is not below the largest float.
        valid = ops.logical_and(target > 0, target < 3e38)
        return self.per_image(ops.where(valid, target, 1.0), prediction, valid)

    def per_image(self, target, prediction, valid):
        """Loss of each image, `(B,)`; the target is 1 where not `valid`. Maps are `(B, H, W)`."""
        raise NotImplementedError


@keras.saving.register_keras_serializable(package="keras_dpt")
class ScaleShiftInvariantLoss(DepthLoss):
    """Trimmed, scale- and shift-invariant absolute error, with multi-scale gradient matching.

    With t(d) the median and s(d) the mean absolute deviation from it over the M valid pixels,
    d^ = (d - t(d)) / s(d) for prediction and target, and R = d^ - d^*:

        L = 1 / (2M) * sum of |R| without its largest `trim` part
            + gradient_weight * sum_k 1 / M_k * sum(|dR_k/dx| + |dR_k/dy|)

    where R_k is R at every 2**k-th pixel, k = 0 .. scales - 1, and differences are taken between
    valid neighbours.

    Args:
        trim: share of the largest residuals that are left out of the first term.
        gradient_weight: weight of the second term; 0 leaves it out (sparse targets).
        scales: number of scales of the second term.

    Targets: inverse depth; zero, negative or non-finite where unknown.
    Source: Ranftl et al. 2020 (arXiv 1907.01341), equations 5, 7, 8 and 11; the weights are DPT's.
    """

    def __init__(
        self, trim=0.2, gradient_weight=0.5, scales=4, name="scale_shift_invariant", **kwargs
    ):
        super().__init__(name=name, **kwargs)
        self.trim = trim
        self.gradient_weight = gradient_weight
        self.scales = scales

    def per_image(self, target, prediction, valid):
        residual = _normalize(prediction, valid) - _normalize(target, valid)
        loss = self._trimmed(residual, valid)
        if self.gradient_weight:
            loss = loss + self.gradient_weight * sum(
                _gradient(residual[:, :: 2**k, :: 2**k], valid[:, :: 2**k, :: 2**k])
                for k in range(self.scales)
            )
        return loss

    def _trimmed(self, residual, valid):
        residual, valid = _flat(ops.abs(residual)), _flat(valid)
        count = _count(valid)
        kept = ops.cast(ops.floor((1 - self.trim) * ops.cast(count, "float32")), "int32")
        limit = _nth_smallest(residual, valid, ops.maximum(kept, 1) - 1)
        inside = ops.logical_and(valid, residual <= limit)
        total = ops.sum(ops.where(inside, residual, 0.0), axis=1)
        return total / (2 * _at_least_one(count))

    def get_config(self):
        return super().get_config() | {
            "trim": self.trim,
            "gradient_weight": self.gradient_weight,
            "scales": self.scales,
        }


@keras.saving.register_keras_serializable(package="keras_dpt")
class ScaleInvariantLogLoss(DepthLoss):
    """Scale-invariant error of log depth, for metric models.

    With g = log(prediction) - log(target) over the M valid pixels:

        L = mean(g**2) - variance_focus * mean(g)**2

    Args:
        variance_focus: lambda; 1 ignores the overall scale, 0 is the mean squared log error.

    Targets: depth in metres; zero, negative or non-finite where unknown.
    Source: Eigen et al. 2014 (arXiv 1406.2283), equation 4, lambda 0.5.
    """

    def __init__(self, variance_focus=0.5, name="scale_invariant_log", **kwargs):
        super().__init__(name=name, **kwargs)
        self.variance_focus = variance_focus

    def per_image(self, target, prediction, valid):
        prediction = ops.where(valid, ops.maximum(prediction, 1e-6), 1.0)
        difference = _flat(ops.log(prediction) - ops.log(target))  # zero where not valid
        count = _at_least_one(_count(_flat(valid)))
        mean = ops.sum(difference, axis=1) / count
        return ops.sum(difference**2, axis=1) / count - self.variance_focus * mean**2

    def get_config(self):
        return super().get_config() | {"variance_focus": self.variance_focus}


def _maps(y):
    return ops.squeeze(y, axis=-1) if len(y.shape) == 4 else y


def _flat(x):
    shape = ops.shape(x)
    return ops.reshape(x, (shape[0], shape[1] * shape[2]))


def _count(valid):
    return ops.sum(ops.cast(valid, "int32"), axis=1)


def _at_least_one(count):
    return ops.cast(ops.maximum(count, 1), "float32")


def _nth_smallest(x, valid, n):
    """The `n`-th smallest valid value of each row of `(B, N)`, as `(B, 1)`; no gradient."""
    ordered = ops.sort(ops.where(valid, ops.stop_gradient(x), 3e38), axis=1)
    return ops.take_along_axis(ordered, n[:, None], axis=1)


def _median(x, valid):
    """The lower median of the valid values of each row of `(B, N)`, as `(B, 1)`; 0 if none is.

    Its gradient goes to the pixels that have this value. Without it the loss would not be blind to
    shifts, and push predictions until the head's ReLU has silenced all of them.
    """
    count = _count(valid)
    median = _nth_smallest(x, valid, ops.maximum(count - 1, 0) // 2)
    median = ops.where(count[:, None] > 0, median, 0.0)
    here = ops.logical_and(valid, ops.stop_gradient(x) == median)
    mean = ops.sum(ops.where(here, x, 0.0), axis=1) / _at_least_one(_count(here))
    return median + (mean - ops.stop_gradient(mean))[:, None]


def _normalize(x, valid):
    """Zero median and unit mean absolute deviation over the valid pixels of each map."""
    flat, flat_valid = _flat(x), _flat(valid)
    median = _median(flat, flat_valid)
    deviation = ops.abs(ops.where(flat_valid, flat - median, 0.0))
    scale = ops.sum(deviation, axis=1) / _at_least_one(_count(flat_valid))
    # A constant map has no scale; it is shifted to zero and left at that.
    scale = ops.where(scale > 1e-6, scale, 1.0)[:, None, None]
    return ops.where(valid, (x - median[:, :, None]) / scale, 0.0)


def _gradient(residual, valid):
    """Mean absolute difference between valid neighbours, along both axes of `(B, H, W)`."""
    x = ops.abs(residual[:, :, 1:] - residual[:, :, :-1])
    y = ops.abs(residual[:, 1:, :] - residual[:, :-1, :])
    x_valid = ops.logical_and(valid[:, :, 1:], valid[:, :, :-1])
    y_valid = ops.logical_and(valid[:, 1:, :], valid[:, :-1, :])
    total = ops.sum(ops.where(x_valid, x, 0.0), axis=(1, 2))
    total = total + ops.sum(ops.where(y_valid, y, 0.0), axis=(1, 2))
    return total / _at_least_one(_count(_flat(valid)))
