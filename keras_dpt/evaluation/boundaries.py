"""Scores of occluding contours, the edges of objects in depth. NumPy only."""

import numpy as np

from keras_dpt.errors import DepthError

# 5 to 25 %: how much farther the other side of an edge is.
THRESHOLDS = np.linspace(1.05, 1.25, 10)


def boundary_scores(prediction, truth, valid=None):
    """Precision, recall and F1 of a map's edges, independent of its unit.

    There is an edge between two neighbouring pixels, in one of four directions, if the ratio of
    their values exceeds a threshold t. For each t from 1.05 to 1.25, in ten steps,

        precision = edges of both / edges of the prediction
        recall    = edges of both / edges of the truth

    each averaged over the four directions, and F1 is their harmonic mean. The result is the mean
    over t, weighted by t. Ratios of depth and of inverse depth are the same.

    Args:
        prediction, truth: `(H, W)` above 0: depth, inverse depth or disparity.
        valid: `(H, W)` bool, where the truth is known; an edge needs both pixels.

    Returns: dict of floats from 0 to 1: `boundary_precision`, `boundary_recall`, `boundary_f1`.
        Without edges in the ground truth: 1 if the prediction has none either, else 0.
    Raises: DepthError: (a ValueError) shapes differ, or a value that counts is not above 0.
    Source: Bochkovskii et al. 2024 (Depth Pro, arXiv 2410.02073), section 3.2, equations 2 to 4.
    """
    prediction, truth = np.asarray(prediction, "float64"), np.asarray(truth, "float64")
    valid = np.ones(truth.shape, bool) if valid is None else np.asarray(valid, bool)
    if prediction.shape != truth.shape or valid.shape != truth.shape or truth.ndim != 2:
        shapes = f"{prediction.shape}, {truth.shape} and {valid.shape}"
        raise DepthError(f"Two maps and a mask must have one shape (H, W). Received: {shapes}.")
    if not ((prediction[valid] > 0).all() and (truth[valid] > 0).all()):
        raise DepthError("Values must be above 0. Clip predictions and mask other targets.")
    logs = [np.log(np.where(valid, values, 1.0)) for values in (prediction, truth)]
    predicted, real = (_steps(values, valid) for values in logs)
    names = "boundary_precision", "boundary_recall", "boundary_f1"
    if not any((steps > np.log(THRESHOLDS[0])).any() for steps in real):
        flat = not any((steps > np.log(THRESHOLDS[0])).any() for steps in predicted)
        return dict.fromkeys(names, float(flat))
    scores = [_scores(predicted, real, np.log(threshold)) for threshold in THRESHOLDS]
    means = np.average(scores, axis=0, weights=THRESHOLDS)
    return dict(zip(names, map(float, means), strict=True))


def _steps(logs, valid):
    """Differences of neighbours in four directions; 0 where one of the two is not valid."""
    down = np.where(valid[1:] & valid[:-1], logs[1:] - logs[:-1], 0)
    right = np.where(valid[:, 1:] & valid[:, :-1], logs[:, 1:] - logs[:, :-1], 0)
    return down, -down, right, -right


def _scores(predicted, real, threshold):
    precision = recall = 0.0
    for ours, theirs in zip(predicted, real, strict=True):
        ours, theirs = ours > threshold, theirs > threshold
        both = np.count_nonzero(ours & theirs)
        precision += both / max(np.count_nonzero(ours), 1) / 4
        recall += both / max(np.count_nonzero(theirs), 1) / 4
    total = precision + recall
    return precision, recall, 2 * precision * recall / total if total else 0.0
