import numpy as np
import pytest
from files import save
from PIL import Image

from keras_dpt.datasets.readers import read_depth, read_labels, scale_of
from keras_dpt.errors import DataError
from keras_dpt.maps.depth_map import DepthMap

DEPTH = np.arange(1, 13, dtype="float32").reshape(3, 4)


def test_units():
    assert scale_of("m") == 1 and scale_of("mm") == 0.001 and scale_of(1 / 256) == 1 / 256
    for wrong in ("cm", 0, -1, float("nan"), float("inf"), None, [1]):
        with pytest.raises(DataError, match="unit must be"):
            scale_of(wrong)


@pytest.mark.parametrize("suffix", [".png", ".pgm", ".tif", ".npy", ".pfm"])
def test_formats_of_depth(tmp_path, suffix):
    path = tmp_path / f"depth{suffix}"
    if suffix == ".npy":
        np.save(path, DEPTH)
    elif suffix == ".pfm":
        DepthMap(DEPTH, "metric_depth").save(path)
    elif suffix == ".pgm":  # Pillow writes them with 16 bits since version 11
        path.write_bytes(b"P5 4 3 65535\n" + DEPTH.astype(">u2").tobytes())
    else:
        save(path, DEPTH if suffix == ".tif" else DEPTH.astype("uint16"))
    values = read_depth(path, 0.5)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, DEPTH / 2)


def test_unknown_depth_survives_reading(tmp_path):
    depth = np.where(DEPTH > 6, np.inf, DEPTH).astype("float32")
    with open(tmp_path / "disp.pfm", "wb") as file:
        file.write(b"Pf\n4 3\n-1.0\n" + depth[::-1].tobytes())
    np.testing.assert_array_equal(read_depth(tmp_path / "disp.pfm"), depth)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_labels_are_stored_numbers_whatever_their_colours(tmp_path, mode):
    image = Image.fromarray(np.array([[0, 3], [255, 1]], "uint8"))
    if mode == "P":
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768, "uint8").tobytes())
    image.save(tmp_path / "ids.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "ids.png"), [[0, 3], [255, 1]])


def test_what_cannot_be_read(tmp_path):
    colour, cut = tmp_path / "colour.png", tmp_path / "cut.png"
    save(colour, np.zeros((3, 4, 3), "uint8"))
    save(cut, np.random.default_rng(0).integers(0, 60000, (60, 80)).astype("uint16"))
    cut.write_bytes(cut.read_bytes()[:2000])
    np.save(tmp_path / "cube.npy", np.zeros((3, 4, 2)))
    np.save(tmp_path / "words.npy", np.array([["a"]]))
    (tmp_path / "text.pfm").write_text("no depth")
    for name, message in {
        "colour.png": "mode RGB",
        "cut.png": "damaged",
        "cube.npy": r"\(3, 4, 2\)",
        "words.npy": "real numbers",
        "text.pfm": "not a PFM",
        "none.png": "does not exist",
        "depth.exr": "files of depth end in",
    }.items():
        with pytest.raises(DataError, match=message) as error:
            read_depth(tmp_path / name)
        assert name in str(error.value)
