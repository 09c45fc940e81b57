"""The formulas of the depth losses once more: one image and one pixel at a time, in float64."""

import math

import numpy as np


def scale_shift_invariant(target, prediction, **options):
    """Ranftl et al. 2020, equations 5, 7, 8 and 11; maps are `(B, H, W, 1)`."""
    return _mean_over_images(_scale_shift_invariant, target, prediction, **options)


def gradient_matching(target, prediction, **options):
    """Ranftl et al. 2020, equation 11, on maps as they are, `(B, H, W, 1)`."""
    return _mean_over_images(_gradient_matching, target, prediction, **options)


def scale_invariant_log(target, prediction, **options):
    """Eigen et al. 2014, equation 4, and its root; maps are `(B, H, W, 1)`."""
    return _mean_over_images(_scale_invariant_log, target, prediction, **options)


def _mean_over_images(of_image, target, prediction, **options):
    pairs = zip(target[..., 0].astype("float64"), prediction[..., 0].astype("float64"), strict=True)
    return float(np.mean([of_image(t, p, **options) for t, p in pairs]))


def _scale_shift_invariant(
    target, prediction, trim=0.2, gradient_weight=0.5, scales=4, alignment="median"
):
    valid = _valid(target)
    if not valid.any():
        return 0.0
    residual = np.full(target.shape, np.nan)
    if alignment == "median":
        residual[valid] = _normalized(prediction[valid]) - _normalized(target[valid])
        cost = np.abs(residual[valid])
    else:
        residual[valid] = _fitted(prediction[valid], target[valid]) - target[valid]
        cost = residual[valid] ** 2
    kept = max(1, math.floor((1 - trim) * len(cost) + 1e-6))
    loss = np.sort(cost)[:kept].sum() / (2 * len(cost))
    return loss + gradient_weight * _slopes(residual, scales)


def _gradient_matching(target, prediction, weight=0.5, scales=4):
    residual = np.where(_valid(target), prediction - np.where(_valid(target), target, 0), np.nan)
    return weight * _slopes(residual, scales)


def _slopes(residual, scales):
    """Sum over scales of the mean absolute difference to the neighbours below and to the right."""
    loss = 0.0
    for k in range(scales):
        r = residual[:: 2**k, :: 2**k]
        height, width = r.shape
        total, count = 0.0, np.isfinite(r).sum()
        for i in range(height):
            for j in range(width):
                neighbours = [(i + 1, j)] * (i + 1 < height) + [(i, j + 1)] * (j + 1 < width)
                # An unknown neighbour makes it NaN, which counts for nothing.
                total += sum(np.nan_to_num(abs(r[n] - r[i, j])) for n in neighbours)
        loss += total / max(count, 1)
    return loss


def _scale_invariant_log(target, prediction, variance_focus=0.5, root=False, weight=1.0):
    valid = _valid(target)
    if not valid.any():
        return 0.0
    g = np.log(np.maximum(prediction[valid], 1e-6)) - np.log(target[valid])
    loss = np.mean(g**2) - variance_focus * np.mean(g) ** 2
    return weight * (np.sqrt(loss) if root else loss)


def _valid(target):
    with np.errstate(invalid="ignore"):
        return np.isfinite(target) & (target > 0)


def _normalized(values):
    median = np.sort(values)[(len(values) - 1) // 2]
    scale = np.mean(np.abs(values - median))
    return (values - median) / scale if scale > 1e-6 else values - median


def _fitted(values, target):
    """`values` times a scale plus a shift, nearest to `target` in squares."""
    if np.ptp(values) < 1e-6:
        return np.full_like(values, target.mean())
    columns = np.stack([values, np.ones_like(values)], axis=1)
    return columns @ np.linalg.lstsq(columns, target, rcond=None)[0]
