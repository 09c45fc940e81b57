"""Results where NumPy wants arrays, in file objects, and of masked arrays."""

import io

import numpy as np
import pytest
from PIL import Image

from keras_dpt.errors import DepthError, ImageError, LabelError
from keras_dpt.images.reading import read_image
from keras_dpt.maps.alignment import align_scale_shift
from keras_dpt.maps.depth_map import DepthMap
from keras_dpt.maps.label_map import LabelMap
from keras_dpt.maps.points import PointCloud

VALUES = np.arange(12, dtype="float32").reshape(3, 4) / 2
RESULTS = {
    "depth": (DepthMap(VALUES, "metric_depth"), VALUES),
    "labels": (LabelMap(np.uint8([[0, 1], [1, 255]]), ("sky", "road")), [[0, 1], [1, 255]]),
    "points": (PointCloud(VALUES.reshape(4, 3)), VALUES.reshape(4, 3)),
}


@pytest.fixture(params=RESULTS)
def result(request):
    return RESULTS[request.param]


def test_numpy_sees_an_array(result):
    result, values = result
    array = np.asarray(result)
    np.testing.assert_array_equal(array, values)
    assert (result.shape, result.dtype, result.ndim) == (array.shape, array.dtype, 2)
    assert np.shape(result) == array.shape and np.asarray(result) is array
    np.testing.assert_array_equal(np.stack([result, result])[1], values)
    assert np.max(result) == np.max(values)
    array = np.asarray(result, dtype="float64")
    assert array.dtype == np.float64
    np.testing.assert_array_equal(array, values)


def test_copies_as_numpy_2_asks_for_them(result):
    result, _ = result
    own = np.asarray(result)
    assert result.__array__(copy=False) is own
    assert result.__array__(own.dtype, copy=None) is own
    copy = np.array(result)
    assert not np.shares_memory(copy, own)
    assert result.__array__(np.dtype("float64"), copy=True).dtype == np.float64
    with pytest.raises(ValueError, match="as float16 needs a copy"):
        result.__array__(np.dtype("float16"), copy=False)


def test_np_save_writes_no_pickle(result):
    result, values = result
    file = io.BytesIO()
    np.save(file, result, allow_pickle=False)
    file.seek(0)
    np.testing.assert_array_equal(np.load(file), values)


def test_imshow(result):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = plt.imshow(result[0])
    np.testing.assert_array_equal(shown.get_array(), result[1])
    plt.close("all")


def test_a_result_is_no_photo(result):
    with pytest.raises(ImageError, match="is no image: pass the photo"):
        read_image(result[0])


# --- File objects ---


@pytest.mark.parametrize("format", ["npy", "pfm", "png", ".PNG"])
def test_depth_in_a_file_object(format, tmp_path):
    depth, file = RESULTS["depth"][0], io.BytesIO()
    depth.save(file, format=format)
    path = tmp_path / f"depth.{format.lower().lstrip('.')}"
    depth.save(path)
    assert file.getvalue() == path.read_bytes()


@pytest.mark.parametrize("format", ["npy", "png"])
def test_labels_in_a_file_object(format, tmp_path):
    labels, file = RESULTS["labels"][0], io.BytesIO()
    labels.save(file, format)
    labels.save(tmp_path / f"labels.{format}")
    assert file.getvalue() == (tmp_path / f"labels.{format}").read_bytes()
    with open(tmp_path / "open.bin", "wb") as file:
        labels.save(file, format)
    assert (tmp_path / "open.bin").read_bytes() == (tmp_path / f"labels.{format}").read_bytes()


@pytest.mark.parametrize("format", ["ply", "glb", "gltf"])
def test_points_in_a_file_object(format, tmp_path):
    pytest.importorskip("trimesh")
    points, file = RESULTS["points"][0], io.BytesIO()
    points.save(file, format=format)
    points.save(tmp_path / f"points.{format}")
    assert file.getvalue() == (tmp_path / f"points.{format}").read_bytes()


def test_file_objects_need_a_format(result, tmp_path):
    result, _ = result
    with pytest.raises(ValueError, match="no suffix: pass format=, one of '"):
        result.save(io.BytesIO())
    with pytest.raises(ValueError, match="format must be one of .* Received: 'tiff'"):
        result.save(io.BytesIO(), format="tiff")
    with pytest.raises(ValueError, match="not a list"):
        result.save([])


def test_a_file_object_that_takes_no_bytes(tmp_path):
    depth = RESULTS["depth"][0]
    with pytest.raises(DepthError, match="takes no bytes .*Open the file in binary"):
        depth.save(io.StringIO(), "npy")
    closed = io.BytesIO()
    closed.close()
    with pytest.raises(DepthError, match="Cannot write to BytesIO"):
        depth.save(closed, "npy")
    with pytest.raises(DepthError, match="ends in .npy, but format is 'png'"):
        depth.save(tmp_path / "a.npy", "png")
    depth.save(tmp_path / "without_suffix", "npy")
    np.testing.assert_array_equal(np.load(tmp_path / "without_suffix"), VALUES)


def test_repr_says_kind_unit_size_and_range():
    assert repr(RESULTS["depth"][0]) == "DepthMap(3x4 metric_depth, 0..5.5 m)"
    assert repr(DepthMap(VALUES, "relative_inverse_depth")) == (
        "DepthMap(3x4 relative_inverse_depth, 0..5.5)"
    )
    assert repr(RESULTS["labels"][0]) == (
        "LabelMap(2x2 labels 0..1 of 2 classes: road 67%, sky 33%)"
    )
    nothing = LabelMap(np.full((1, 1), 255), ("sky", "road"))
    assert repr(nothing) == "LabelMap(1x1 labels of 2 classes: none of them)"
    assert "4 points, x 0..4.5, y 0.5..5, z 1..5.5 m" in repr(RESULTS["points"][0])


# --- Masked arrays ---


def masked(array, *at):
    array = np.ma.masked_array(array, np.zeros(np.shape(array), bool))
    array[at] = np.ma.masked
    return array


def test_masked_pixels_are_no_pixels():
    image = np.full((4, 4, 3), 200, "uint8")
    with pytest.raises(ImageError, match="3 of 48 values are masked. Fill them"):
        read_image(masked(image, 1, 1))
    np.testing.assert_array_equal(read_image(np.ma.masked_array(image)), image)


def test_masked_values_are_no_results():
    with pytest.raises(DepthError, match="1 of 12 values are masked"):
        DepthMap(masked(VALUES, 0, 0), "metric_depth")
    with pytest.raises(LabelError, match=r"Labels: 1 of 4 .* \.filled\(255\)"):
        LabelMap(masked(np.uint8([[0, 1], [1, 0]]), 0, 0), ("sky", "road"))
    with pytest.raises(DepthError, match="Points: 1 of 12"):
        PointCloud(masked(VALUES.reshape(4, 3), 0, 0))
    with pytest.raises(DepthError, match="Colours: 1 of 12 values are masked"):
        PointCloud(VALUES.reshape(4, 3), masked(np.zeros((4, 3), "uint8"), 0, 0))


def test_masked_distances_are_unknown():
    relative = DepthMap(1 / (1 + VALUES), "relative_inverse_depth")
    right = relative.to_metric(depth=1 + VALUES)
    depth = (1 + VALUES).copy()
    depth[0] = 50  # beneath the mask
    ours = relative.to_metric(depth=masked(depth, 0))
    np.testing.assert_allclose(ours, right, rtol=1e-5)
    points = np.array([(0, 0, 1.0), (0, 3, 2.5), (2, 3, 6.5), (1, 0, 99)])
    ours = relative.to_metric(points=masked(points, 3, 2))
    np.testing.assert_allclose(ours, right, rtol=1e-5)
    ours = align_scale_shift(masked(relative.values, 1), masked(1 / (1 + VALUES), 2))
    np.testing.assert_allclose(ours, (1, 0), atol=1e-6)
    where = masked(np.ones((3, 4), bool), 0)
    ours = relative.to_metric(depth=depth, mask=where)
    np.testing.assert_allclose(ours, right, rtol=1e-5)


def test_pillow_takes_them_as_well():
    labels = RESULTS["labels"][0]
    np.testing.assert_array_equal(Image.fromarray(np.asarray(labels)), labels.labels)
