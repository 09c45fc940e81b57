"""The check that a file is the same network can fail, and says why."""

import keras
import numpy as np
import pytest

from keras_dpt.errors import ExportError
from keras_dpt.export import parity


@pytest.fixture
def model(monkeypatch):
    """Stands for a network: its output is the mean over channels."""
    monkeypatch.setattr(keras.Model, "predict_on_batch", lambda self, x: network(x))


def network(images):
    return images.mean(axis=-1, keepdims=True)


SHAPES = [(1, 32, 64, 3), (2, 32, 64, 3)]


def test_equal_networks_pass(model):
    found = parity.compare(model, network, SHAPES, 0.0)
    assert [check["input_shape"] for check in found] == [list(shape) for shape in SHAPES]
    assert [check["max_relative_error"] for check in found] == [0.0, 0.0]


def test_a_difference_in_one_pixel_is_found(model):
    def bent(images):
        output = network(images)
        output[-1, 5, 7] += 0.01 * np.ptp(output)
        return output

    assert parity.compare(model, bent, SHAPES, 0.02)[0]["max_relative_error"] == pytest.approx(
        0.01, rel=1e-3
    )
    with pytest.raises(ExportError, match="1x32x64x3.*0.01 .*0.0001 is allowed"):
        parity.compare(model, bent, SHAPES, parity.TOLERANCE)


def test_a_second_batch_size_that_fails_is_found(model):
    def one_image_only(images):
        return np.repeat(network(images[:1]), len(images), axis=0)

    with pytest.raises(ExportError, match="2x32x64x3"):
        parity.compare(model, one_image_only, SHAPES, 1e-4)


def test_nan_is_no_success(model):
    with pytest.raises(ExportError, match="nan"):
        parity.compare(model, lambda images: network(images) * np.nan, SHAPES, 1e-4)


def test_another_shape_is_named(model):
    with pytest.raises(ExportError, match=r"\(1, 16, 64, 1\).*Keras returns \(1, 32, 64, 1\)"):
        parity.compare(model, lambda images: network(images)[:, ::2], SHAPES, 1e-4)


def test_a_runtime_that_fails_is_quoted(model):
    def broken(images):
        raise RuntimeError("\n  Unsupported pooling size.\nmore")

    with pytest.raises(ExportError, match=r"1x32x64x3: Unsupported pooling size\.$"):
        parity.compare(model, broken, SHAPES, 1e-4)


def test_relative_error():
    expected = np.float32([1000.0, 1010.0])
    assert parity.relative_error(expected + [0, 0.1], expected) == pytest.approx(0.01)
    assert parity.relative_error(np.ones(3), np.zeros(3)) == 1
    assert parity.relative_error(np.full(3, 2.02), np.full(3, 2.0)) == pytest.approx(0.01)


def test_shapes_cover_two_sizes_and_two_batches():
    free = parity.check_shapes(None, None, (128, 160), 32)
    assert len({shape[0] for shape in free}) == 2
    sizes = {shape[1:3] for shape in free}
    assert len(sizes) == 2 and (128, 160) in sizes
    heights, widths = zip(*sizes, strict=True)
    # No product, side or aspect that a graph could have fixed is the same in both.
    assert len(set(heights)) == len(set(widths)) == 2
    assert len({height * width for height, width in sizes}) == 2
    fixed = parity.check_shapes((64, 96), None, (128, 160), 32)
    assert {shape[1:] for shape in fixed} == {(64, 96, 3)} and len(fixed) == 2
    assert parity.check_shapes((64, 96), 3, (128, 160), 32) == [(3, 64, 96, 3)]


def test_pictures_are_inputs():
    images = parity.pictures((2, 64, 96, 3))
    assert images.shape == (2, 64, 96, 3) and images.dtype == np.float32
    assert -1 <= images.min() < -0.5 and 0.5 < images.max() <= 1
    assert not np.array_equal(images[0], images[1])
