import dataclasses
import json
import stat
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image, ImageChops

from keras_dpt.errors import KerasDPTError
from keras_dpt.maps.label_map import LabelMap, default_palette

NAMES = ("sky", "road", "Ähre & co", "car")
PALETTE = [(0, 0, 255), (90, 90, 90), (255, 255, 0), (200, 0, 50)]
LABELS = np.array([[0, 0, 0, 2], [1, 1, 255, 2]], "uint8")


def label_map(labels=LABELS, **options):
    return LabelMap(labels, **{"class_names": NAMES, "palette": PALETTE} | options)


@contextmanager
def raises(says):
    """One KerasDPTError that is a ValueError too and whose single line contains `says`."""
    with pytest.raises(ValueError) as caught:
        yield
    assert isinstance(caught.value, KerasDPTError)
    assert says in str(caught.value) and "\n" not in str(caught.value)


# --- what it holds ---


def test_labels_are_kept_small():
    for dtype in ("uint8", "int64", ">i2", "uint16"):
        labels = label_map(LABELS.astype(dtype)).labels
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, LABELS)
    many = LabelMap(np.array([[299]]), [str(i) for i in range(300)], ignore_index=-1)
    assert many.labels.dtype == np.int32
    unknown = label_map(np.array([[-1, 3]]), ignore_index=-1)
    np.testing.assert_array_equal(unknown.labels, [[-1, 3]])


def test_kind_and_frozen():
    assert label_map().kind == "labels"
    with pytest.raises(dataclasses.FrozenInstanceError):
        label_map().labels = LABELS


def test_repr_is_short():
    assert repr(label_map(source="a.jpg")) == (
        "LabelMap(2x4 labels 0..2 of 4 classes: sky 43%, road 29%, Ähre & co 29%, source='a.jpg')"
    )


def test_repr_names_the_three_largest():
    text = repr(label_map(np.array([[0, 0, 0, 0, 1, 1, 1, 2, 2, 3]])))
    assert text.endswith("4 classes: sky 40%, road 30%, Ähre & co 20%)")


def test_confidence():
    confidence = np.linspace(0, 1, 8).reshape(2, 4)
    assert label_map().confidence is None
    kept = label_map(confidence=confidence).confidence
    assert kept.dtype == np.float32
    np.testing.assert_allclose(kept, confidence, rtol=1e-6)
    with raises("Confidence is (4, 2) but labels (2, 4)"):
        label_map(confidence=confidence.T)


@pytest.mark.parametrize(
    "labels, says",
    [
        (LABELS.astype("float32"), "integers. Received: dtype float32"),
        (LABELS[None], "Received: shape (1, 2, 4)"),
        (np.zeros((0, 4), "uint8"), "Received: shape (0, 4)"),
        (np.array([[0, 4]]), "0 to 3, or 255 for none. Received: 4"),
        (np.array([[0, -1]]), "Received: -1"),
    ],
)
def test_refused_labels(labels, says):
    with raises(says):
        label_map(labels)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"class_names": ()}, "list of names"),
        ({"class_names": "abcd"}, "list of names"),
        ({"class_names": (1, 2, 3, 4)}, "list of names"),
        ({"class_names": ("a", "b", "c", "b")}, "'b' is there twice"),
        ({"palette": PALETTE[:3]}, "palette must be 4 colours"),
        ({"palette": [(0, 0, 256)] * 4}, "0 to 255"),
        ({"palette": [(0, 0, -1)] * 4}, "0 to 255"),
        ({"palette": [(0, 0, 0.5)] * 4}, "whole numbers"),
        ({"ignore_index": 3}, "ignore_index 3 is the id of one of the 4 classes"),
    ],
)
def test_refused_names_and_colours(options, says):
    with raises(says):
        label_map(**options)


def test_shares():
    shares = label_map().shares()
    assert list(shares) == ["sky", "road", "Ähre & co"]  # largest first, absent ones left out
    assert shares == pytest.approx({"sky": 3 / 7, "road": 2 / 7, "Ähre & co": 2 / 7})
    assert label_map(np.full((2, 2), 255)).shares() == {}


def test_default_palette_tells_classes_apart():
    palette = default_palette(150)
    assert len(set(palette)) == 150
    assert palette == default_palette(200)[:150]
    neighbours = np.abs(np.diff(np.array(palette), axis=0)).sum(1)
    assert neighbours.min() > 60
    assert LabelMap(LABELS, NAMES).palette == default_palette(4)


# --- files ---


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".npy"])
def test_round_trip(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    original = label_map()
    original.save(path)
    loaded = LabelMap.load(path, None if suffix != ".npy" else NAMES)
    np.testing.assert_array_equal(loaded.labels, LABELS)
    assert loaded.class_names == NAMES and loaded.source == path
    if suffix != ".npy":
        assert loaded.palette == original.palette
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_png_is_what_other_programs_expect(tmp_path):
    label_map().save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), LABELS)
        assert image.text["keras_dpt.kind"] == "labels"
        assert json.loads(image.text["keras_dpt.class_names"]) == list(NAMES)
        colors = np.asarray(image.convert("RGB"))
    assert tuple(colors[0, 0]) == PALETTE[0] and tuple(colors[1, 2]) == (0, 0, 0)


def test_png_of_150_classes_and_another_ignore_index(tmp_path):
    names = [f"class {i}" for i in range(150)]
    labels = np.arange(150, dtype="uint8").reshape(10, 15)
    labels[0, 0] = 200
    LabelMap(labels, names, ignore_index=200).save(tmp_path / "x.png")
    loaded = LabelMap.load(tmp_path / "x.png")
    np.testing.assert_array_equal(loaded.labels, labels)
    assert loaded.ignore_index == 200 and loaded.palette == default_palette(150)


def test_files_of_others(tmp_path):
    Image.fromarray(LABELS).save(tmp_path / "grey.png")
    with raises("Pass class_names"):
        LabelMap.load(tmp_path / "grey.png")
    loaded = LabelMap.load(tmp_path / "grey.png", NAMES, PALETTE)
    np.testing.assert_array_equal(loaded.labels, LABELS)
    assert loaded.palette == tuple(PALETTE)
    Image.new("RGB", (4, 4)).save(tmp_path / "rgb.png")
    with raises("mode RGB"):
        LabelMap.load(tmp_path / "rgb.png", NAMES)
    (tmp_path / "bad.png").write_bytes((tmp_path / "grey.png").read_bytes()[:40])
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY\x01\x00")
    for name in ("bad.png", "bad.npy"):
        with raises(f"Cannot read {tmp_path / name}"):
            LabelMap.load(tmp_path / name, NAMES)
    with raises("no such file"):
        LabelMap.load(tmp_path / "missing.png")


def test_other_names_replace_those_of_the_file(tmp_path):
    label_map().save(tmp_path / "x.png")
    loaded = LabelMap.load(tmp_path / "x.png", ["a", "b", "c", "d", "e"])
    assert loaded.class_names[4] == "e" and loaded.palette == default_palette(5)
    with raises("from 0 to 1"):
        LabelMap.load(tmp_path / "x.png", ["a", "b"])


def test_refused_files(tmp_path):
    with raises("end in .npy, .png. Received: '.jpg'"):
        label_map().save(tmp_path / "x.jpg")
    with raises("there is no folder"):
        label_map().save(tmp_path / "no" / "x.png")
    many = LabelMap(np.array([[299]]), [str(i) for i in range(300)], ignore_index=-1)
    with raises("ids from 0 to 255"):
        many.save(tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_a_failed_write_keeps_the_old_file(suffix, tmp_path, monkeypatch):
    path = tmp_path / f"x{suffix}"
    label_map().save(path)
    before = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) & 0o400

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    monkeypatch.setattr(Image.Image, "save", full)
    with raises("No space left"):
        label_map(LABELS[::-1]).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


# --- pictures ---


def test_colorize():
    image = label_map().colorize()
    assert (image.mode, image.size) == ("RGB", (4, 2))
    assert image.getpixel((0, 0)) == PALETTE[0] and image.getpixel((3, 1)) == PALETTE[2]
    assert image.getpixel((2, 1)) == (0, 0, 0)


def test_overlay_by_hand():
    photo = np.full((2, 4, 3), 100, "uint8")
    image = np.asarray(label_map().overlay(photo, alpha=0.25))
    np.testing.assert_array_equal(image[0, 0], [75, 75, 139])  # 100 + (colour - 100) / 4
    np.testing.assert_array_equal(image[1, 2], [100, 100, 100])  # no class: as it was
    bare = label_map().overlay(photo, alpha=0)
    np.testing.assert_array_equal(np.asarray(bare), photo)
    full = np.asarray(label_map().overlay(photo, alpha=1))
    np.testing.assert_array_equal(full[0, 3], PALETTE[2])


def test_overlay_takes_what_predict_takes(tmp_path):
    photo = np.random.default_rng(0).integers(0, 255, (2, 4, 3), "uint8")
    Image.fromarray(photo).save(tmp_path / "photo.png")
    expected = label_map().overlay(photo)
    for other in (tmp_path / "photo.png", Image.fromarray(photo), photo.astype("float32")):
        assert ImageChops.difference(label_map().overlay(other), expected).getbbox() is None
    with raises("The photo is 3x4 (height x width) but the labels 2x4"):
        label_map().overlay(np.zeros((3, 4, 3), "uint8"))
    with raises("alpha"):
        label_map().overlay(photo, alpha=1.5)


def test_legend():
    image = label_map().legend()
    colors = {color for _, color in image.getcolors(100_000)}
    assert {tuple(c) for c in PALETTE[:3]} <= colors
    assert PALETTE[3] not in colors  # no car in the picture
    assert (255, 255, 255) in colors
    one = label_map().legend(max_classes=1)
    assert one.height < image.height
    large = label_map().legend(text_size=32)
    assert large.height == pytest.approx(2 * image.height, abs=2) and large.width > image.width
    nothing = label_map(np.full((2, 2), 255)).legend()
    assert nothing.width > 10 and nothing.getpixel((12, 12)) == (0, 0, 0)


@pytest.mark.parametrize(("height", "text_size", "most"), [(120, 12, 6), (500, 20, 16), (3, 12, 1)])
def test_a_legend_beside_the_photo_has_as_many_classes_as_fit(height, text_size, most):
    labels = np.arange(20, dtype="uint8").repeat(5)[None].repeat(height, 0)
    many = LabelMap(labels, [f"class {i}" for i in range(20)])
    photo = np.full((height, 100, 3), 90, "uint8")
    picture, legend = many.overlay(photo), many.legend(text_size, most)
    both = many.overlay(photo, legend=True)
    assert both.size == (100 + legend.width, max(height, legend.height))
    for part, left in ((picture, 0), (legend, 100)):
        beside = both.crop((left, 0, left + part.width, part.height))
        assert ImageChops.difference(beside, part).getbbox() is None
    assert both.getpixel((100 + legend.width - 1, both.height - 1)) == (255, 255, 255)
