"""Predicting for many photos holds few of them."""

import threading

import numpy as np
import pytest
import tiny
from PIL import Image

from keras_dpt.errors import ImageError
from keras_dpt.images.reading import read_image
from keras_dpt.models import photos as module
from keras_dpt.models.photos import Photos


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
