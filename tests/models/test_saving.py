"""What saving does on a disk that is too full, or when it is cut off: nothing is lost."""

import errno

import keras
import keras_hub
import pytest
import tiny

from keras_dpt import space, training
from keras_dpt.errors import WeightsError

WAYS = {
    "model.keras": "save",
    "model.weights.h5": "save_weights",
    "preset": "save_to_preset",
}


@pytest.fixture(scope="module")
def model():
    return tiny.depth(preprocessor=tiny.preprocessor())


@pytest.fixture
def small_disk(monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(space.shutil, "disk_usage", lambda folder: usage)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", WAYS)
def test_too_small_a_disk_is_known_before_anything_is_written(name, model, small_disk, tmp_path):
    (tmp_path / "preset").mkdir()
    (tmp_path / "preset" / "config.json").write_bytes(b"old")
    (tmp_path / "model.keras").write_bytes(b"old")
    (tmp_path / "model.weights.h5").write_bytes(b"old")
    before = content(tmp_path)
    with pytest.raises(WeightsError, match=r"too full: \d\S* MB are needed and 0 MB free"):
        getattr(model, WAYS[name])(tmp_path / name)
    assert content(tmp_path) == before
    with pytest.raises(WeightsError, match="too full"):
        getattr(model.backbone, WAYS[name])(str(tmp_path / name))


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("number", [errno.ENOSPC, None], ids=["the number", "in HDF5's message"])
def test_a_disk_that_fills_up(number, name, model, tmp_path, monkeypatch):
    def fails(self, path, *args, **kwargs):
        path = tmp_path / path
        (path / "config.json" if path.is_dir() else path).write_bytes(b"half")
        raise OSError(number, "no space") if number else OSError("write failed: errno = 28, buf")

    owner = keras_hub.models.Task if WAYS[name] == "save_to_preset" else keras.Model
    monkeypatch.setattr(owner, WAYS[name], fails)
    with pytest.raises(WeightsError, match="it filled up while a file was written"):
        getattr(model, WAYS[name])(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_an_interrupted_save_leaves_the_older_file(name, model, tmp_path, monkeypatch):
    getattr(model, WAYS[name])(tmp_path / name)
    before = content(tmp_path)
    assert list(before) == [name]

    def interrupted(self, path, *args, **kwargs):
        (tmp_path / path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, WAYS[name], interrupted)
    with pytest.raises(KeyboardInterrupt):
        getattr(model, WAYS[name])(tmp_path / name)
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_an_older_file_is_replaced(name, model, tmp_path):
    (tmp_path / name).write_bytes(b"old")
    getattr(model, WAYS[name])(tmp_path / name)
    assert list(content(tmp_path)) == [name]
    assert content(tmp_path)[name] != b"old"


def test_the_optimizer_needs_space_too(tmp_path, monkeypatch):
    model = tiny.depth(preprocessor=tiny.preprocessor())
    model.compile()
    model.optimizer.build(model.trainable_variables)
    free = 5 * model.count_params()  # bytes: enough for the weights alone
    monkeypatch.setattr(space.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))
    with pytest.raises(WeightsError, match="too full"):
        model.save_weights(tmp_path / "model.weights.h5")


def test_keras_still_asks_before_it_overwrites(model, tmp_path, monkeypatch):
    file = tmp_path / "model.weights.h5"
    file.write_bytes(b"old")
    monkeypatch.setattr("builtins.input", lambda *_: "n")
    model.save_weights(file, overwrite=False)
    assert file.read_bytes() == b"old"


@pytest.mark.parametrize("callback", ["Resume", "KeepBest"])
def test_training_ends_with_one_message(callback, model, small_disk, tmp_path):
    kept = training.Resume(tmp_path) if callback == "Resume" else training.KeepBest(tmp_path, "e")
    kept.set_model(model)
    kept.on_train_begin()
    with pytest.raises(WeightsError, match=f"The disk of {tmp_path} is too full"):
        kept.on_epoch_end(0, {"e": 1.0})
        kept.on_epoch_begin(1)  # a state is written when the epoch after it begins
    assert not list(tmp_path.glob("*.h5"))


def test_bytes_of_dtypes():
    from keras_dpt.models.saving import _bytes_of

    sizes = {"float32": 4, "bfloat16": 2, "int64": 8, "bool": 1, "int4": 1, "float8_e4m3fn": 1}
    assert {dtype: _bytes_of(dtype) for dtype in sizes} == sizes


def test_a_preset_is_no_file(model, tmp_path):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"kept")
    with pytest.raises(WeightsError, match="A preset is a folder. Received: .*photo.jpg"):
        model.save_to_preset(photo)
    assert content(tmp_path) == {"photo.jpg": b"kept"}
