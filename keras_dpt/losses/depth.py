"""Losses for depth. One rule of validity: target finite and above zero, sample weight above zero.

Invalid pixels are replaced *before* any arithmetic: their values reach neither loss nor gradient.
"""

import keras
from keras import ops

from keras_dpt.ops.alignment import aligned
from keras_dpt.ops.labels import is_per_image, per_pixel


class DepthLoss(keras.losses.Loss):
    """Base class: sorts out valid pixels and leaves the formula to `per_image`.

    Targets and predictions are `(B, H, W, 1)` or `(B, H, W)`. Sample weights mark pixels as valid
    (above zero) or not if they have the target's shape or broadcast to it, and weigh whole images
    if they are `(B,)`, or that with axes of 1.
    The loss is the mean over images; an image without a valid pixel contributes zero.
    """

    def __call__(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            y_true = ops.convert_to_tensor(y_true)
            sample_weight = ops.cast(ops.convert_to_tensor(sample_weight), "float32")
            if is_per_image(sample_weight):
                sample_weight = ops.reshape(sample_weight, (-1,))
            else:
                target = _maps(y_true)
                known = per_pixel(sample_weight, target) > 0
                y_true = ops.where(known, target, ops.zeros_like(target))
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
    """Trimmed, scale- and shift-invariant error, with multi-scale gradient matching.

    Prediction d and target d* are brought to one scale and shift over the M valid pixels. With
    `alignment="median"`, t(d) the median and s(d) the mean absolute deviation from it,

        R = (d - t(d)) / s(d) - (d* - t(d*)) / s(d*),  rho(R) = |R|

    and with `alignment="least_squares"`, a and b those of the smallest sum of R**2,

        R = a * d + b - d*,  rho(R) = R**2.

    Then

        L = 1 / (2M) * sum of rho(R) without its largest `trim` part
            + gradient_weight * sum_k 1 / M_k * sum(|dR_k/dx| + |dR_k/dy|)

    where R_k is R at every 2**k-th pixel, k = 0 .. scales - 1, and differences are taken between
    valid neighbours. DPT's loss is the default, MiDaS's L_ssimse
    `alignment="least_squares", trim=0`, which is in the target's unit squared.

    Args:
        trim: share of the largest residuals that are left out of the first term.
        gradient_weight: weight of the second term; 0 leaves it out (sparse targets).
        scales: number of scales of the second term.
        alignment: "median" or "least_squares".

    Targets: inverse depth; zero, negative or non-finite where unknown.
    Raises: ValueError: an unknown `alignment`.
    Source: Ranftl et al. 2020 (arXiv 1907.01341), equations 3 to 8 and 11; the weights are DPT's.
    """

    def __init__(
        self,
        trim=0.2,
        gradient_weight=0.5,
        scales=4,
        alignment="median",
        name="scale_shift_invariant",
        **kwargs,
    ):
        if alignment not in ("median", "least_squares"):
            raise ValueError(
                f'`alignment` must be "median" or "least_squares". Received: {alignment!r}.'
            )
        super().__init__(name=name, **kwargs)
        self.trim = trim
        self.gradient_weight = gradient_weight
        self.scales = scales
        self.alignment = alignment

    def per_image(self, target, prediction, valid):
        if self.alignment == "median":
            residual = _normalize(prediction, valid) - _normalize(target, valid)
            cost = ops.abs(residual)
        else:
            residual = _aligned(prediction, target, valid) - ops.where(valid, target, 0.0)
            cost = residual**2
        loss = self._trimmed(cost, valid)
        if self.gradient_weight:
            loss = loss + self.gradient_weight * _gradients(residual, valid, self.scales)
        return loss

    def _trimmed(self, cost, valid):
        cost, valid = _flat(cost), _flat(valid)
        count = _count(valid)
        kept = valid
        if self.trim:
            number = ops.cast(ops.floor((1 - self.trim) * ops.cast(count, "float32")), "int32")
            limit = _nth_smallest(cost, valid, ops.maximum(number, 1) - 1)
            kept = ops.logical_and(valid, cost <= limit)
        return ops.sum(ops.where(kept, cost, 0.0), axis=1) / (2 * _at_least_one(count))

    def get_config(self):
        return super().get_config() | {
            "trim": self.trim,
            "gradient_weight": self.gradient_weight,
            "scales": self.scales,
            "alignment": self.alignment,
        }


@keras.saving.register_keras_serializable(package="keras_dpt")
class GradientMatchingLoss(DepthLoss):
    """Absolute error of slopes at several scales: edges where the target has them, nowhere else.

    With R = prediction - target, R_k at every 2**k-th pixel and M_k the valid pixels of that:

        L = weight * sum_k 1 / M_k * sum(|dR_k/dx| + |dR_k/dy|),  k = 0 .. scales - 1

    Differences are taken between valid neighbours, of which sparse targets have none. Blind to a
    shift but not to scale: relative models want `ScaleShiftInvariantLoss`, which holds this term.

    Args:
        weight: factor of the loss.
        scales: number of scales.

    Targets: in the predictions' unit; zero, negative or non-finite where unknown.
    Source: Ranftl et al. 2020 (arXiv 1907.01341), equation 11, on maps as they are.
    """

    def __init__(self, weight=0.5, scales=4, name="gradient_matching", **kwargs):
        super().__init__(name=name, **kwargs)
        self.weight = weight
        self.scales = scales

    def per_image(self, target, prediction, valid):
        residual = ops.where(valid, prediction - target, 0.0)
        return self.weight * _gradients(residual, valid, self.scales)

    def get_config(self):
        return super().get_config() | {"weight": self.weight, "scales": self.scales}


@keras.saving.register_keras_serializable(package="keras_dpt")
class ScaleInvariantLogLoss(DepthLoss):
    """Scale-invariant error of log depth, for metric models.

    With g = log(prediction) - log(target) over the M valid pixels:

        D = mean(g**2) - variance_focus * mean(g)**2
        L = weight * D, or weight * sqrt(D) with `root=True`

    Eigen et al. have the default, variance_focus 0.5. BTS and AdaBins use `variance_focus=0.85,
    root=True, weight=10`; over a batch of one, that is: they take M over the whole batch, where
    this averages over images.

    Args:
        variance_focus: lambda; 1 ignores the overall scale, 0 is the mean squared log error.
        root: whether to take the square root.
        weight: factor of the loss.

    Targets: depth in metres; zero, negative or non-finite where unknown.
    Source: Eigen et al. 2014 (arXiv 1406.2283), equation 4; Lee et al. 2019 (arXiv 1907.10326),
        equation 4, for the root.
    """

    def __init__(
        self, variance_focus=0.5, root=False, weight=1.0, name="scale_invariant_log", **kwargs
    ):
        super().__init__(name=name, **kwargs)
        self.variance_focus = variance_focus
        self.root = root
        self.weight = weight

    def per_image(self, target, prediction, valid):
        prediction = ops.where(valid, ops.maximum(prediction, 1e-6), 1.0)
        valid = _flat(valid)
        difference = _flat(ops.log(prediction) - ops.log(target))  # zero where not valid
        count = _at_least_one(_count(valid))
        mean = ops.sum(difference, axis=1) / count
        # The variance from deviations: as a difference of squares, rounding could make it negative.
        deviation = ops.where(valid, difference - mean[:, None], 0.0)
        loss = ops.sum(deviation**2, axis=1) / count + (1 - self.variance_focus) * mean**2
        if self.root:
            # The root has no slope at zero; below this error there is nothing left to learn.
            loss = ops.where(loss > 1e-12, ops.sqrt(ops.maximum(loss, 1e-12)), 0.0)
        return self.weight * loss

    def get_config(self):
        return super().get_config() | {
            "variance_focus": self.variance_focus,
            "root": self.root,
            "weight": self.weight,
        }


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


def _aligned(prediction, target, valid):
    """The prediction times a scale plus a shift, nearest to the target in squares; 0 elsewhere."""
    flat_valid = _flat(valid)
    values = aligned(_flat(prediction), _flat(target), flat_valid)
    return ops.reshape(ops.where(flat_valid, values, 0.0), ops.shape(prediction))


def _gradients(residual, valid, scales):
    """The gradient term of each image: its sum over every 2**k-th pixel, k below `scales`."""
    steps = [2**k for k in range(scales)]
    return sum(_gradient(residual[:, ::n, ::n], valid[:, ::n, ::n]) for n in steps)


def _gradient(residual, valid):
    """Mean absolute difference between valid neighbours, along both axes of `(B, H, W)`."""
    x = ops.abs(residual[:, :, 1:] - residual[:, :, :-1])
    y = ops.abs(residual[:, 1:, :] - residual[:, :-1, :])
    x_valid = ops.logical_and(valid[:, :, 1:], valid[:, :, :-1])
    y_valid = ops.logical_and(valid[:, 1:, :], valid[:, :-1, :])
    total = ops.sum(ops.where(x_valid, x, 0.0), axis=(1, 2))
    total = total + ops.sum(ops.where(y_valid, y, 0.0), axis=(1, 2))
    return total / _at_least_one(_count(_flat(valid)))
