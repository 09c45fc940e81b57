"""The layouts of known data sets."""

import h5py
import numpy as np
import pytest
from files import depth_pairs, label_pairs, photo, save

from keras_dpt import datasets
from keras_dpt.datasets.kitti import _lower_middle
from keras_dpt.errors import DataError
from keras_dpt.maps.depth_map import DepthMap


def test_nyuv2(tmp_path):
    depth_pairs(tmp_path / "val")
    label_pairs(tmp_path / "val", 5, images="other", ids=(0, 38, 255))
    source = datasets.nyuv2(tmp_path, "val")
    assert (source.name, source.kind, source.ids) == ("nyuv2/val", "metric_depth", list("01234"))
    assert source[2].target[1, 0] == pytest.approx(3)
    labels = datasets.nyuv2(tmp_path, "val", target="labels")
    assert len(labels.class_names) == 39 and set(np.unique(labels[0].target)) == {0, 38, 255}
    with pytest.raises(DataError, match=r"expected the folders .*train/rgb.* holds val"):
        datasets.nyuv2(tmp_path, "train")
    (tmp_path / "val" / "depth" / "3.png").unlink()
    with pytest.raises(DataError, match=r"1 files are missing: .*depth/3\.png"):
        datasets.nyuv2(tmp_path, "val")


def test_nyuv2_as_released(tmp_path):
    io = pytest.importorskip("scipy.io")
    path = tmp_path / "nyu_depth_v2_labeled.mat"
    images = np.stack([photo(seed=i) for i in range(4)])
    depths = np.random.default_rng(0).uniform(1, 9, (4, 12, 16)).astype("float32")
    with h5py.File(path, "w") as file:
        file["images"] = images.transpose(0, 3, 2, 1)
        file["depths"] = depths.transpose(0, 2, 1)
    with pytest.raises(DataError, match=r"no .*splits\.mat"):
        datasets.nyuv2(path, "train")
    io.savemat(tmp_path / "splits.mat", {"trainNdxs": [[2], [4]], "testNdxs": [[1], [3]]})
    source = datasets.nyuv2(path, "train")
    assert (source.name, source.ids) == ("nyuv2/train", ["0001", "0003"])
    np.testing.assert_array_equal(source[1].image, images[3])
    np.testing.assert_array_equal(source[1].target, depths[3])
    assert datasets.nyuv2(path, "test").ids == ["0000", "0002"]
    with pytest.raises(DataError, match="Received: 'val'"):
        datasets.nyuv2(path, "val")


def test_depth_misc(tmp_path):
    depth_pairs(tmp_path / "val", 2)
    source = datasets.depth_misc(tmp_path)
    assert (source.name, source.kind) == ("depth_misc/val", "metric_depth")
    assert source[1].target[1, 0] == pytest.approx(2)


def test_middlebury(tmp_path):
    save(tmp_path / "val" / "rgb" / "Art.jpg", photo())
    save(tmp_path / "val" / "disp" / "Art.png", np.full((12, 16), 640, "uint16"))
    source = datasets.middlebury(tmp_path)
    assert source.kind == "relative_inverse_depth" and source[0].target[0, 0] == 10
    assert source.name == "middlebury/val"


def test_middlebury_as_released(tmp_path):
    disparity = np.full((12, 16), 5.5, "float32")
    save(tmp_path / "2014" / "Piano" / "im0.png", photo())
    DepthMap(disparity, "relative_inverse_depth").save(tmp_path / "2014" / "Piano" / "disp0.pfm")
    save(tmp_path / "2005" / "Art" / "view1.png", photo())
    save(tmp_path / "2005" / "Art" / "disp1.png", np.full((12, 16), 7, "uint8"))
    source = datasets.middlebury(tmp_path, split=None)
    assert (source.name, source.ids) == ("middlebury", ["2005/Art", "2014/Piano"])
    assert [sample.target[0, 0] for sample in source] == [7, 5.5]
    with pytest.raises(DataError, match="no folder of a scene"):
        datasets.middlebury(tmp_path / "2005" / "Art", split=None)


@pytest.fixture
def kitti(tmp_path):
    drive = "2011_09_26_drive_0002_sync"
    depth = np.zeros((370, 1230), "uint16")
    depth[200, 700] = 256 * 20
    image = np.zeros((370, 1230, 3), "uint8")
    for i in range(2):
        save(tmp_path / "input" / "2011_09_26" / drive / "image_02" / "data" / f"{i}.png", image)
    name = f"{drive}/proj_depth/groundtruth/image_02"
    save(tmp_path / "gt_depth" / "train" / name / "0.png", depth)
    image = f"2011_09_26/{drive}/image_02/data"
    lines = [f"/{image}/0.png {name}/0.png 721.5377", "", f"{image}/1.png None 721.5377"]
    (tmp_path / "kitti_eigen_test.txt").write_text("\n".join(lines))
    return tmp_path


def test_kitti(kitti):
    source = datasets.kitti(kitti, "test")
    assert source.name == "kitti/test" and source.sparse and len(source) == 1
    _, depth, valid = source[0]
    assert valid.sum() == 1 and depth[200, 700] == 20
    cropped = datasets.kitti(kitti, "test", benchmark_crop=True)
    assert cropped.sparse and cropped[0].image.shape == (352, 1216, 3)
    assert cropped[0].target[200 - 18, 700 - 7] == 20


@pytest.mark.parametrize(
    ("size", "first"),
    [((352, 1216), (0, 0)), ((376, 1242), (24, 13)), ((351, 1216), None), ((352, 1215), None)],
)
def test_the_crop_of_the_benchmark(size, first):
    rows, columns = (x.astype("float32") for x in np.mgrid[: size[0], : size[1]])
    image = np.stack([rows % 256, columns % 256, rows], axis=-1).astype("uint8")
    if first is None:
        with pytest.raises(DataError, match=rf"\({size[0]}, {size[1]}\), too small .* 352x1216"):
            _lower_middle(image, rows)
        return
    window = slice(first[0], first[0] + 352), slice(first[1], first[1] + 1216)
    cut, depth = _lower_middle(image, rows)
    np.testing.assert_array_equal(cut, image[window])
    np.testing.assert_array_equal(depth, rows[window])


def test_kitti_says_what_is_missing(kitti):
    (kitti / "short.txt").write_text("a.png")
    (kitti / "more.txt").write_text("2011_09_26/x.png drive/y.png 1")
    with pytest.raises(DataError, match=r"short\.txt: expected an image and a depth map"):
        datasets.kitti(kitti, "mine", pairs="short.txt")
    with pytest.raises(DataError, match=r"2 files are missing: .*x\.png.*drive/y\.png"):
        datasets.kitti(kitti, "mine", pairs="more.txt")
    with pytest.raises(DataError, match=r"no .*kitti_eigen_train\.txt"):
        datasets.kitti(kitti, "train")
    with pytest.raises(DataError, match="no folder .*raw.* holds gt_depth, input"):
        datasets.kitti(kitti, "test", images="raw")


def test_ade20k(tmp_path):
    label_pairs(tmp_path, 2, "images/training", "annotations/training", ids=(0, 1, 150))
    source = datasets.ade20k(tmp_path, "training")
    assert source.name == "ade20k/training" and source.ids == ["0", "1"]
    assert len(source.class_names) == 150 and source.class_names[:2] == ("wall", "building")
    np.testing.assert_array_equal(source[0].target[0, :3], [255, 0, 149])
    label_pairs(tmp_path, 1, "images/training", "annotations/training", ids=(0, 1, 151))
    with pytest.raises(DataError, match=r"no class \(150\)"):
        datasets.ade20k(tmp_path, "training")[0]
    with pytest.raises(DataError, match=r"no folder .*images/validation"):
        datasets.ade20k(tmp_path, "validation")


def test_pascal_context(tmp_path):
    label_pairs(tmp_path, 3, "JPEGImages", "SegmentationClassContext", ids=(0, 1, 59))
    lists = tmp_path / "ImageSets" / "SegmentationContext"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("2\n0\n")
    source = datasets.pascal_context(tmp_path, "val")
    assert source.name == "pascal_context/val" and source.kind == "labels"
    assert len(source.class_names) == 59 and source.ids == ["2", "0"]
    np.testing.assert_array_equal(source[0].target[0, :3], [255, 0, 58])
    with pytest.raises(DataError, match=r"no .*train\.txt"):
        datasets.pascal_context(tmp_path, "train")


def test_camvid(tmp_path):
    label_pairs(tmp_path / "val")
    label_pairs(tmp_path, images="test", targets="testannot", suffix=".png")
    for split in ("val", "test"):
        source = datasets.camvid(tmp_path, split)
        assert source.name == f"camvid/{split}"
        assert len(source.class_names) == 11 and len(source) == 3
        np.testing.assert_array_equal(source[0].target[0, :3], [0, 1, 255])
    label_pairs(tmp_path / "val", ids=(0, 12))
    with pytest.raises(DataError, match=r"no class \(12\)"):
        datasets.camvid(tmp_path, "val")[0]


def test_data_sets_by_name(tmp_path):
    depth_pairs(tmp_path / "val")
    assert datasets.named(f"nyuv2:{tmp_path}", "val").name == "nyuv2/val"
    folders = tmp_path / "images" / "validation", tmp_path / "annotations" / "validation"
    save(folders[0] / "a.jpg", photo())
    save(folders[1] / "a.png", np.ones((12, 16), "uint8"))
    assert datasets.named(f"ade20k:{tmp_path}", "val").ids == ["a"]
    for text in ("nyu:data", "nyuv2", "nyuv2:", "folder:data"):
        with pytest.raises(
            DataError, match=f"one of the names kitti, .*nyuv2, .*. Received: '{text}'"
        ):
            datasets.named(text, "val")
