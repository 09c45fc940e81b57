"""`fit` by the recipe, killed at any line of an epoch's end and resumed: all as it would be."""

import h5py
import numpy as np
import pytest

from .driver import POINTS, names, spread

EPOCHS = 3
# All that an epoch's end runs through: our callbacks, and Keras while it writes weights.
FILES = (
    "training/callbacks.py",
    "training/log.py",
    "keras_dpt/files.py",
    "saving_lib.py:__setitem__",
)


@pytest.fixture(scope="module", params=["fit_small", "fit"])
def whole(request, runner, tmp_path_factory):
    """A training, its folder if undisturbed, and how many lines it took."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    ended = runner(request.param, folder, EPOCHS, files=FILES)
    assert ended["code"] == 0, ended["output"]
    return request.param, folder, ended["lines"]


def check_same(folder, expected):
    """All that a training leaves behind is what an undisturbed one left."""
    assert names_but_tensorboard(folder) == names_but_tensorboard(expected)
    for name in names_but_tensorboard(expected):
        if name.endswith((".csv", ".json", ".png")):
            assert (folder / name).read_bytes() == (expected / name).read_bytes(), name
    for name in ("best.weights.h5", f"state_{EPOCHS:05d}.weights.h5"):
        (arrays, attributes), (others, their) = (contents(f / name) for f in (folder, expected))
        assert arrays.keys() == others.keys() and attributes == their
        for path, array in arrays.items():
            np.testing.assert_array_equal(array, others[path], err_msg=f"{name} {path}")
    name = f"state_{EPOCHS:05d}.weights.npz"
    with np.load(folder / name) as states, np.load(expected / name) as others:
        for key in others.files:
            np.testing.assert_array_equal(states[key], others[key])


def names_but_tensorboard(folder):
    return [name for name in names(folder) if not name.startswith("tensorboard/")]


def contents(file):
    """Arrays in an HDF5 file by path, and the file's attributes."""
    arrays = {}

    def add(name, item):
        if hasattr(item, "shape"):
            arrays[name] = item[()]

    with h5py.File(file) as opened:
        opened.visititems(add)
        return arrays, {name: bytes(value) for name, value in opened.attrs.items()}


@pytest.mark.slow
def test_killed_anywhere_and_resumed(runner, whole, tmp_path):
    job, expected, lines = whole
    for at in spread(lines, 3 * POINTS if job == "fit_small" else POINTS // 2):
        folder = tmp_path / str(at)
        ended = runner(job, folder, EPOCHS, files=FILES, at=at)
        assert ended["code"] == -9, ended["output"]
        ended = runner(job, folder, EPOCHS)
        assert ended["code"] == 0, (at, ended["output"])
        check_same(folder, expected)


@pytest.mark.slow
def test_killed_again_and_again(runner, whole, tmp_path):
    """Each run goes on from the last, and is killed, until one is done."""
    job, expected, lines = whole
    folder, ended = tmp_path / "run", {"code": -9}
    for share in (0.3, 0.5, 0.5, 0.6, 0.8, 1.0):
        ended = runner(job, folder, EPOCHS, files=FILES, at=int(share * lines))
        if ended["code"] != -9:
            break
    assert ended["code"] == 0, ended["output"]
    check_same(folder, expected)


@pytest.mark.slow
def test_two_trainings_at_once(runner, whole, tmp_path):
    """In one folder: one of them is refused, and the other is what it would be alone."""
    job, expected, _ = whole
    ended = runner.together(*[(job, tmp_path / "run", EPOCHS)] * 2)
    refused = [other for other in ended if other["code"]]
    assert len(refused) == 1 and "Another process is training in" in refused[0]["output"]
    check_same(tmp_path / "run", expected)
