"""Metrics for depth in `fit` and `evaluate`: one value per image, averaged over images.

    model.compile(metrics=[AbsRel(), Delta1()])                                   # metres
    model.compile(metrics=[AbsRel(aligned=True), Delta1(aligned=True)])           # relative

Truth and prediction are `(B, H, W)` or `(B, H, W, 1)`. Without alignment both are metres. With
`aligned=True` both are inverse depth: scale and shift that bring the prediction onto the truth are
fitted by least squares for each image, and the error is then measured in depth, 1 / inverse depth.

A pixel counts if its truth is finite and above zero, inside the metric's range, and its sample
weight is above zero. An image without such a pixel counts nowhere; if no image has one, the result
is NaN.
`keras_dpt.evaluation` measures the same in float64, with crops and a value kept for every image.
"""

import math

import keras
from keras import ops

from keras_dpt.errors import DepthError
from keras_dpt.ops.alignment import aligned
from keras_dpt.ops.labels import is_per_image, per_pixel

_LARGEST = 3e38  # infinity is not below it


class _Mean(keras.metrics.Mean):
    """A mean that is NaN, not a perfect zero, where nothing was measured."""

    def result(self):
        return ops.where(self.count > 0, super().result(), float("nan"))


class DepthMetric(_Mean):
    """Base class: sorts out pixels, aligns, clips, and leaves the formula to `per_image`.

    Args:
        aligned: whether truth and prediction are inverse depth, to be aligned image by image; else
            they are metres.
        min_depth: metres; nearer predictions are taken for this, nearer truth does not count.
        max_depth: the same at the far end; `None` is no limit for metres, and for aligned maps the
            farthest known pixel of each image, since the fit may put others behind infinity.

    Raises: DepthError: (a ValueError) a range that is none; truth and prediction of other sizes.
    """

    def __init__(self, aligned=False, min_depth=1e-3, max_depth=None, name=None, dtype=None):
        if not 0 < min_depth < (max_depth or math.inf):
            raise DepthError(
                "`min_depth` must be above 0 and below `max_depth`. Received: "
                f"{min_depth} and {max_depth}."
            )
        super().__init__(name=name or self.default_name, dtype=dtype or "float32")
        self.aligned = aligned
        self.min_depth = min_depth
        self.max_depth = max_depth

    def update_state(self, y_true, y_pred, sample_weight=None):
        truth, prediction = _map(y_true), _map(y_pred)
        _check_sizes(truth, prediction)
        valid, weight = _valid(truth, sample_weight)
        truth, prediction = _flat(truth), _flat(prediction)
        truth, prediction, valid = self._as_depth(truth, prediction, valid)
        count = ops.sum(ops.cast(valid, "float32"), axis=1)
        values = self.per_image(truth, prediction, valid, ops.maximum(count, 1.0))
        super().update_state(values, sample_weight=weight * ops.cast(count > 0, "float32"))

    def per_image(self, truth, prediction, valid, count):
        """The metric of each image, `(B,)`.

        Args:
            truth, prediction: `(B, N)` float32, metres, above 0; both 1 where not `valid`.
            valid: `(B, N)` bool.
            count: `(B,)` float32, how many pixels are valid, at least 1.
        """
        raise NotImplementedError

    def get_config(self):
        return {
            "aligned": self.aligned,
            "min_depth": self.min_depth,
            "max_depth": self.max_depth,
            "name": self.name,
            "dtype": self.dtype,
        }

    def _as_depth(self, truth, prediction, valid):
        """Metres of both, clipped to the range; 1 where not valid."""
        if self.aligned:
            prediction = aligned(prediction, truth, valid)
            farthest = ops.min(ops.where(valid, truth, _LARGEST), axis=1, keepdims=True)
            lowest = 1 / self.max_depth if self.max_depth else farthest
            prediction = 1 / ops.where(valid, ops.maximum(prediction, lowest), 1.0)
            truth = 1 / ops.where(valid, truth, 1.0)
        valid = ops.logical_and(valid, truth > self.min_depth)
        if self.max_depth:
            valid = ops.logical_and(valid, truth < self.max_depth)
        prediction = ops.clip(prediction, self.min_depth, self.max_depth or _LARGEST)
        return ops.where(valid, truth, 1.0), ops.where(valid, prediction, 1.0), valid


@keras.saving.register_keras_serializable(package="keras_dpt")
class AbsRel(DepthMetric):
    """Mean of |prediction - truth| / truth.

    Source: Eigen et al. 2014 (arXiv 1406.2283), section 4.3, as all metrics here but `Log10`.
    """

    default_name = "abs_rel"

    def per_image(self, truth, prediction, valid, count):
        return ops.sum(ops.abs(prediction - truth) / truth, axis=1) / count


@keras.saving.register_keras_serializable(package="keras_dpt")
class SqRel(DepthMetric):
    """Mean of (prediction - truth)^2 / truth, metres."""

    default_name = "sq_rel"

    def per_image(self, truth, prediction, valid, count):
        return ops.sum((prediction - truth) ** 2 / truth, axis=1) / count


@keras.saving.register_keras_serializable(package="keras_dpt")
class RMSE(DepthMetric):
    """Root of the mean squared error of an image, metres."""

    default_name = "rmse"

    def per_image(self, truth, prediction, valid, count):
        return ops.sqrt(ops.sum((prediction - truth) ** 2, axis=1) / count)


@keras.saving.register_keras_serializable(package="keras_dpt")
class RMSELog(DepthMetric):
    """Root of the mean squared error of the natural logarithm of depth, per image."""

    default_name = "rmse_log"

    def per_image(self, truth, prediction, valid, count):
        return ops.sqrt(ops.sum(_log_ratio(truth, prediction) ** 2, axis=1) / count)


@keras.saving.register_keras_serializable(package="keras_dpt")
class Log10(DepthMetric):
    """Mean absolute error of the decimal logarithm of depth.

    Source: Saxena et al. 2009, "Make3D".
    """

    default_name = "log10"

    def per_image(self, truth, prediction, valid, count):
        ratio = ops.abs(_log_ratio(truth, prediction))
        return ops.sum(ratio, axis=1) / (count * math.log(10))


@keras.saving.register_keras_serializable(package="keras_dpt")
class SILog(DepthMetric):
    """100 times the standard deviation of log(prediction / truth): blind to a common factor.

    The form of the KITTI benchmark, root and hundred included.
    """

    default_name = "silog"

    def per_image(self, truth, prediction, valid, count):
        ratio = _log_ratio(truth, prediction)
        mean = ops.sum(ratio, axis=1) / count
        # About the mean: the difference of two nearly equal squares would lose all digits.
        deviation = ops.where(valid, ratio - mean[:, None], 0.0)
        return 100 * ops.sqrt(ops.sum(deviation**2, axis=1) / count)


@keras.saving.register_keras_serializable(package="keras_dpt")
class Delta1(DepthMetric):
    """Share of pixels where max(prediction / truth, truth / prediction) < 1.25.

    Args:
        aligned, min_depth, max_depth: see `DepthMetric`.
        complement: measure the other pixels' share instead, which DPT's paper prints as delta >
            1.25.
    """

    default_name = "d1"
    threshold = 1.25

    def __init__(
        self,
        aligned=False,
        min_depth=1e-3,
        max_depth=None,
        complement=False,
        name=None,
        dtype=None,
    ):
        name = name or self.default_name + "_complement" * complement
        super().__init__(aligned, min_depth, max_depth, name, dtype)
        self.complement = complement

    def per_image(self, truth, prediction, valid, count):
        ratio = ops.maximum(prediction / truth, truth / prediction)
        near = ops.logical_and(valid, ratio < self.threshold)
        share = ops.sum(ops.cast(near, "float32"), axis=1) / count
        return 1 - share if self.complement else share

    def get_config(self):
        return super().get_config() | {"complement": self.complement}


@keras.saving.register_keras_serializable(package="keras_dpt")
class Delta2(Delta1):
    """Share of pixels where max(prediction / truth, truth / prediction) < 1.25^2."""

    default_name = "d2"
    threshold = 1.25**2


@keras.saving.register_keras_serializable(package="keras_dpt")
class Delta3(Delta1):
    """Share of pixels where max(prediction / truth, truth / prediction) < 1.25^3."""

    default_name = "d3"
    threshold = 1.25**3


@keras.saving.register_keras_serializable(package="keras_dpt")
class WHDR(_Mean):
    """Weighted human disagreement rate: share of point pairs that are in the wrong order.

    Truth is `(B, N, 5)`: row and column of point A, those of point B, and +1 if A is nearer, -1 if
    B is, 0 if neither; any other number fills up images with fewer pairs and does not count.
    Predictions are inverse depth, `(B, H, W)` or `(B, H, W, 1)`, larger is nearer. All pairs weigh
    the same, as in DIW.

    Args:
        tolerance: A is nearer if its prediction exceeds B's by more than this.

    Source: Bell et al. 2014, "Intrinsic Images in the Wild"; Chen et al. 2016 (arXiv 1604.03901).
    """

    def __init__(self, tolerance=0.0, name="whdr", dtype=None):
        super().__init__(name=name, dtype=dtype or "float32")
        self.tolerance = tolerance

    def update_state(self, y_true, y_pred, sample_weight=None):
        pairs, prediction = ops.cast(ops.convert_to_tensor(y_true), "int32"), _map(y_pred)
        width = ops.shape(prediction)[2]
        prediction = _flat(prediction)
        a = ops.take_along_axis(prediction, pairs[..., 0] * width + pairs[..., 1], axis=1)
        b = ops.take_along_axis(prediction, pairs[..., 2] * width + pairs[..., 3], axis=1)
        answer = ops.where(ops.abs(a - b) <= self.tolerance, 0.0, ops.sign(a - b))
        relation = ops.cast(pairs[..., 4], "float32")
        counts = ops.cast(ops.abs(relation) <= 1, "float32")
        if sample_weight is not None:  # one per image
            counts = counts * ops.reshape(ops.cast(sample_weight, "float32"), (-1, 1))
        super().update_state(ops.cast(answer != relation, "float32"), sample_weight=counts)

    def get_config(self):
        return {"tolerance": self.tolerance, "name": self.name, "dtype": self.dtype}


def _map(y):
    """`(B, H, W)` float32 of `(B, H, W)` or `(B, H, W, 1)`."""
    y = ops.cast(ops.convert_to_tensor(y), "float32")
    return ops.squeeze(y, axis=-1) if len(y.shape) == 4 else y


def _flat(x):
    shape = ops.shape(x)
    return ops.reshape(x, (shape[0], shape[1] * shape[2]))


def _check_sizes(truth, prediction):
    sizes = tuple(truth.shape[1:]), tuple(prediction.shape[1:])
    if None not in sizes[0] + sizes[1] and sizes[0] != sizes[1]:
        raise DepthError(
            f"Target size {sizes[0]} does not match prediction size {sizes[1]} (height, width). "
            "Set `model.preprocessor.image_size` to the targets' size, or measure at the photos' "
            "sizes with `keras_dpt.evaluation.evaluate`."
        )


def _valid(truth, sample_weight):
    """Which pixels count, `(B, H * W)` bool, and how much each image weighs, `(B,)` float32."""
    # A comparison with NaN is false.
    valid = ops.logical_and(truth > 0, truth < _LARGEST)
    weight = ops.ones((ops.shape(truth)[0],), "float32")
    if sample_weight is not None:
        given = ops.cast(ops.convert_to_tensor(sample_weight), "float32")
        if is_per_image(given):
            weight = ops.reshape(given, (-1,))
        else:
            valid = ops.logical_and(valid, per_pixel(given, truth) > 0)
    return _flat(valid), weight


def _log_ratio(truth, prediction):
    return ops.log(prediction) - ops.log(truth)
