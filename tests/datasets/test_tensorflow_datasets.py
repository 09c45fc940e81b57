import sys

import numpy as np
import pytest
from files import photo

from keras_dpt import datasets
from keras_dpt.errors import DataError

DEPTH = np.linspace(1, 4, 12 * 16).reshape(12, 16).astype("float16")


class Items(list):
    """What `as_data_source` gives, of which one is damaged."""

    def __getitem__(self, index):
        if index == 2:
            raise OSError("truncated record")
        return super().__getitem__(index)


class Builder:
    """Speaks the part of a builder's protocol that is used."""

    name = "rooms"

    def as_data_source(self, split):
        if split == "sequential":
            raise NotImplementedError
        if split != "train":
            raise KeyError(split)
        item = {"image": photo(), "depth": DEPTH, "seg": np.zeros((12, 16, 1), "uint8")}
        return Items([item] * 11)


def test_depth():
    source = datasets.tfds(Builder(), "train")
    assert (source.name, source.kind, len(source)) == ("rooms/train", "metric_depth", 11)
    assert source.ids[0] == "00" and source.ids[-1] == "10"
    np.testing.assert_array_equal(source[1].image, photo())
    np.testing.assert_array_equal(source[1].target, DEPTH.astype("float32"))
    millimetres = datasets.tfds(Builder(), "train", unit=0.5)[0].target
    np.testing.assert_array_equal(millimetres, DEPTH.astype("float32") / 2)


def test_labels():
    source = datasets.tfds(Builder(), "train", "labels", target="seg", class_names=["floor"])
    assert source[0].target.shape == (12, 16) and source[0].valid.all()


@pytest.mark.parametrize(
    ("split", "options", "message"),
    [
        ("test", {}, "rooms/test cannot be read .*Prepare it once"),
        ("sequential", {}, "sequential format. Prepare it once"),
        ("train", {"target": "mask"}, "no 'mask'. Its features: depth, image, seg"),
        ("train", {"unit": "cm"}, "unit must be"),
    ],
)
def test_what_is_not_there(split, options, message):
    with pytest.raises(DataError, match=message):
        datasets.tfds(Builder(), split, **options)


def test_damaged_record_is_named():
    with pytest.raises(DataError, match="rooms/train, sample 02: .*truncated record"):
        datasets.tfds(Builder(), "train")[2]


def test_package_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(DataError, match=r"pip install .*\[tfds\]"):
        datasets.tfds("nyu_depth_v2", "train")


class Package:
    """As much of the package as opens a data set."""

    def __init__(self):
        self.asked = []

    def builder(self, name, data_dir, file_format):
        self.asked.append((name, data_dir, file_format))
        if name == "unknown":
            raise KeyError("no such name\nNames: a, b")
        return Builder()


def test_a_data_set_by_name(monkeypatch):
    package = Package()
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", package)
    source = datasets.tfds("mine", "train", data_dir="there", sparse=True)
    assert (source.name, source.sparse) == ("mine/train", True)
    assert not datasets.tfds("mine", "train").sparse
    assert package.asked == [
        (name, place, "array_record") for name, place in (("mine", "there"), ("mine", None))
    ]
    with pytest.raises(DataError, match=r"no data set 'unknown' here \('no such name") as caught:
        datasets.tfds("unknown", "train")
    assert "Prepare it once" in str(caught.value)


def test_what_a_source_is_told():
    options = {"class_names": ["floor"], "ignore_index": 7}
    source = datasets.tfds(Builder(), "train", "labels", target="seg", **options)
    assert (source.class_names, source.ignore_index) == (("floor",), 7)
    assert datasets.tfds(Nameless(), "train").name == "tfds/train"


class Nameless:
    as_data_source = Builder.as_data_source


def test_pictures_of_one_column():
    class Narrow:
        def as_data_source(self, split):
            return [{"image": photo(4, 1), "depth": np.ones((4, 1), "float32")}]

    assert datasets.tfds(Narrow(), "train")[0].target.shape == (4, 1)


@pytest.mark.parametrize(("count", "last"), [(1, "0"), (10, "9"), (11, "10"), (100, "99")])
def test_ids_are_of_equal_length(count, last):
    class Some:
        def as_data_source(self, split):
            return [{"image": photo(), "depth": DEPTH}] * count

    ids = datasets.tfds(Some(), "train").ids
    assert len(ids) == count and ids[-1] == last and {len(name) for name in ids} == {len(last)}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # what other packages warn of is theirs to mend
def test_builder_on_disk(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")

    class Rooms(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(12, 16, 3)),
                "depth": tfds.features.Tensor(shape=(12, 16), dtype=np.float16),
            }
            features = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i in range(3):
                yield i, {"image": photo(seed=i), "depth": DEPTH + np.float16(i)}

    builder = Rooms(data_dir=tmp_path, file_format="array_record")
    with pytest.raises(DataError, match="Prepare it once"):
        datasets.tfds(builder, "train")
    builder.download_and_prepare()
    for data in (builder, "rooms"):
        source = datasets.tfds(data, "train", data_dir=tmp_path)
        assert source.name == "rooms/train"
        assert sorted(sample.target.min() for sample in source) == [1, 2, 3]
    batches = datasets.Batches(source, (12, 16), 2, target="depth")
    assert batches[0][0].shape == (2, 12, 16, 3)
