"""Protocols as data, and golden numbers of each one, worked out by hand on two small images."""

import dataclasses

import numpy as np
import pytest

from keras_dpt import datasets
from keras_dpt.errors import EvaluationError
from keras_dpt.evaluation import PROTOCOLS, Group, Protocol, get_protocol
from keras_dpt.evaluation.crops import CROPS
from keras_dpt.evaluation.measure import measure, seen
from keras_dpt.evaluation.summary import summarize
from keras_dpt.maps.depth_map import DepthMap
from keras_dpt.maps.label_map import LabelMap
from keras_dpt.models import segmentation

# Three depths in turn, row by row: 4, 4 and 1 metres, inverse 1/4, 1/4 and 1.
TRUTH = np.array([4.0, 4.0, 1.0])
# Of 1/4, 1/4, 1 over 0, 1, 2 the least-squares line has slope 3/8 and intercept 1/8: it passes
# 1/8, 1/2 and 7/8, that is 8, 2 and 8/7 metres, off by 100 %, 50 % and 1/7.
RELATIVE = np.array([0.0, 1.0, 2.0])
ALIGNED = {"abs_rel": (1 + 1 / 2 + 1 / 7) / 3, "d1": 1 / 3, "rmse": np.sqrt((16 + 4 + 1 / 49) / 3)}
# Without a limit, nothing is farther than the farthest known pixel: 4 instead of 8 metres.
NEAR = {"abs_rel": (1 / 2 + 1 / 7) / 3, "d1": 2 / 3, "rmse": np.sqrt((4 + 1 / 49) / 3)}
# As metres: off by 50 %, 100 % and nothing.
METRES = np.array([2.0, 8.0, 1.0])
METRIC = {"abs_rel": 1 / 2, "d1": 1 / 3, "rmse": np.sqrt((4 + 16) / 3)}
# Medians 4 and 2, so twice that: 4, 16 and 2 metres.
MEDIAN = {"abs_rel": 4 / 3, "d1": 1 / 3, "rmse": np.sqrt((144 + 1) / 3)}
DISPARITY = {"nrmse": 1 / 2, "nmae": 2 / 3}
# The second image is predicted perfectly, so averages over images are half way to that.
PERFECT = {"abs_rel": 0, "rmse": 0, "d1": 1, "nrmse": 0, "nmae": 0}

SIZES = {
    "nyu_eigen": (480, 640),
    "kitti_eigen_garg": (375, 1242),
    "kitti_eigen_garg_median": (370, 1226),
    "zero_shot_sintel": (436, 1024),
    "zero_shot_kitti": (375, 1242),
    "zero_shot_nyu": (480, 640),
    "zero_shot_tum": (480, 640),
    "nyuv2_val": (240, 320),
    "nyuv2_val_metric": (240, 320),
    "depth_misc": (240, 320),
    "camvid": (360, 480),
    "camvid_val": (360, 480),
}
DEPTH = [p for p in PROTOCOLS.values() if p.target in ("metric_depth", "relative_inverse_depth")]
LABELS = [p for p in PROTOCOLS.values() if p.target == "labels"]


def striped(protocol, size, values):
    """`(H, W)` of three values in turn, row by row, from the first measured row on."""
    top = CROPS[protocol.crop](*size)[0].start
    rows = np.asarray(values)[(np.arange(size[0]) - top) % 3]
    return np.repeat(rows[:, None], size[1], axis=1)


def sample_of(protocol, size, truth):
    """A sample with holes and nonsense wherever the protocol must not look."""
    target = striped(protocol, size, truth).astype("float32")
    rows, columns = CROPS[protocol.crop](*size)
    outside = np.ones(size, bool)
    outside[rows, columns] = False
    target[outside] = 0.5  # known, but not to be measured
    valid = np.ones(size, bool)
    last = rows.start + (rows.stop - rows.start) // 3 * 3
    valid[last : rows.stop] = False  # so that each of the three values is as frequent
    target[last : rows.stop] = 3.0
    limit = protocol.depth_limit("7scenes_kitchen_0" if protocol.groups else "")
    if protocol.space == "depth" and limit is not None:
        middle = columns.start + 4
        target[rows, middle : middle + 2] = [limit, limit + 1]  # beyond the cap: not measured
        target[rows, middle + 2] = protocol.min_depth / 2
    return datasets.Sample(np.zeros((*size, 3), "uint8"), target, valid)


def shown(protocol, sample, values, kind):
    rows, columns = seen(protocol, sample)
    return DepthMap(striped(protocol, sample.target.shape, values)[rows, columns], kind)


@pytest.mark.parametrize("protocol", DEPTH, ids=lambda p: p.name)
def test_golden_depth(protocol):
    size = SIZES.get(protocol.name, (12, 14))
    inverse = protocol.space == "disparity"
    sample = sample_of(protocol, size, 1 / TRUTH if inverse else TRUTH)
    if protocol.aligned:
        kind, first, second = "relative_inverse_depth", RELATIVE, 5 / TRUTH + 2
        golden = ALIGNED if protocol.max_depth or protocol.groups else NEAR
        golden = DISPARITY if inverse else golden
    else:
        kind, first, second = "metric_depth", METRES, TRUTH
        golden = MEDIAN if protocol.alignment == "median_scale" else METRIC
    records = []
    for i, values in enumerate((first, second)):
        image_id = f"7scenes_kitchen_{i}"
        measured = measure(protocol, sample, shown(protocol, sample, values, kind), image_id)
        records.append(vars(measured) | {"id": image_id})
    summary = summarize(protocol, records)
    assert (summary["images"], summary["counted"], summary["excluded"]) == (2, 2, {})
    expected = {name: (value + PERFECT[name]) / 2 for name, value in golden.items()}
    metrics = {name: summary["metrics"][name] for name in expected}
    assert metrics == pytest.approx(expected, abs=1e-6)
    if "d1" in golden:
        assert summary["metrics"]["d1_above"] == pytest.approx(1 - expected["d1"], abs=1e-6)


@pytest.mark.parametrize("protocol", LABELS, ids=lambda p: p.name)
def test_golden_labels(protocol):
    size = SIZES.get(protocol.name, (4, 5))
    truths = [[0, 0, 1, 255], [2, 2, 1, 1]]
    predictions = [[0, 1, 1, 0], [2, 2, 2, 1]]
    records = []
    for i, (truth, predicted) in enumerate(zip(truths, predictions, strict=True)):
        truth, predicted = (np.tile(x, (size[1], size[0] // 4)).T for x in (truth, predicted))
        sample = datasets.Sample(np.zeros((*size, 3), "uint8"), truth, truth != 255)
        labels = LabelMap(predicted, ["a", "b", "c"])
        records.append(vars(measure(protocol, sample, labels)) | {"id": str(i)})
    summary = summarize(protocol, records)
    # Hits / union over both images: 1 / 2, 2 / 4 and 2 / 3; five of seven known pixels are right.
    assert summary["class_iou"] == pytest.approx({0: 1 / 2, 1: 1 / 2, 2: 2 / 3})
    expected = {"mean_iou": (1 / 2 + 1 / 2 + 2 / 3) / 3, "pixel_accuracy": 5 / 7}
    assert summary["metrics"] == pytest.approx(expected, abs=1e-9)


def test_golden_ordinal():
    protocol = PROTOCOLS["zero_shot_diw"]
    image = np.zeros((2, 3, 3), "uint8")
    prediction = DepthMap(np.array([[1.0, 2, 3], [4, 5, 6]]), "relative_inverse_depth")
    records = []
    for pair in ((1, 2, 0, 0, 1), (1, 2, 0, 0, -1), (0, 0, 0, 2, -1)):
        sample = (image, np.array([pair]), np.ones(1, bool))
        measured = measure(protocol, datasets.Sample(*sample), prediction)
        records.append(vars(measured) | {"id": str(pair)})
    assert summarize(protocol, records)["metrics"] == pytest.approx({"whdr": 1 / 3})
    metres = DepthMap(1 / prediction.values, "metric_depth")
    assert measure(protocol, datasets.Sample(*sample), metres).values == {"whdr": 0.0}


def test_every_protocol_has_a_golden_number():
    tested = {p.name for p in (*DEPTH, *LABELS)} | {"zero_shot_diw"}
    assert tested == set(PROTOCOLS)


def test_pixel_averaging_pools_pixels():
    protocol = dataclasses.replace(PROTOCOLS["metric_depth"], averaging="pixel")
    rng = np.random.default_rng(0)
    truth, metres = rng.uniform(1, 9, (2, 3, 8, 10)).astype("float32")
    valid = rng.uniform(size=truth.shape) < np.array([0.2, 0.5, 0.9])[:, None, None]
    image = np.zeros((8, 10, 3), "uint8")

    def records(truth, metres, valid):
        for t, m, v in zip(truth, metres, valid, strict=True):
            sample = datasets.Sample(image[: t.shape[0], : t.shape[1]], t, v)
            yield vars(measure(protocol, sample, DepthMap(m, "metric_depth"))) | {"id": "a"}

    def tall(x):
        return x.reshape(1, 24, 10)

    image = np.zeros((24, 10, 3), "uint8")
    pooled = summarize(protocol, list(records(truth, metres, valid)))
    at_once = summarize(protocol, list(records(tall(truth), tall(metres), tall(valid))))
    assert pooled["metrics"] == pytest.approx(at_once["metrics"], rel=1e-9)


def test_crops_by_hand():
    assert CROPS["eigen_nyu"](480, 640) == (slice(45, 471), slice(41, 601))
    # 151.0000007 to 366.9999993 and 43.999997 to 1180.000003, cut off as everybody does.
    assert CROPS["garg"](370, 1224) == (slice(151, 366), slice(43, 1180))
    assert CROPS["eigen_kitti"](375, 1242) == (slice(124, 342), slice(44, 1197))
    assert CROPS["kitti_benchmark"](375, 1242) == (slice(23, 375), slice(13, 1229))
    with pytest.raises(EvaluationError, match="480 x 640. Received: 240 x 320"):
        CROPS["eigen_nyu"](240, 320)
    with pytest.raises(EvaluationError, match="352 x 1216"):
        CROPS["kitti_benchmark"](240, 320)


class _Source:
    """As much of a data set as the checks look at."""

    def __init__(self, count, kind="metric_depth"):
        self.name, self.kind, self.count = "mine", kind, count

    def __len__(self):
        return self.count


def test_refuses_other_data():
    nyu = PROTOCOLS["nyu_eigen"]
    nyu.check_kind(_Source(1))
    nyu.check_count(_Source(654))
    nyu.check_size("a", (480, 640))
    with pytest.raises(EvaluationError, match="means 654 images .* mine has 329"):
        nyu.check_count(_Source(329))
    with pytest.raises(EvaluationError, match="has labels"):
        nyu.check_kind(_Source(654, "labels"))
    with pytest.raises(EvaluationError, match="480 x 640 .* but a is 240 x 320"):
        nyu.check_size("a", (240, 320))
    kitti = PROTOCOLS["kitti_eigen_garg"]
    for count in (697, 652):
        kitti.check_count(_Source(count))
    with pytest.raises(EvaluationError, match="365 x 1224 to 376 x 1242"):
        kitti.check_size("a", (352, 1216))


def test_refuses_other_models():
    class Model:
        kind = "relative_inverse_depth"

    with pytest.raises(EvaluationError, match="compares metres"):
        PROTOCOLS["nyu_eigen"].check_model(Model)
    PROTOCOLS["zero_shot_nyu"].check_model(Model)
    with pytest.raises(EvaluationError, match="the model predicts relative"):
        PROTOCOLS["camvid"].check_model(Model)
    with pytest.raises(EvaluationError, match="150 classes, the model 3"):
        PROTOCOLS["ade20k"].check_model(type("Labels", (), {"num_classes": 3}))


def test_groups():
    protocol = PROTOCOLS["depth_misc"]
    assert protocol.group_of("val/kitti_obj_3") == Group("kitti_obj_", 80.0)
    assert protocol.depth_limit("iphone_desk_1") == 10.0
    with pytest.raises(EvaluationError, match="holiday_7 starts with none of 7scenes"):
        protocol.group_of("holiday_7")


def test_groups_are_averaged_after_their_images():
    protocol = dataclasses.replace(PROTOCOLS["depth_misc"], sizes=None)

    def record(image_id, error):
        return {"id": image_id, "status": "counted", "pixels": 9, "values": {"abs_rel": error}}

    records = [record("kitti_obj_1", 0.4), record("iphone_desk_1", 0.1)]
    records += [record("iphone_desk_2", 0.3), {"id": "iphone_desk_3", "status": "no_truth"}]
    summary = summarize(protocol, records)
    assert summary["groups"]["iphone_desk"]["metrics"] == pytest.approx({"abs_rel": 0.2})
    assert summary["metrics"] == pytest.approx({"abs_rel": (0.4 + 0.2) / 2})
    assert (summary["counted"], summary["images"], summary["excluded"]) == (3, 4, {"no_truth": 1})


def test_unknown_words_are_refused():
    assert get_protocol("camvid") is PROTOCOLS["camvid"]
    with pytest.raises(EvaluationError, match="no protocol 'nyu'.*nyu_eigen"):
        get_protocol("nyu")
    with pytest.raises(EvaluationError, match="alignment must be one of"):
        Protocol("a", "b", "metric_depth", ("abs_rel",), alignment="median")
    with pytest.raises(EvaluationError, match="metrics: unknown"):
        Protocol("a", "b", "metric_depth", ("absrel",))


def test_the_papers_scales_are_those_of_the_model():
    assert PROTOCOLS["ade20k_multiscale"].scales == segmentation.PAPER_SCALES
    assert PROTOCOLS["pascal_context_multiscale"].flip


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda p: p.name)
def test_readers_exist(protocol):
    assert protocol.reader == "diw" or callable(getattr(datasets, protocol.reader))
