import numpy as np
import pytest

from keras_dpt.models import labelling
from keras_dpt.models.labelling import cubic_weights, label_pixels, linear_weights, resized_tiles

SIZES = [
    ((6, 8), (25, 19)),
    ((6, 8), (6, 8)),
    ((12, 16), (3, 7)),
    ((1, 3), (5, 5)),
    ((7, 9), (8, 8)),
]


def maps(height, width, channels=5):
    return np.random.default_rng(0).normal(size=(height, width, channels)).astype("float32")


def resized(x, size, weights):
    """All tiles put together; every pixel has to come exactly once."""
    result = np.full((*size, x.shape[-1]), np.nan, "float32")
    for rows, columns, tile in resized_tiles(x, size, weights):
        assert np.isnan(result[rows, columns]).all()
        result[rows, columns] = tile
    return result


@pytest.mark.parametrize("old, new", SIZES)
@pytest.mark.parametrize("side", [16, 10_000])
def test_as_opencv_and_in_tiles(old, new, side, monkeypatch):
    cv2 = pytest.importorskip("cv2")
    monkeypatch.setattr(labelling, "_TILE_VALUES", side**2 * 5)
    x = maps(*old)
    for weights, method in ((cubic_weights, cv2.INTER_CUBIC), (linear_weights, cv2.INTER_LINEAR)):
        expected = cv2.resize(x, new[::-1], interpolation=method)
        # OpenCV rounds positions to float32.
        np.testing.assert_allclose(resized(x, new, weights), expected, atol=2e-5)


@pytest.mark.parametrize("weights", [cubic_weights, linear_weights])
def test_weights_sum_to_one_and_keep_what_keeps_its_size(weights):
    for old, new in ((5, 13), (13, 5), (1, 4), (4, 1)):
        np.testing.assert_allclose(weights(old, new).sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(weights(6, 6), np.eye(6))


def test_cubic_by_hand():
    # Halfway between two pixels, a = -0.75: (-3, 19, 19, -3) / 32.
    weights = cubic_weights(4, 3)  # the middle one of three lies halfway between 1 and 2
    np.testing.assert_allclose(weights[1] * 32, [-3, 19, 19, -3], atol=1e-5)


def test_labels_and_confidence():
    logits = maps(6, 8)
    labels, confidence = label_pixels(logits, (25, 19))
    large = resized(logits, (25, 19), cubic_weights).astype("float64")
    softmax = np.exp(large) / np.exp(large).sum(-1, keepdims=True)
    np.testing.assert_array_equal(labels, large.argmax(-1))
    np.testing.assert_allclose(confidence, softmax.max(-1), rtol=1e-5)
    assert labels.dtype == np.uint8 and confidence.dtype == np.float32


def test_a_constant_per_pixel_changes_nothing():
    logits = maps(6, 8)
    shifted = logits + np.random.default_rng(1).normal(0, 20, (6, 8, 1)).astype("float32")
    a, b = label_pixels(logits, (11, 13)), label_pixels(shifted, (11, 13))
    np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_allclose(a[1], b[1], atol=1e-4)


def test_large_logits_do_not_overflow():
    labels, confidence = label_pixels(np.array([[[3e4, -3e4], [-3e4, 3e4]]]), (1, 2))
    np.testing.assert_array_equal(labels, [[0, 1]])
    np.testing.assert_array_equal(confidence, 1)


def test_many_classes():
    logits = np.zeros((2, 2, 300), "float32")
    logits[..., 299] = 1
    labels, _ = label_pixels(logits, (3, 3))
    assert labels.dtype == np.int32 and (labels == 299).all()


def test_the_input_is_left_alone():
    logits = maps(4, 4)
    before = logits.copy()
    label_pixels(logits, (4, 4))
    np.testing.assert_array_equal(logits, before)
