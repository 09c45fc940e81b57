"""Predicting for many photos holds few of them."""

import threading
import weakref

import numpy as np
import pytest
import tiny
from PIL import Image

from keras_dpt.errors import ImageError
from keras_dpt.images.reading import read_image
from keras_dpt.maps.depth_map import DepthMap
from keras_dpt.models import photos as module
from keras_dpt.models.image_converter import DPTImageConverter
from keras_dpt.models.photos import Photos
from keras_dpt.models.preprocessor import DPTSegmentationPreprocessor
from keras_dpt.models.segmentation import DPTSegmentation


@pytest.fixture
def files(tmp_path):
    paths = []
    for i, photo in enumerate(tiny.photos(12, 32, 40)):
        photo = photo if i % 3 else photo.transpose(1, 0, 2)
        paths.append(tmp_path / f"{i:02d}.png")
        Image.fromarray(photo).save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def model():
    return tiny.depth(preprocessor=tiny.preprocessor((32, 32)))


def test_beyond_a_limit_photos_are_read_twice(files, monkeypatch):
    calls = []
    monkeypatch.setattr(module, "read_image", lambda x: calls.append(x) or read_image(x))
    monkeypatch.setattr(module, "HELD", 5 * 32 * 40 * 3)
    photos = Photos(files)
    assert len(photos._held) == 5 and len(calls) == 12
    pixels = list(photos)
    assert len(photos._held) == 0 and calls[12:] == files[5:]
    for path, found in zip(files, pixels, strict=True):
        np.testing.assert_array_equal(found, read_image(path))


def test_a_file_that_is_replaced_meanwhile(files, monkeypatch):
    monkeypatch.setattr(module, "HELD", 0)
    photos = Photos(files)
    Image.new("RGB", (9, 7)).save(files[5])
    with pytest.raises(ImageError, match="05.png was replaced .*size is .7, 9. instead of .32, 40"):
        photos.take(5)


@pytest.mark.parametrize("options", [{}, {"sliding_window": 32}])
def test_predictions_are_the_same(files, model, options, monkeypatch):
    files = files[:2] if options else files
    expected = model.predict_images(files, **options)
    monkeypatch.setattr(module, "HELD", 0)
    found = model.predict_images(files, **options)
    assert [depth.source for depth in found] == files
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a.values, b.values)


def test_few_inputs_of_the_network_are_ahead(files, model, monkeypatch):
    """They were all resized at once: 17 GB for 10,000 photos."""
    lock, counts = threading.Lock(), {"resized": 0, "most": 0}
    converter = model.converter_of_photos()
    convert, postprocess = type(converter).convert, type(model).postprocess

    def counted(self, *arguments):
        with lock:
            counts["resized"] += 1
            counts["most"] = max(counts["most"], counts["resized"])
        return convert(self, *arguments)

    def done(self, *arguments):
        with lock:
            counts["resized"] -= 1
        return postprocess(self, *arguments)

    monkeypatch.setattr(type(converter), "convert", counted)
    monkeypatch.setattr(type(model), "postprocess", done)
    model.predict_images(files, batch_size=2)
    assert counts["resized"] == 0 and 2 <= counts["most"] <= 3 * 2 + 2


@pytest.fixture
def alive(monkeypatch):
    """The depth maps that there are, of those made from now on."""
    maps, checked = weakref.WeakSet(), DepthMap.__post_init__
    monkeypatch.setattr(DepthMap, "__post_init__", lambda self: maps.add(self) or checked(self))
    return maps


def test_a_stream_holds_few_predictions(files, model, alive):
    """A list of all grows with the photos; order and values are those of the list."""
    expected = [depth.values.sum() for depth in model.predict_images(files)]
    assert not alive
    found, sources, most = [], [], 0
    for depth in model.predict_stream(iter(files), batch_size=1):
        most = max(most, len(alive))
        found.append(depth.values.sum())
        sources.append(depth.source)
    assert sources == files
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # batches differ
    assert 4 <= most <= 5 < len(files)


def test_a_stream_reads_little_ahead(files, model, monkeypatch):
    monkeypatch.setattr(module, "GROUP", 32 * 40)
    taken = []
    stream = model.predict_stream(taken.append(path) or path for path in files)
    assert not taken
    next(stream)
    assert len(taken) <= 1 + 1 + 3
    stream.close()


@pytest.mark.parametrize("options", [{}, {"sliding_window": 32}])
def test_a_stream_goes_on_after_an_image_that_cannot_be_read(files, model, options):
    files = files[:4]
    files[1].write_bytes(b"no picture")
    found = list(model.predict_stream(files, errors="return", **options))
    assert [isinstance(x, ImageError) for x in found] == [False, True, False, False]
    assert "01.png" in str(found[1])
    assert [found[i].source for i in (0, 2, 3)] == [files[i] for i in (0, 2, 3)]
    stream = model.predict_stream(files, **options)
    assert next(stream).source == files[0]
    with pytest.raises(ImageError, match="01.png"):
        next(stream)


@pytest.mark.parametrize(
    ("images", "options", "error"),
    [
        ("photo.jpg", {}, TypeError),
        (7, {}, TypeError),
        ([], {"errors": "ignore"}, ValueError),
        ([], {"batch_size": 0}, ValueError),
        ([], {"sliding_window": -1}, ValueError),
        ([], {"scales": (1.0,)}, TypeError),
    ],
)
def test_a_stream_checks_its_arguments_when_it_is_made(model, images, options, error):
    with pytest.raises(error):
        model.predict_stream(images, **options)


def test_a_stream_of_label_maps(files):
    preprocessor = DPTSegmentationPreprocessor(DPTImageConverter((32, 32)))
    model = tiny.randomize(DPTSegmentation(tiny.backbone(), 3, preprocessor=preprocessor))
    assert [labels.source for labels in model.predict_stream(files[:2], flip=True)] == files[:2]
