"""What registers itself: readers of data sets, and kinds of targets."""

import numpy as np
import pytest

from keras_dpt import datasets
from keras_dpt.datasets.kinds import KINDS, kind_named, target_named
from keras_dpt.datasets.registry import READERS, reader_named, register_reader
from keras_dpt.errors import DataError, EvaluationError
from keras_dpt.evaluation import PROTOCOLS
from keras_dpt.evaluation.diw import DIW
from keras_dpt.evaluation.sources import open_source


def test_protocols_ask_readers_for_what_they_hold():
    for protocol in PROTOCOLS.values():
        if protocol.reader != "folder":
            assert protocol.target in READERS[protocol.reader].kinds, protocol.name
            if protocol.split:
                assert protocol.split in READERS[protocol.reader].splits, protocol.name


def test_a_reader_of_ones_own_has_a_name_and_aliases(tmp_path, monkeypatch):
    monkeypatch.setitem(READERS, "mine", None)

    @register_reader(kinds=["metric_depth"], splits=["a"], aliases={"train": "a"})
    def mine(folder, split):
        pixels = np.zeros((2, 2, 3), "uint8"), np.ones((2, 2))
        return datasets.Source(f"{folder}/{split}", ["1"], lambda i: pixels, "metric_depth")

    assert datasets.named("mine:there", "train").name == "there/a"
    assert datasets.named("mine:there", "b").name == "there/b"
    # It has no target to train on.
    with pytest.raises(DataError, match="names kitti, .*, mine. Received:"):
        datasets.named("diw:there", "test")
    with pytest.raises(DataError, match="no data set 'yours'. Data sets: .*mine"):
        reader_named("yours")


def test_depth_in_the_wild_is_a_reader(tmp_path):
    (tmp_path / "DIW_test.csv").write_text("./1.jpg\n1,1,2,2,>,4,4\n")
    (tmp_path / "1.jpg").touch()
    protocol = next(p for p in PROTOCOLS.values() if p.reader == "diw")
    assert isinstance(open_source(protocol, tmp_path), DIW)
    with pytest.raises(EvaluationError, match="only. Received: 'train'"):
        open_source(protocol, tmp_path, "train")


def test_kinds_say_what_batches_are_made_of():
    assert [kind for kind in KINDS if kind != "normals"] == [
        "metric_depth",
        "relative_inverse_depth",
        "labels",
    ]
    assert set(target_named("inverse_depth").makers()) == {"metric_depth", "relative_inverse_depth"}
    assert set(target_named("depth").makers()) == {"metric_depth"}
    with pytest.raises(DataError, match="kind must be one of 'metric_depth'.*Received: 'depth'"):
        kind_named("depth")


def test_a_subclass_without_a_kind_of_its_own_replaces_nothing():
    known = dict(KINDS)
    type("Mine", (type(KINDS["labels"]),), {})
    assert known == KINDS
