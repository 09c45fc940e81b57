"""The depth metrics of the literature for one image at a time. NumPy only, float64.

`keras_dpt.metrics` has the same formulas for training, in float32 on the accelerator.
"""

from dataclasses import dataclass

import numpy as np

from keras_dpt.errors import DepthError
from keras_dpt.maps.alignment import align_scale_shift

ALIGNMENTS = ("none", "least_squares", "median_scale")


@dataclass(frozen=True)
class Alignment:
    """`scale * prediction + shift`, and whether the prediction was constant, so that scale is 0."""

    scale: float = 1.0
    shift: float = 0.0
    constant: bool = False

    def apply(self, prediction):
        """The prediction, any shape, aligned; float64."""
        return self.scale * np.asarray(prediction, "float64") + self.shift


def align(prediction, truth, method):
    """Align a prediction to the ground truth of one image.

    A constant prediction has no scale to fit. It becomes the mean of the ground truth, the
    least-squares constant; the result is marked as constant.

    Args:
        prediction, truth: `(N,)`, known values only: inverse depth for "least_squares", metres for
            "median_scale".
        method: "none"; "least_squares", scale and shift; "median_scale", scale only, the ratio of
            the medians.

    Returns: an `Alignment`.
    Raises: DepthError: (a ValueError) an unknown method, or fewer than two values to fit.
    Source: Ranftl et al. 2020 (arXiv 1907.01341), equation 4; Zhou et al. 2017 (arXiv 1704.07813),
        section 4.2, for the medians.
    """
    if method not in ALIGNMENTS:
        raise DepthError(f"`method` must be one of {', '.join(ALIGNMENTS)}. Received: {method!r}.")
    if method == "none":
        return Alignment()
    prediction, truth = np.asarray(prediction, "float64"), np.asarray(truth, "float64")
    if truth.size < 2:
        raise DepthError(f"Alignment needs at least two known values. Received: {truth.size}.")
    if method == "median_scale":
        median = np.median(prediction)
        constant = bool(np.ptp(prediction) == 0)
        return Alignment(float(np.median(truth) / median) if median > 0 else 1.0, 0.0, constant)
    if np.ptp(prediction) == 0:
        return Alignment(0.0, float(truth.mean()), constant=True)
    return Alignment(*align_scale_shift(prediction, truth))


def depth_errors(prediction, truth):
    """All depth metrics of one image.

    With p the prediction, t the ground truth and g = ln p - ln t, over all values:

    | name                      | formula                                                     |
    |---------------------------|-------------------------------------------------------------|
    | `abs_rel`                 | mean abs(p - t) / t                                         |
    | `sq_rel`                  | mean (p - t)^2 / t, metres                                  |
    | `rmse`                    | sqrt(mean (p - t)^2), metres                                |
    | `rmse_log`                | sqrt(mean g^2)                                              |
    | `log10`                   | mean abs(log10 p - log10 t)                                 |
    | `silog`                   | 100 sqrt(mean g^2 - (mean g)^2)                             |
    | `log_bias`                | mean g, signed                                              |
    | `d1`, `d2`, `d3`          | share of values with max(p / t, t / p) < 1.25, 1.25^2, 1.25^3 |
    | `d1_above`, ...           | share of the others, as the DPT paper prints it             |

    Args:
        prediction, truth: `(N,)` metres above 0, N at least 1; float64 is used throughout.

    Returns: dict of floats.
    Raises: DepthError: (a ValueError) shapes differ, nothing is given, or a value is not above 0.
    Source: Eigen et al. 2014 (arXiv 1406.2283), section 4.3; `log10`: Saxena et al. 2009;
        `silog`: the KITTI benchmark.
    """
    p, t = _checked(prediction, truth)
    if not (p.min() > 0 and t.min() > 0):  # also NaN
        raise DepthError("Depths must be above 0. Clip predictions and mask other targets.")
    difference, log_ratio = p - t, np.log(p) - np.log(t)
    ratio = np.maximum(p / t, t / p)
    errors = {
        "abs_rel": np.mean(np.abs(difference) / t),
        "sq_rel": np.mean(difference**2 / t),
        "rmse": np.sqrt(np.mean(difference**2)),
        "rmse_log": np.sqrt(np.mean(log_ratio**2)),
        "log10": np.mean(np.abs(log_ratio)) / np.log(10),
        "silog": 100 * np.std(log_ratio),
        "log_bias": np.mean(log_ratio),
    }
    for n in (1, 2, 3):
        errors[f"d{n}"] = np.mean(ratio < 1.25**n)
        errors[f"d{n}_above"] = 1 - errors[f"d{n}"]
    return {name: float(value) for name, value in errors.items()}


def disparity_errors(prediction, truth):
    """Errors of disparity up to scale and shift, independent of both.

    | name        | formula                                                                       |
    |-------------|-------------------------------------------------------------------------------|
    | `nrmse`     | sqrt(mean (p - t)^2) / standard deviation of t: 0 perfect, 1 the best constant |
    | `nmae`      | mean abs(p - t) / mean abs(t - median t)                                      |

    Args: prediction, truth: `(N,)` disparity, aligned.
    Returns: dict of floats.
    Raises: DepthError: (a ValueError) shapes differ, nothing is given, or the ground truth is
        constant, so that errors have no scale.
    Source: Ranftl et al. 2020 (arXiv 1907.01341), section 6: root mean square in disparity space,
        here relative to the spread of the ground truth, whose unit is arbitrary.
    """
    p, t = _checked(prediction, truth)
    if np.ptp(t) == 0:
        raise DepthError(f"The true disparity is {t[0]:.6g} everywhere, so errors have no scale.")
    error = p - t
    return {
        "nrmse": float(np.sqrt(np.mean(error**2)) / np.std(t)),
        "nmae": float(np.mean(np.abs(error)) / np.mean(np.abs(t - np.median(t)))),
    }


def whdr(prediction, pairs, tolerance=0.0):
    """Weighted human disagreement rate: share of point pairs that are in the wrong order.

    All pairs have equal weight, as in DIW. A prediction with equal values at both points means
    "neither is nearer", which is wrong if one is.

    Args:
        prediction: `(H, W)` inverse depth, larger is nearer.
        pairs: `(N, 5)` integers: row and column of point A, those of point B, and +1 if A is
            nearer, -1 if B is, 0 if neither.
        tolerance: A is nearer if its prediction exceeds B's by more than this.

    Returns: dict of one float, `whdr`.
    Raises: DepthError: (a ValueError) no pair, another shape, an invalid relation, or a point
        outside the map.
    Source: Bell et al. 2014, "Intrinsic Images in the Wild"; Chen et al. 2016 (arXiv 1604.03901).
    """
    prediction, pairs = np.asarray(prediction, "float64"), np.asarray(pairs)
    if pairs.ndim != 2 or pairs.shape[1] != 5 or not len(pairs):
        raise DepthError(f"`pairs` must be (N, 5), at least one. Received: {pairs.shape}.")
    rows, columns, relation = pairs[:, [0, 2]], pairs[:, [1, 3]], pairs[:, 4]
    if not np.isin(relation, (-1, 0, 1)).all():
        raise DepthError("The relation of a pair must be +1 (A nearer), -1 (B nearer) or 0.")
    height, width = prediction.shape
    if rows.min() < 0 or columns.min() < 0 or rows.max() >= height or columns.max() >= width:
        raise DepthError(f"A point of a pair is outside the {height} x {width} map.")
    difference = prediction[rows[:, 0], columns[:, 0]] - prediction[rows[:, 1], columns[:, 1]]
    answer = np.where(np.abs(difference) <= tolerance, 0, np.sign(difference))
    return {"whdr": float(np.mean(answer != relation))}


def _checked(prediction, truth):
    p, t = np.asarray(prediction, "float64"), np.asarray(truth, "float64")
    if p.shape != t.shape or p.size == 0:
        raise DepthError(f"Prediction {p.shape} and target {t.shape} must match, and not be empty.")
    return p, t
