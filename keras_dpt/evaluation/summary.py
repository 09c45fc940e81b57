"""Averages over the records of images."""

import math
from dataclasses import replace

from keras_dpt.errors import EvaluationError
from keras_dpt.evaluation.measure import COUNTED, label_scores
from keras_dpt.evaluation.protocols import Protocol

# How the metric over all pixels follows from the metrics of the images.
_ROOTS = ("rmse", "rmse_log")


def summarize(protocol: Protocol, records: list[dict]) -> dict:
    """Average the records of images as specified by the protocol.

    Args:
        protocol: a `Protocol`.
        records: one dict per image: `id`, `status`, `pixels`, `values`, and `classes` of labels,
            see `keras_dpt.evaluation.measure.Measured`.

    Returns: dict of `images`, `counted`, `excluded` (status: number of images), `constant` (number
        of constant predictions), `inverted` (number with a negative scale), `pixels`,
        `metrics` (name: value). With groups: `groups`, the same for each, and `metrics` is their
        plain mean. For labels: `class_iou`.
    Raises: EvaluationError: (a ValueError) no image could be measured, or a value is not a finite
        number; no average hides one.
    """
    if protocol.groups:
        return _by_group(protocol, records)
    counted = [record for record in records if record["status"] == COUNTED]
    if not counted:
        raise EvaluationError(
            f"{protocol.name}: none of the {len(records)} images could be measured: no ground "
            f"truth inside crop and depth range ({protocol.min_depth} to {protocol.max_depth} m). "
            "Check the unit of the ground truth."
        )
    excluded = {}
    for record in records:
        if record["status"] != COUNTED:
            excluded[record["status"]] = excluded.get(record["status"], 0) + 1
    summary = {
        "images": len(records),
        "counted": len(counted),
        "excluded": excluded,
        "constant": sum(bool(_fit(record).get("constant")) for record in counted),
        "inverted": sum(_fit(record).get("scale", 1) < 0 for record in counted),
        "pixels": sum(record["pixels"] for record in counted),
    }
    if protocol.target == "labels":
        summary |= _of_labels(protocol, counted)
    else:
        average = _over_pixels if protocol.averaging == "pixel" else _over_images
        summary["metrics"] = {name: average(name, counted) for name in counted[0]["values"]}
    _check_finite(protocol, summary["metrics"])
    return summary


def _by_group(protocol, records):
    parts = {group.prefix: [] for group in protocol.groups}
    for record in records:
        parts[protocol.group_of(record["id"]).prefix].append(record)
    alone = replace(protocol, groups=())
    groups = {prefix.rstrip("_"): summarize(alone, part) for prefix, part in parts.items() if part}
    names = next(iter(groups.values()))["metrics"]
    added = ("images", "counted", "constant", "inverted", "pixels")
    total = {key: sum(group[key] for group in groups.values()) for key in added}
    excluded = {}
    for group in groups.values():
        for status, number in group["excluded"].items():
            excluded[status] = excluded.get(status, 0) + number
    return total | {
        "excluded": excluded,
        "metrics": {
            name: math.fsum(group["metrics"][name] for group in groups.values()) / len(groups)
            for name in names
        },
        "groups": groups,
    }


def _fit(record):
    return record.get("fit") or {}


def _over_images(name, records):
    return math.fsum(record["values"][name] for record in records) / len(records)


def _over_pixels(name, records):
    """The metric over all pixels; roots are of the pooled squares."""
    if name == "silog":
        squares, mean = _over_pixels("rmse_log", records) ** 2, _over_pixels("log_bias", records)
        return 100 * math.sqrt(max(squares - mean**2, 0.0))
    power = 2 if name in _ROOTS else 1
    pixels = sum(record["pixels"] for record in records)
    total = math.fsum(record["values"][name] ** power * record["pixels"] for record in records)
    return (total / pixels) ** (1 / power)


def _of_labels(protocol, records):
    """Scores of classes counted over all images, or the mean of the images' scores."""
    classes = {}
    for record in records:
        for name, counts in record["classes"].items():
            old = classes.get(int(name), (0, 0, 0))
            classes[int(name)] = tuple(a + b for a, b in zip(old, counts, strict=True))
    classes = dict(sorted(classes.items()))
    if protocol.averaging == "pixel":
        metrics = label_scores(classes)
    else:
        metrics = {name: _over_images(name, records) for name in records[0]["values"]}
    iou = {c: hits / (labelled + found - hits) for c, (hits, labelled, found) in classes.items()}
    return {"metrics": metrics, "class_iou": iou}


def _check_finite(protocol, metrics):
    wrong = [name for name, value in metrics.items() if not math.isfinite(value)]
    if wrong:
        raise EvaluationError(f"{protocol.name}: {', '.join(wrong)} is not a finite number.")
