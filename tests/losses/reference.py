"""The formulas of the depth losses once more: one image and one pixel at a time, in float64."""

import math

import numpy as np


def scale_shift_invariant(target, prediction, **options):
    """Ranftl et al. 2020, equations 5, 7, 8 and 11; maps are `(B, H, W, 1)`."""
    return _mean_over_images(_scale_shift_invariant, target, prediction, **options)


def scale_invariant_log(target, prediction, **options):
    """Eigen et al. 2014, equation 4; maps are `(B, H, W, 1)`."""
    return _mean_over_images(_scale_invariant_log, target, prediction, **options)


def _mean_over_images(of_image, target, prediction, **options):
    pairs = zip(target[..., 0].astype("float64"), prediction[..., 0].astype("float64"), strict=True)
    return float(np.mean([of_image(t, p, **options) for t, p in pairs]))


def _scale_shift_invariant(target, prediction, trim=0.2, gradient_weight=0.5, scales=4):
    valid = _valid(target)
    if not valid.any():
        return 0.0
    residual = np.full(target.shape, np.nan)
    residual[valid] = _normalized(prediction[valid]) - _normalized(target[valid])
    sizes = np.sort(np.abs(residual[valid]))
    kept = max(1, math.floor((1 - trim) * len(sizes) + 1e-6))
    loss = sizes[:kept].sum() / (2 * len(sizes))
    for k in range(scales):
        r = residual[:: 2**k, :: 2**k]
        height, width = r.shape
        total, count = 0.0, np.isfinite(r).sum()
        for i in range(height):
            for j in range(width):
                neighbours = [(i + 1, j)] * (i + 1 < height) + [(i, j + 1)] * (j + 1 < width)
                # An unknown neighbour makes it NaN, which counts for nothing.
                total += sum(np.nan_to_num(abs(r[n] - r[i, j])) for n in neighbours)
        loss += gradient_weight * total / max(count, 1)
    return loss


def _scale_invariant_log(target, prediction, variance_focus=0.5):
    valid = _valid(target)
    if not valid.any():
        return 0.0
    g = np.log(np.maximum(prediction[valid], 1e-6)) - np.log(target[valid])
    return np.mean(g**2) - variance_focus * np.mean(g) ** 2


def _valid(target):
    with np.errstate(invalid="ignore"):
        return np.isfinite(target) & (target > 0)


def _normalized(values):
    median = np.sort(values)[(len(values) - 1) // 2]
    scale = np.mean(np.abs(values - median))
    return (values - median) / scale if scale > 1e-6 else values - median
