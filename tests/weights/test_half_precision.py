"""Weights files of half the size: the same groups, names and attributes, rounded values."""

import errno

import h5py
import numpy as np
import pytest

from keras_dpt.errors import WeightsError
from keras_dpt.weights import half_precision
from keras_dpt.weights.half_precision import store_in_half_precision

LARGEST = 65504.0  # of float16


def save(path, values):
    with h5py.File(path, "w") as file:
        file.attrs["version"] = "1"
        layer = file.create_group("layers/dense/vars")
        layer.attrs["name"] = "dense"
        layer.create_dataset("0", data=np.array(values, "float32")).attrs["unit"] = "m"
        layer.create_dataset("seed", data=np.array([2**31 - 1, 5], "int32"))


def test_floats_are_halved_and_nothing_else(tmp_path):
    path = tmp_path / "model.weights.h5"
    save(path, [0.1, -2.0, LARGEST, -LARGEST])
    (tmp_path / "notes.h5").write_bytes(b"mine")
    store_in_half_precision(tmp_path)
    with h5py.File(path) as file:
        layer = file["layers/dense/vars"]
        assert file.attrs["version"] == "1" and layer.attrs["name"] == "dense"
        assert layer["0"].dtype == "float16" and layer["0"].attrs["unit"] == "m"
        # 0.1 has the significant bits 1.1001100110 and the exponent -4: 1638 * 2 ** -14.
        np.testing.assert_array_equal(layer["0"], [1638 / 2**14, -2, LARGEST, -LARGEST])
        assert layer["seed"].dtype == "int32" and list(layer["seed"]) == [2**31 - 1, 5]
    assert (tmp_path / "notes.h5").read_bytes() == b"mine"


@pytest.mark.parametrize("value", [LARGEST + 8, -LARGEST - 8])
def test_what_does_not_fit_stays_as_it_was(tmp_path, value):
    path = tmp_path / "model.weights.h5"
    save(path, [value, 0])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="/layers/dense/vars/0 holds values beyond"):
        store_in_half_precision(tmp_path)
    assert path.read_bytes() == before and [x.name for x in tmp_path.iterdir()] == [path.name]


def test_a_disk_that_fills_up(tmp_path, monkeypatch):
    def copy(old, new):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "model.weights.h5"
    save(path, [1, 0])
    before = path.read_bytes()
    monkeypatch.setattr(half_precision, "_copy_halved", copy)
    with pytest.raises(WeightsError, match="model.weights.h5: No space left"):
        store_in_half_precision(tmp_path)
    assert path.read_bytes() == before and [x.name for x in tmp_path.iterdir()] == [path.name]
