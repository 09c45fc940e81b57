import numpy as np
import pytest
from files import depth_pairs, label_pairs, photo, save

from keras_dpt import datasets
from keras_dpt.datasets.folders import lines_of
from keras_dpt.errors import DataError


@pytest.fixture
def root(tmp_path):
    depth_pairs(tmp_path)
    return tmp_path


def folder(root, **options):
    options = {"kind": "metric_depth", "unit": "mm"} | options
    return datasets.folder(root / "rgb", root / "depth", **options)


def test_pairs_by_name(root):
    save(root / "rgb" / "deep" / "7.jpg", photo())
    (root / "depth" / "deep").mkdir()
    np.save(root / "depth" / "deep" / "7.npy", np.full((12, 16), 3000.0))
    source = folder(root)
    assert source.ids == ["0", "1", "2", "3", "4", "deep/7"]
    assert source.kind == "metric_depth"
    np.testing.assert_allclose(source[1].target[1:], 2)
    np.testing.assert_allclose(source[5].target, 3)
    np.testing.assert_array_equal(source[2].image, photo(seed=2))
    assert not source[2].valid[0].any() and source[2].valid[1:].all()


@pytest.mark.parametrize(("unit", "depth"), [("m", 2000), (0.01, 20), (1 / 256, 2000 / 256)])
@pytest.mark.filterwarnings("ignore::keras_dpt.datasets.DataWarning")
def test_units(root, unit, depth):
    assert folder(root, unit=unit)[1].target[1, 0] == pytest.approx(depth)


def test_metres_need_a_unit_but_disparity_does_not(root):
    with pytest.raises(DataError, match="needs a unit"):
        folder(root, unit=None)
    source = folder(root, kind="relative_inverse_depth", unit=None)
    assert source[1].target[1, 0] == 2000


def test_labels(tmp_path):
    label_pairs(tmp_path, ids=(0, 2, 9))
    source = datasets.folder(
        tmp_path / "rgb", tmp_path / "seg", "labels", class_names=list("abc"), ignore_index=9
    )
    assert source.class_names == ("a", "b", "c")
    np.testing.assert_array_equal(source[0].valid, source[0].target != 9)


@pytest.mark.parametrize("missing", ["rgb/1.png", "depth/1.png"])
def test_missing_pair_is_named(root, missing):
    (root / missing).unlink()
    other = "depth" if missing.startswith("rgb") else "rgb"
    with pytest.raises(DataError, match=rf"1 of 5 .*{other}/1\.png"):
        folder(root)
    assert folder(root, allow_unpaired=True).ids == ["0", "2", "3", "4"]


def test_two_files_of_one_name(root):
    np.save(root / "depth" / "1.npy", np.ones((12, 16)))
    with pytest.raises(DataError, match="the same name"):
        folder(root)


def test_folders_that_are_not_there(root, tmp_path):
    with pytest.raises(DataError, match=r"no folder .*colour.* holds depth, rgb"):
        datasets.folder(root / "colour", root / "depth", "metric_depth", unit="m")
    with pytest.raises(DataError, match=r"no folder .*deep"):
        datasets.folder(root / "rgb", root / "deep", "metric_depth", unit="m")
    (root / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        datasets.folder(root / "empty", root / "depth", "metric_depth", unit="m")
    with pytest.raises(DataError, match="have no target"):
        datasets.folder(root / "rgb", root / "empty", "metric_depth", unit="m")


def test_damaged_files_are_named(root):
    (root / "rgb" / "1.png").write_bytes(b"nothing")
    (root / "depth" / "2.png").write_bytes((root / "depth" / "2.png").read_bytes()[:50])
    source = folder(root, name="mine")
    with pytest.raises(DataError, match=r"mine, sample 1: .*rgb/1\.png"):
        source[1]
    with pytest.raises(DataError, match=r"mine, sample 2: .*depth/2\.png"):
        source[2]


def test_lines_of_a_list(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(" a.png \n\n  \nstraße.png".encode())
    assert lines_of(path) == ["a.png", "straße.png"]
    with pytest.raises(DataError, match="no .*none.txt, which lists the samples"):
        lines_of(tmp_path / "none.txt")
