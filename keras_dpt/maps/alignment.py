"""Scale and shift that bring a relative map onto known values. NumPy only, float64."""

import numpy as np

from keras_dpt.errors import DepthError
from keras_dpt.images.masked import false_if_masked, nan_if_masked

ALIGNMENT_METHODS = ("least_squares", "median", "ransac")

_RANSAC_PAIRS = 500
_RANSAC_POINTS = 2000


def align_scale_shift(
    prediction: np.ndarray,
    target: np.ndarray,
    mask: np.ndarray | None = None,
    method: str = "least_squares",
    seed: int = 0,
) -> tuple[float, float]:
    """Find `(scale, shift)` such that `scale * prediction + shift` is close to `target`.

    Both sides are inverse depths: a relative map and 1 / metres, never metres. A point counts if
    it is inside the mask, both values are finite and the target is above 0. Masked values of masked
    arrays do not count.

    - `least_squares`: the smallest sum of squared errors. Best without outliers.
    - `median`: the medians and the mean absolute deviations from them are made equal, as in the
      MiDaS paper. The scale is never negative. Wrong targets weigh less than in least squares, yet
      they still stretch the scale.
    - `ransac`: of the lines through 500 random pairs of points, the one with the smallest median
      error, then least squares over the points near it. No threshold to choose; right as long as
      fewer than half the targets are wrong.

    Args:
        prediction: any shape, real numbers.
        target: same shape.
        mask: same shape, true where the target may be used; None for everywhere.
        method: one of the three names.
        seed: of the random pairs; the result depends on nothing else.

    Returns:
        `(scale, shift)`, Python floats.

    Raises:
        DepthError: (a ValueError) shapes differ, unknown method, fewer than two valid points, or
            the same prediction at all of them.

    Source: Ranftl et al., "Towards Robust Monocular Depth Estimation", 2020, for the first two;
    Rousseeuw, "Least Median of Squares Regression", 1984, for the choice of the line.
    """
    if method not in ALIGNMENT_METHODS:
        raise DepthError(
            f"method must be one of {', '.join(ALIGNMENT_METHODS)}. Received: {method!r}."
        )
    prediction, target = nan_if_masked(prediction), nan_if_masked(target)
    if prediction.shape != target.shape:
        raise DepthError(f"prediction is {prediction.shape} but target is {target.shape}.")
    valid = np.isfinite(prediction) & np.isfinite(target) & (target > 0)
    if mask is not None:
        mask = false_if_masked(mask)
        if mask.shape != target.shape:
            raise DepthError(f"mask is {mask.shape} but target is {target.shape}.")
        valid &= mask
    x, y = prediction[valid], target[valid]
    if x.size < 2:
        raise DepthError(
            "Scale and shift need at least two known points (inside the mask, both values finite, "
            f"target above 0). Received: {target.size}, of which {x.size} can be used."
        )
    if x.min() == x.max():
        raise DepthError(
            f"The prediction is {x[0]:.6g} at all {x.size} valid points, which leaves the scale "
            "open. Add points at other depths."
        )
    if method == "median":
        return _median(x, y)
    if method == "ransac":
        near = _near_best_line(x, y, np.random.default_rng(seed))
        x, y = x[near], y[near]
    return _least_squares(x, y)


def _least_squares(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    # Centred, because raw sums of squares cancel badly where the shift is large.
    x_mean, y_mean = x.mean(), y.mean()
    dx = x - x_mean
    scale = dx @ (y - y_mean) / (dx @ dx)
    return float(scale), float(y_mean - scale * x_mean)


def _median(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    x_median, y_median = np.median(x), np.median(y)
    scale = np.abs(y - y_median).mean() / np.abs(x - x_median).mean()
    return float(scale), float(y_median - scale * x_median)


def _near_best_line(x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Which points are near the line, through two of them, whose median error is smallest."""
    # A sample judges a line as well as a million pixels would, and in bounded memory.
    sample = random.permutation(x.size)[:_RANSAC_POINTS]
    if np.ptp(x[sample]) == 0:
        sample = np.append(sample, np.argmax(x != x[sample[0]]))
    xs, ys = x[sample], y[sample]
    first, second = random.integers(xs.size, size=(2, _RANSAC_PAIRS))
    differ = xs[first] != xs[second]
    first, second = first[differ], second[differ]
    if not first.size:  # nearly all predictions are equal
        first, second = np.array([xs.argmin()]), np.array([xs.argmax()])
    scale = (ys[second] - ys[first]) / (xs[second] - xs[first])
    shift = ys[first] - scale * xs[first]
    median_error = np.median(np.abs(scale[:, None] * xs + shift[:, None] - ys), axis=1)
    best = median_error.argmin()
    # 1.4826 turns a median error into a Gaussian's sigma. The floor keeps the pair itself in
    # when the other points lie on the line to the last bit.
    reach = max(2.5 * 1.4826 * median_error[best], 1e-9 * np.abs(y).max())
    return np.abs(scale[best] * x + shift[best] - y) <= reach
