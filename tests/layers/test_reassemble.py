import numpy as np
import pytest
import tiny
from contracts import arrays, check_layer

from keras_dpt.layers.reassemble import Reassemble

from .reference import conv, weights


def grid(height, width, channels=6):
    return np.random.default_rng(0).normal(size=(2, height, width, channels)).astype("float32")


def reassemble(factor):
    layer = Reassemble(5, factor)
    layer.build((None, None, None, 6))
    return tiny.randomize(layer)


@pytest.mark.parametrize("factor", [4, 2, 1, 0.5])
def test_contract(factor, tmp_path):
    check_layer(reassemble(factor), [(grid(4, 6),), (grid(5, 3),)], tmp_path)


@pytest.mark.parametrize(
    "factor, size",
    [(4, (12, 20)), (2, (6, 10)), (1, (3, 5)), (0.5, (2, 3))],  # halves are rounded up
)
def test_size(factor, size):
    assert reassemble(factor)(grid(3, 5)).shape == (2, *size, 5)


@pytest.mark.parametrize("factor", [4, 2])
def test_enlarges_each_position_by_itself(factor):
    layer, x = reassemble(factor), grid(3, 5)
    w = weights(layer)
    y = conv(x, w["projection/kernel"], w["projection/bias"])
    # The kernel is (row, column, to, from); its tile lands at the position, times the factor.
    tiles = np.einsum("bhwc,ijoc->bhiwjo", y, w["resize/kernel"])
    expected = tiles.reshape(2, 3 * factor, 5 * factor, 5) + w["resize/bias"]
    np.testing.assert_allclose(arrays(layer(x)), expected, atol=1e-5)


def test_leaves_the_size_alone():
    layer, x = reassemble(1), grid(3, 5)
    w = weights(layer)
    assert set(w) == {"projection/kernel", "projection/bias"}
    expected = conv(x, w["projection/kernel"], w["projection/bias"])
    np.testing.assert_allclose(arrays(layer(x)), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(4, 6), (3, 5)])
def test_shrinks_with_a_pixel_of_padding_on_each_side(size):
    layer, x = reassemble(0.5), grid(*size)
    w = weights(layer)
    y = conv(x, w["projection/kernel"], w["projection/bias"])
    padding = ((1, 1), (1, 1))
    expected = conv(y, w["resize/kernel"], w["resize/bias"], strides=2, padding=padding)
    np.testing.assert_allclose(arrays(layer(x)), expected, atol=1e-5)


@pytest.mark.parametrize("factor", [3, 8, 0.25, 0, -2, None])
def test_other_factors_are_refused(factor):
    with pytest.raises(ValueError, match="`factor` must be 4, 2, 1 or 0.5. Received:"):
        Reassemble(5, factor)
