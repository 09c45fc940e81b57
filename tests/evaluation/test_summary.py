"""Averages over records: of images, of pixels, of classes and of groups."""

import dataclasses
import math

import numpy as np
import pytest

from keras_dpt.errors import EvaluationError
from keras_dpt.evaluation import PROTOCOLS, Group, Protocol
from keras_dpt.evaluation.depth_errors import depth_errors
from keras_dpt.evaluation.summary import summarize

PROTOCOL = Protocol("mine", "some images", "metric_depth", ("abs_rel", "rmse"))
POOLED = dataclasses.replace(PROTOCOL, averaging="pixel")
LABELS = Protocol("mine", "some images", "labels", ("mean_iou", "pixel_accuracy"))


def record(image_id="a", pixels=1, fit=None, **values):
    counted = {"id": image_id, "status": "counted", "pixels": pixels, "values": values}
    return counted if fit is None else counted | {"fit": fit}


def left_out(image_id, status="no_truth"):
    return {"id": image_id, "status": status, "pixels": 0, "values": None}


def test_counts_by_hand():
    records = [
        record(pixels=3, abs_rel=0.1, fit={"scale": 2.0, "constant": False}),
        left_out("b"),
        record(pixels=5, abs_rel=0.4, fit={"scale": -0.5, "constant": False}),
        record(pixels=7, abs_rel=0.1, fit={"scale": 0.0, "constant": True}),
        left_out("c", "another reason"),
        left_out("d"),
        record(pixels=1, abs_rel=0.0, fit={"constant": True}),
        record(pixels=1, abs_rel=0.4),
    ]
    assert summarize(PROTOCOL, records) == {
        "images": 8,
        "counted": 5,
        "excluded": {"no_truth": 2, "another reason": 1},
        "constant": 2,
        "inverted": 1,
        "pixels": 17,
        "metrics": {"abs_rel": pytest.approx(0.2)},
    }


def test_pooled_pixels_are_measured_like_one_image():
    rng = np.random.default_rng(0)
    sizes = 50, 300, 1000
    truths = [rng.uniform(0.5, 9, size) for size in sizes]
    predictions = [t * rng.lognormal(0.2, 0.3, t.size) for t in truths]
    records = [
        record(pixels=t.size, **depth_errors(p, t))
        for p, t in zip(predictions, truths, strict=True)
    ]
    expected = depth_errors(np.concatenate(predictions), np.concatenate(truths))
    assert summarize(POOLED, records)["metrics"] == pytest.approx(expected, rel=1e-9)
    # The same factor everywhere is no error of scale, and rounding makes no root of less than 0.
    exact = [record(**depth_errors(3 * t, t)) for t in truths]
    assert summarize(POOLED, exact)["metrics"]["silog"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("averaging", ["pixel", "image"])
def test_classes_by_hand(averaging):
    """Hits, labelled and predicted pixels are counted over all images, whatever is averaged."""
    records = [
        record(mean_iou=0.5, pixel_accuracy=0.5) | {"classes": {"2": [1, 2, 2], "0": [3, 4, 5]}},
        record(mean_iou=0.7, pixel_accuracy=1.0) | {"classes": {"2": [4, 4, 4]}},
    ]
    summary = summarize(dataclasses.replace(LABELS, averaging=averaging), records)
    assert list(summary["class_iou"].items()) == [(0, 3 / 6), (2, pytest.approx(5 / 7))]
    pooled = {"mean_iou": (3 / 6 + 5 / 7) / 2, "pixel_accuracy": 8 / 10}
    means = {"mean_iou": 0.6, "pixel_accuracy": 0.75}
    expected = pooled if averaging == "pixel" else means
    assert summary["metrics"] == pytest.approx(expected)


def test_groups_are_added_up():
    protocol = dataclasses.replace(PROTOCOL, groups=(Group("b_"), Group("a_"), Group("none_")))
    records = [
        record("a_1", 2, {"scale": -1.0}, abs_rel=0.1),
        record("b_1", 3, {"constant": True}, abs_rel=0.2),
        left_out("b_2"),
        left_out("a_2", "another reason"),
        record("a_3", 4, {"scale": 1.0}, abs_rel=0.3),
        left_out("a_4"),
        record("a_5", 5, {"scale": -1.0}, abs_rel=0.5),
    ]
    summary = summarize(protocol, records)
    groups = summary.pop("groups")
    assert summary == {
        "images": 7,
        "counted": 4,
        "constant": 1,
        "inverted": 2,
        "pixels": 14,
        "excluded": {"no_truth": 2, "another reason": 1},
        "metrics": {"abs_rel": pytest.approx((0.2 + 0.3) / 2)},
    }
    alone = dataclasses.replace(protocol, groups=())
    expected = {name: [r for r in records if r["id"].startswith(name)] for name in ("b", "a")}
    assert list(groups) == ["b", "a"]
    assert groups == {name: summarize(alone, part) for name, part in expected.items()}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_average_hides_a_value_that_is_not_finite(value):
    records = [record(abs_rel=0.1, rmse=value), record(abs_rel=0.1, rmse=0.1)]
    with pytest.raises(EvaluationError, match="mine: rmse is not a finite number"):
        summarize(PROTOCOL, records)


def test_without_a_measured_image():
    limited = dataclasses.replace(PROTOCOL, max_depth=80.0)
    with pytest.raises(EvaluationError, match=r"mine: none of the 2 .*\(0\.001 to 80\.0 m\)"):
        summarize(limited, [left_out("a"), left_out("b")])


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda p: p.name)
def test_protocols_are_described(protocol):
    assert len(protocol.data) > 10 and len(protocol.reference) > 5
