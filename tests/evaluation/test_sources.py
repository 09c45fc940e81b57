"""Which data set a protocol opens, and where."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from keras_dpt.datasets.registry import READERS, Reader
from keras_dpt.errors import DataError, EvaluationError
from keras_dpt.evaluation import PROTOCOLS
from keras_dpt.evaluation.sources import open_source


@pytest.mark.parametrize(("given", "opened"), [(None, "validation"), ("train", "training")])
def test_a_reader_gets_folder_and_split(given, opened, monkeypatch):
    aliases = {"train": "training"}
    reader = Reader("ade20k", lambda *arguments: arguments, ("labels",), (), aliases)
    monkeypatch.setitem(READERS, "ade20k", reader)
    assert open_source(PROTOCOLS["ade20k"], "there", given) == ("there", opened)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def folder(root, images="rgb", targets="depth", dtype="uint16"):
    save(root / images / "a.png", np.zeros((4, 5, 3), "uint8"))
    save(root / targets / "a.png", np.full((4, 5), 2, dtype))


@pytest.mark.parametrize("images", ["rgb", "images"])
@pytest.mark.parametrize(
    ("unit", "depth"), [({"unit": "m"}, 2.0), ({"unit": 0.5}, 1.0), ({"unit": "mm"}, 0.002)]
)
@pytest.mark.filterwarnings("ignore::keras_dpt.errors.DataWarning")
def test_a_folder_of_depth(images, unit, depth, tmp_path):
    folder(tmp_path / "mine", images)
    source = open_source(PROTOCOLS["metric_depth"], tmp_path / "mine", **unit)
    assert (source.name, source.kind, source.ids) == ("mine", "metric_depth", ["a"])
    assert source[0].target[0, 0] == pytest.approx(depth)


@pytest.mark.filterwarnings("ignore::keras_dpt.errors.DataWarning")
def test_millimetres_by_default(tmp_path):
    folder(tmp_path)
    source = open_source(PROTOCOLS["metric_depth"], tmp_path)
    assert source[0].target[0, 0] == pytest.approx(0.002)


@pytest.mark.parametrize("where", ["argument", "protocol"])
def test_a_split_is_a_folder(where, tmp_path):
    folder(tmp_path / "val", targets="disparity")
    protocol = PROTOCOLS["aligned_disparity"]
    if where == "protocol":
        protocol = dataclasses.replace(protocol, split="val")
    split = "val" if where == "argument" else None
    source = open_source(protocol, str(tmp_path), split)
    assert (source.name, source.kind) == ("val", "relative_inverse_depth")
    assert source[0].target[0, 0] == 2  # of no unit


def test_a_folder_of_labels_needs_names(tmp_path):
    folder(tmp_path, targets="seg", dtype="uint8")
    source = open_source(PROTOCOLS["labels"], tmp_path, class_names=["x", "y", "z"])
    assert source.class_names == ("x", "y", "z") and (source[0].target == 2).all()
    with pytest.raises(DataError, match="class_names are required"):
        open_source(PROTOCOLS["labels"], tmp_path)


def test_folders_that_are_expected(tmp_path):
    with pytest.raises(EvaluationError, match=f"folders rgb, images in {tmp_path}"):
        open_source(PROTOCOLS["metric_depth"], tmp_path)
    (tmp_path / "rgb").mkdir()
    with pytest.raises(EvaluationError, match=f"folders disp, disparity, targets in {tmp_path}"):
        open_source(PROTOCOLS["aligned_disparity"], tmp_path)
