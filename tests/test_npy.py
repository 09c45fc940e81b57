"""Array files of others: no memory before the file's length is known, no pickles."""

import resource
import struct

import numpy as np
import pytest

from keras_dpt.datasets.readers import read_depth, read_labels
from keras_dpt.errors import DataError, DepthError, LabelError
from keras_dpt.maps.depth_map import DepthMap
from keras_dpt.maps.label_map import LabelMap
from keras_dpt.npy import read_npy


def header(shape, dtype="<f8"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (117 - len(text)) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


READERS = [
    (lambda path: DepthMap.load(path, kind="metric_depth"), DepthError),
    (lambda path: LabelMap.load(path, class_names=["a", "b"]), LabelError),
    (read_depth, DataError),
    (read_labels, DataError),
]


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_as_they_were_saved(tmp_path, order):
    values = np.asarray(np.random.default_rng(0).normal(size=(5, 7)), order=order)
    np.save(tmp_path / "a.npy", values)
    read = read_npy(tmp_path / "a.npy")
    np.testing.assert_array_equal(read, values)
    assert type(read) is np.ndarray and read.flags.writeable


@pytest.mark.parametrize("read, error", READERS)
def test_files_that_are_refused(tmp_path, read, error):
    path = tmp_path / "hostile.npy"
    contents = [
        header((600000, 800000)) + bytes(170),
        header((600000, 800000), "|u1"),
        header((2**40, 2**40)),
        header((4, 4)) + bytes(8),
        header((-4, -4)) + bytes(128),
        header((4, 4), "|O") + bytes(128),
        b"\x93NUMPY",
        b"",
        b"not an array",
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(error, match="hostile.npy"):
            read(path)
    np.savez(tmp_path / "archive.npz", a=np.ones((4, 4)))
    path.write_bytes((tmp_path / "archive.npz").read_bytes())
    with pytest.raises(error, match="hostile.npy.*archive"):
        read(path)
    np.save(path, np.array([[object()]]), allow_pickle=True)
    with pytest.raises(error, match="hostile.npy"):
        read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
