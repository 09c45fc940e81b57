"""Damaged images, depth files and label files: read as what they were, or one message of ours."""

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from keras_dpt.datasets.readers import read_depth, read_labels
from keras_dpt.errors import KerasDPTError
from keras_dpt.images.reading import read_image
from keras_dpt.maps.depth_map import DepthMap
from keras_dpt.maps.label_map import LabelMap

from .tally import attempt

RANDOM = np.random.default_rng(0)


def saved(suffix, thing):
    """The bytes of a file that `thing` is saved as."""
    with tempfile.TemporaryDirectory() as folder:
        thing.save(Path(folder, f"a{suffix}"))
        return Path(folder, f"a{suffix}").read_bytes()


PHOTO = Image.fromarray(RANDOM.integers(0, 256, (9, 14, 3), "uint8"))
DEPTH = DepthMap(RANDOM.uniform(1, 9, (9, 14)), "metric_depth")
LABELS = LabelMap(RANDOM.integers(0, 3, (9, 14)), ["a", "b", "c"])


def load_depth(path):
    return DepthMap.load(path, kind="metric_depth").values


def load_labels(path):
    return LabelMap.load(path, class_names=["a", "b", "c"]).labels


# Suffix, content, reader, and whether the format has checksums that tell every flipped bit.
FILES = {
    "photo.png": (saved(".png", PHOTO), read_image, True),
    "photo.jpg": (saved(".jpg", PHOTO), read_image, False),
    "photo.tif": (saved(".tif", PHOTO), read_image, False),
    "photo.gif": (saved(".gif", PHOTO), read_image, False),
    "photo.bmp": (saved(".bmp", PHOTO), read_image, False),
    "photo.webp": (saved(".webp", PHOTO), read_image, False),
    "depth.png": (saved(".png", DEPTH), load_depth, True),
    "depth.npy": (saved(".npy", DEPTH), load_depth, False),
    "depth.pfm": (saved(".pfm", DEPTH), load_depth, False),
    "truth.png": (saved(".png", DEPTH), read_depth, True),
    "truth.npy": (saved(".npy", DEPTH), read_depth, False),
    "labels.png": (saved(".png", LABELS), load_labels, True),
    "labels.npy": (saved(".npy", LABELS), read_labels, False),
}
PARTS = {"photo": "pictures", "labels": "label files"} | dict.fromkeys(
    ("depth", "truth"), "depth files"
)


@st.composite
def damage(draw, content):
    """The content cut off, with flipped bits, with a piece replaced or repeated."""
    content = bytearray(content)
    kind = draw(st.sampled_from(["cut", "flip", "replace", "repeat", "anything"]))
    at = draw(st.integers(0, len(content) - 1))
    if kind == "cut":
        del content[at:]
    elif kind == "flip":
        for place in draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
            content[place] ^= 1 << draw(st.integers(0, 7))
    elif kind == "replace":
        piece = draw(st.binary(min_size=1, max_size=16))
        content[at : at + len(piece)] = piece
    elif kind == "repeat":
        content[at:at] = content[at : at + draw(st.integers(1, 64))]
    else:
        content = draw(st.binary(max_size=200))
    return bytes(content)


@pytest.mark.parametrize("name", FILES)
def test_damaged_files(name):
    content, read, has_checksums = FILES[name]

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        whole = read(path)

        @given(damage(content))
        def check(damaged):
            path.write_bytes(damaged)
            with attempt(PARTS[name.partition(".")[0]]) as tried:
                try:
                    values = read(path)
                except KerasDPTError as error:
                    tried.refused = True
                    assert name in str(error)
                else:
                    assert values.size <= 50_000_000
                    assert not has_checksums or np.array_equal(values, whole)
                with tried.looking_for_remains():
                    assert [file.name for file in Path(folder).iterdir()] == [name]

        check()


@given(
    st.sampled_from(["uint8", "uint16", "int64", "bool", "float16", "float32", "complex64", "O"]),
    st.lists(st.integers(0, 5), max_size=5),
    st.sampled_from([0, 1, -1, 255, 300, np.nan, np.inf]),
)
def test_arrays_of_any_kind(dtype, shape, value):
    with np.errstate(all="ignore"):
        array = np.asarray(np.full(shape, value), "float64").astype(dtype)
    with attempt("arrays") as tried:
        try:
            image = read_image(array)
        except KerasDPTError:
            tried.refused = True
            return
        assert image.ndim == 3 and image.shape[-1] == 3 and image.min() >= 0 and image.max() <= 255


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["L", "RGB", "RGBA", "P", "1"]))
def test_whole_pngs_are_read(height, width, mode):
    image = Image.fromarray(RANDOM.integers(0, 256, (height, width, 3), "uint8")).convert(mode)
    file = io.BytesIO()
    image.save(file, "PNG")
    file.seek(0)
    expected = np.asarray(image.convert("RGB"))
    with Image.open(file) as opened:
        np.testing.assert_array_equal(read_image(opened), expected)
