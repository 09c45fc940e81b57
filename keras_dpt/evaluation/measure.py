"""Measure one image by a protocol: its pixels, alignment and metrics. NumPy only."""

from dataclasses import dataclass

import numpy as np

from keras_dpt.errors import EvaluationError
from keras_dpt.evaluation.boundaries import boundary_scores
from keras_dpt.evaluation.crops import CROPS
from keras_dpt.evaluation.depth_errors import align, depth_errors, disparity_errors, whdr
from keras_dpt.evaluation.protocols import Protocol

COUNTED, NO_TRUTH = "counted", "no_truth"


@dataclass(frozen=True, eq=False)
class Measured:
    """The result of one image.

    Attributes:
        status: "counted"; or "no_truth": the ground truth has too few known pixels.
        pixels: number of measured pixels (point pairs, if the ground truth is ordinal).
        values: the metrics, dict of float; empty if not counted.
        classes: for labels: `{class: (hits, labelled, predicted)}` in pixels, without absent
            classes.
        fit: for aligned predictions: scale, shift, and whether the prediction was constant.
        truth, prediction: `(H, W)` as compared: metres, disparity or class ids.
        error: `(H, W)` float: what the first metric averages, NaN where not measured.
    """

    status: str
    pixels: int = 0
    values: dict | None = None
    classes: dict | None = None
    fit: dict | None = None
    truth: np.ndarray | None = None
    prediction: np.ndarray | None = None
    error: np.ndarray | None = None


def measure(protocol: Protocol, sample, prediction, image_id: str = "") -> Measured:
    """Measure one prediction.

    Args:
        protocol: a `Protocol`.
        sample: `(image, target, valid)`, see `keras_dpt.datasets.Sample`.
        prediction: `DepthMap` or `LabelMap` of the size of `seen(protocol, sample)`.
        image_id: for messages and groups.

    Returns: a `Measured`.
    Raises: EvaluationError: (a ValueError) the crop does not fit, or the sizes differ.
    """
    if protocol.target == "ordinal":
        return _ordinal(sample, prediction)
    rows, columns = seen(protocol, sample)
    expected = rows.stop - rows.start, columns.stop - columns.start
    values = prediction.labels if protocol.target == "labels" else prediction.values
    if values.shape != expected:
        raise EvaluationError(f"{image_id}: predicted {values.shape}, but {expected} was shown.")
    if protocol.target == "labels":
        return _labels(sample, values)
    predicted = np.full(sample.target.shape, np.nan)
    predicted[rows, columns] = values
    counts = _counted(protocol, sample, image_id) & np.isfinite(predicted)
    truth = np.asarray(sample.target, "float64")
    compare = _disparity if protocol.space == "disparity" else _depth
    return compare(protocol, truth, predicted, counts, prediction.kind, image_id)


def seen(protocol: Protocol, sample) -> tuple[slice, slice]:
    """Rows and columns of a sample's image that are input of the network."""
    return CROPS[protocol.input_crop](*sample.image.shape[:2])


def _counted(protocol, sample, image_id):
    """Which pixels of a map are measured, `(H, W)` bool."""
    truth = np.asarray(sample.target, "float64")
    counts = np.zeros(truth.shape, bool)
    counts[CROPS[protocol.crop](*truth.shape)] = True
    counts &= np.asarray(sample.valid, bool) & np.isfinite(truth) & (truth > 0)
    if protocol.space == "depth":
        counts &= truth > protocol.min_depth
        limit = protocol.depth_limit(image_id)
        if limit is not None:
            counts &= truth < limit
    return counts


def _depth(protocol, truth, predicted, counts, kind, image_id):
    """Metres against metres."""
    if np.count_nonzero(counts) < (1 if protocol.alignment == "none" else 2):
        return Measured(NO_TRUTH)
    limit = protocol.depth_limit(image_id)
    t = truth[counts]
    if protocol.aligned:
        inverse = _inverse(predicted, kind, protocol.min_depth)
        fitted = align(inverse[counts], 1 / t, protocol.alignment)
        metres = 1 / np.maximum(fitted.apply(inverse), 1 / (limit or t.max()))
    else:
        if kind != "metric_depth":
            raise EvaluationError(f"{protocol.name} needs metres; the model predicts {kind}.")
        fitted = align(predicted[counts], t, protocol.alignment)
        metres = fitted.apply(predicted)
    metres = np.clip(metres, protocol.min_depth, limit)
    error = np.full(truth.shape, np.nan)
    error[counts] = np.abs(metres[counts] - t) / t
    return Measured(
        COUNTED,
        int(t.size),
        depth_errors(metres[counts], t),
        fit=vars(fitted) if protocol.alignment != "none" else _constant(predicted[counts]),
        truth=np.where(counts, truth, np.nan),
        prediction=metres,
        error=error,
    )


def _disparity(protocol, truth, predicted, counts, kind, image_id):
    """Disparity against disparity, up to scale and shift."""
    t = truth[counts]
    if t.size < 2 or np.ptp(t) == 0:  # a constant has no spread to compare errors with
        return Measured(NO_TRUTH)
    predicted = _inverse(predicted, kind, protocol.min_depth)
    fitted = align(predicted[counts], t, "least_squares")
    aligned = fitted.apply(predicted)
    error = np.full(truth.shape, np.nan)
    error[counts] = np.abs(aligned[counts] - t) / np.std(t)
    values = disparity_errors(aligned[counts], t)
    if "boundary_f1" in protocol.metrics:
        # A ratio needs values above 0; beyond the farthest known point there is none.
        values |= boundary_scores(np.maximum(aligned, t.min()), truth, counts)
    return Measured(
        COUNTED,
        int(t.size),
        values,
        fit=vars(fitted),
        truth=np.where(counts, truth, np.nan),
        prediction=aligned,
        error=error,
    )


def _labels(sample, predicted):
    valid = np.asarray(sample.valid, bool)
    truth, predicted = np.asarray(sample.target).astype("int64"), predicted.astype("int64")
    t, p = truth[valid], predicted[valid]
    if not t.size:
        return Measured(NO_TRUTH)
    size = max(t.max(), p.max()) + 1
    hits = np.bincount(t[t == p], minlength=size)
    labelled, guessed = np.bincount(t, minlength=size), np.bincount(p, minlength=size)
    classes = {
        int(c): (int(hits[c]), int(labelled[c]), int(guessed[c]))
        for c in np.flatnonzero(labelled + guessed)
    }
    return Measured(
        COUNTED,
        int(t.size),
        label_scores(classes),
        classes=classes,
        truth=truth,
        prediction=predicted,
        error=np.where(valid, truth != predicted, np.nan),
    )


def label_scores(classes: dict) -> dict:
    """`pixel_accuracy` and `mean_iou` of `{class: (hits, labelled, predicted)}`.

    The mean is over these classes: those neither labelled nor predicted have no ratio.
    """
    hits, labelled, predicted = np.array(list(classes.values()), "float64").T
    union = labelled + predicted - hits
    return {
        "pixel_accuracy": float(hits.sum() / labelled.sum()),
        "mean_iou": float(np.mean(hits / union)),
    }


def _ordinal(sample, prediction):
    pairs = np.asarray(sample.target)
    if not len(pairs):
        return Measured(NO_TRUTH)
    nearness = _inverse(prediction.values, prediction.kind, 1e-6)
    return Measured(
        COUNTED,
        len(pairs),
        whdr(nearness, pairs),
        fit=_constant(nearness),
        prediction=nearness,
    )


def _inverse(values, kind, nearest):
    """Values that are larger for nearer points, for any kind of prediction; float64."""
    values = np.asarray(values, "float64")
    return 1 / np.maximum(values, nearest) if kind == "metric_depth" else values


def _constant(values):
    return {"constant": bool(np.ptp(values) == 0)}
