"""Damaged `.keras` and `.weights.h5` files: what they were, or one message of ours."""

import io
import json
import pickle
import tempfile
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tiny
from hypothesis import given

from keras_dpt import DPTDepth
from keras_dpt.errors import KerasDPTError, WeightsError

from .tally import attempt
from .test_files import damage
from .test_networks import changed, fewer

pytestmark = pytest.mark.compiles_long
WEIGHTS = "model.weights.h5"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model, and its files' bytes by suffix."""
    folder = tmp_path_factory.mktemp("keras")
    model = tiny.depth(preprocessor=tiny.preprocessor((32, 32)))
    model.save(folder / "a.keras")
    model.save_weights(folder / "a.weights.h5")
    return model, {n: (folder / f"a{n}").read_bytes() for n in (".keras", ".weights.h5")}


def members(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archived(parts, method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def is_same(model, other):
    return all(map(np.array_equal, model.get_weights(), other.get_weights()))


def loaded(content, expected=None):
    """The model of a `.keras` file, or the message of its refusal."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        path.write_bytes(content)
        with attempt(".keras files") as tried:
            try:
                model = DPTDepth.from_preset(path)
            except KerasDPTError as error:
                tried.refused = True
                assert path.name in str(error) and str(error).count("\n") < 40
                with tried.looking_for_remains():
                    assert [file.name for file in Path(folder).iterdir()] == [path.name]
                return str(error)
            for variable in model.weights:
                assert np.isfinite(keras.ops.convert_to_numpy(variable)).all()
            assert expected is None or is_same(model, expected)
            return model


def test_a_keras_file_is_a_door(saved, tmp_path):
    model, contents = saved
    assert is_same(loaded(contents[".keras"]), model)
    path = tmp_path / "model.keras"
    with pytest.raises(WeightsError, match="no file .*model.keras"):
        DPTDepth.from_preset(path)
    path.write_bytes(contents[".keras"])
    assert DPTDepth.from_preset(path, image_size=(64, 32)).preprocessor.image_size == (64, 32)
    with pytest.raises(TypeError, match="loaded as it was saved; kind cannot be changed"):
        DPTDepth.from_preset(path, kind="metric_depth")


def test_damaged_keras_files(saved):
    model, contents = saved

    @fewer()
    @given(damage(contents[".keras"]))
    def check(damaged):
        loaded(damaged, model)  # an archive has checksums

    check()


def test_keras_files_with_a_changed_field(saved):
    _, contents = saved
    parts = members(contents[".keras"])

    @fewer()
    @given(changed(json.loads(parts["config.json"])))
    def check(config):
        loaded(archived(parts | {"config.json": json.dumps(config)}))

    check()


def hostile_parts(parts, marker):
    """Archives that promise much, hold little, or would like to run something."""

    class Shell:
        def __reduce__(self):
            return Path(marker).touch, ()

    lambda_layer = keras.saving.serialize_keras_object(keras.layers.Lambda(lambda x: x))
    config = json.loads(parts["config.json"])
    config["config"]["backbone"] = lambda_layer
    bomb = io.BytesIO()
    with h5py.File(bomb, "w") as file:
        file.create_dataset("layers/x", (4_000_000_000,), "float32", fillvalue=0)
    packed = io.BytesIO()
    with h5py.File(packed, "w") as file:
        file.create_dataset("layers/x", data=np.zeros(20_000_000, "float32"), compression=9)
    yield parts | {"config.json": json.dumps(lambda_layer)}
    yield parts | {"config.json": json.dumps(config)}
    yield parts | {"config.json": pickle.dumps(Shell())}
    yield parts | {"config.json": "[" * 100_000}
    yield parts | {WEIGHTS: pickle.dumps(Shell())}
    yield parts | {WEIGHTS: bomb.getvalue()}
    yield parts | {WEIGHTS: packed.getvalue()}
    yield {name: content for name, content in parts.items() if name != WEIGHTS}
    yield {"config.json": parts["config.json"]}
    yield {"../outside": b"x"}


def test_hostile_archives(saved, tmp_path):
    parts = members(saved[1][".keras"])
    for other in hostile_parts(parts, tmp_path / "ran"):
        assert isinstance(loaded(archived(other)), str)
    bomb = archived(parts | {WEIGHTS: bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    assert "compressed" in loaded(bomb)
    assert not list(tmp_path.iterdir())


def test_damaged_weights(saved):
    model, contents = saved

    @fewer()
    @given(damage(contents[".weights.h5"]))
    def check(damaged):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "a.weights.h5")
            path.write_bytes(damaged)
            with attempt(".weights.h5 files") as tried:
                try:
                    model.load_weights(path)
                except WeightsError as error:
                    tried.refused = True
                    assert path.name in str(error) and str(error).count("\n") < 3
                else:  # HDF5 has no checksums: other numbers are possible, but they are numbers
                    for variable in model.weights:
                        assert np.isfinite(keras.ops.convert_to_numpy(variable)).all()

    check()


def test_weights_that_promise_too_much(saved, tmp_path):
    """A megabyte that would be gigabytes is refused before it is read."""
    model, _ = saved
    path = tmp_path / "a.weights.h5"
    with h5py.File(path, "w") as file:
        for i in range(3):
            zeros = np.zeros(10_000_000, "float32")
            file.create_dataset(f"layers/x{i}/vars/0", data=zeros, compression=9)
    with pytest.raises(WeightsError, match="a.weights.h5 holds 30,000,000 numbers, far more"):
        model.load_weights(path)
