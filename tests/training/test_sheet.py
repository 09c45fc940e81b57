"""Contact sheets, of predictions that are known."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from keras_dpt import DepthMap
from keras_dpt.datasets import Sample, Source
from keras_dpt.maps.label_map import LabelMap
from keras_dpt.training import ContactSheet, contact_sheet

RNG = np.random.default_rng(0)
SIZES = (48, 64), (80, 64)
PHOTOS = [RNG.integers(0, 256, (*size, 3)).astype("uint8") for size in SIZES]
DEPTHS = [RNG.uniform(1, 9, size).astype("float32") for size in SIZES]
PALETTE = ((250, 0, 0), (0, 250, 0), (0, 0, 250))


class Fixed:
    """A model that predicts these maps."""

    def __init__(self, maps, **attributes):
        self.maps = dict(zip([photo.tobytes() for photo in PHOTOS], maps, strict=True))
        vars(self).update(attributes)

    def predict_images(self, images):
        return [self.maps[image.tobytes()] for image in images]


def depth_model(kind):
    maps = [DepthMap(RNG.uniform(1, 9, size).astype("float32"), kind) for size in SIZES]
    return Fixed(maps, kind=kind)


def depth_source(kind="metric_depth"):
    return Source("made", ["a", "b"], lambda i: (PHOTOS[i], DEPTHS[i]), kind)


def cells(sheet):
    """The three pictures of each of the two rows."""
    assert sheet.size == (720, 180 + 300)
    pixels = np.asarray(sheet)
    rows = pixels[:180], pixels[180:]
    return [[row[:, 240 * n : 240 * (n + 1)] for n in range(3)] for row in rows]


def resized(picture):
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    return np.asarray(picture.resize((240, round(240 * picture.height / picture.width))))


@pytest.mark.parametrize("kind", ["metric_depth", "relative_inverse_depth"])
@pytest.mark.parametrize("of_source", ["metric_depth", "relative_inverse_depth"])
def test_photo_truth_and_prediction_side_by_side(kind, of_source):
    """Ground truth is drawn in the model's kind, whatever that of the source."""
    model, source = depth_model(kind), depth_source(of_source)
    rows = cells(contact_sheet(model, list(source), source))
    for row, photo, depth in zip(rows, PHOTOS, DEPTHS, strict=True):
        truth = DepthMap(depth if kind == of_source else 1 / depth, kind)
        pictures = photo, truth.colorize(), model.maps[photo.tobytes()].colorize()
        for found, expected in zip(row, pictures, strict=True):
            np.testing.assert_array_equal(found, resized(expected))


@pytest.mark.parametrize("kind", ["metric_depth", "relative_inverse_depth"])
def test_unknown_truth_has_the_colour_of_the_far_end(kind):
    model, source = depth_model(kind), depth_source()
    valid = np.ones(SIZES[0], bool)
    valid[:24] = False
    samples = [source[0]._replace(valid=valid), source[1]._replace(valid=np.zeros(SIZES[1], bool))]
    (_, truth, _), (_, nothing, _) = cells(contact_sheet(model, samples, source))
    far = np.where(valid, DEPTHS[0], DEPTHS[0][24:].max())
    expected = DepthMap(far if kind == "metric_depth" else 1 / far, kind).colorize()
    np.testing.assert_array_equal(truth, resized(expected))
    assert np.ptp(nothing, axis=(0, 1)).max() == 0  # one colour


def test_labels_have_the_models_colours_and_the_sources_unknown():
    labels = [RNG.choice([0, 1, 2, 9], size).astype("uint8") for size in SIZES]
    names = ("a", "b", "c")
    maps = [LabelMap(np.full(size, 1), names, PALETTE) for size in SIZES]
    model = Fixed(maps, class_names=names, palette=PALETTE)
    samples = [Sample(p, x, x != 9) for p, x in zip(PHOTOS, labels, strict=True)]
    source = SimpleNamespace(kind="labels", ignore_index=9)
    for row, target in zip(cells(contact_sheet(model, samples, source)), labels, strict=True):
        expected = LabelMap(target, names, PALETTE, ignore_index=9).colorize()
        np.testing.assert_array_equal(row[1], resized(expected))
        assert (row[2] == PALETTE[1]).all()


def test_a_sheet_every_few_epochs(tmp_path):
    model = depth_model("metric_depth")
    callback = ContactSheet(depth_source(), tmp_path / "new" / "sheets", every=2, count=9)
    callback.set_model(model)
    for epoch in range(5):
        callback.on_epoch_end(epoch)
    names = sorted(path.name for path in callback.folder.iterdir())
    assert callback.folder == tmp_path / "new" / "sheets"
    assert names == ["epoch_00002.png", "epoch_00004.png"]
    with Image.open(callback.folder / names[0]) as sheet:
        expected = contact_sheet(model, list(depth_source()), depth_source())
        np.testing.assert_array_equal(np.asarray(sheet), np.asarray(expected))


@pytest.mark.parametrize(
    ("total", "count", "expected"), [(7, 4, [0, 2, 4, 6]), (7, 2, [0, 6]), (2, 6, [0, 1])]
)
def test_samples_of_a_sheet_are_spread_over_the_source(total, count, expected, tmp_path):
    photos = np.arange(total, dtype="uint8")[:, None, None, None] * np.ones((1, 4, 4, 3), "uint8")
    depth = np.ones((4, 4), "float32")
    ids = [str(i) for i in range(total)]
    source = Source("made", ids, lambda i: (photos[i], depth), "metric_depth")
    sheet = ContactSheet(source, tmp_path, count=count)
    assert [int(sample.image.max()) for sample in sheet.samples] == expected
    assert sheet.every == 5 and len(ContactSheet(source, tmp_path).samples) == min(total, 6)
