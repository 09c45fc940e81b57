import keras
import numpy as np
import pytest
import tiny
from contracts import arrays, check_layer
from keras import ops

from keras_dpt.layers.heads import DepthHead
from keras_dpt.ops.resize import resize_bilinear

from .reference import conv_same, relu, weights


def maps(height, width, channels=6):
    return np.random.default_rng(0).normal(size=(2, height, width, channels)).astype("float32")


def head():
    layer = DepthHead((5, 4))
    layer.build((None, None, None, 6))
    return tiny.randomize(layer)


def test_head_contract(tmp_path):
    check_layer(head(), [(maps(4, 6),), (maps(3, 5),)], tmp_path, float32_layers=("/conv3",))


def test_head_by_its_parts():
    layer, x = head(), maps(3, 5)
    w = weights(layer)
    y = conv_same(x, w["conv1/kernel"], w["conv1/bias"]).astype("float32")  # no ReLU here
    y = arrays(resize_bilinear(y, (6, 10), align_corners=True))
    y = relu(conv_same(y, w["conv2/kernel"], w["conv2/bias"]))
    y = relu(conv_same(y, w["conv3/kernel"], w["conv3/bias"]))
    np.testing.assert_allclose(arrays(layer(x)), y, atol=1e-5)


def test_head_with_a_projection_and_no_activation(tmp_path):
    layer, x = DepthHead((5, 4), None, align_corners=False, projection_channels=7), maps(3, 5)
    layer.build((None, None, None, 6))
    tiny.randomize(layer).conv3.bias.assign([-2.0])
    w, like = weights(layer), np.zeros((2, 11, 8, 3), "float32")
    y = relu(conv_same(x, w["projection/kernel"], w["projection/bias"]))
    y = conv_same(y, w["conv1/kernel"], w["conv1/bias"]).astype("float32")
    y = arrays(resize_bilinear(y, (11, 8), align_corners=False))
    y = relu(conv_same(y, w["conv2/kernel"], w["conv2/bias"]))
    y = conv_same(y, w["conv3/kernel"], w["conv3/bias"])
    assert y.min() < 0
    np.testing.assert_allclose(arrays(layer(x, like)), y, atol=1e-5)
    other = maps(4, 6), np.zeros((2, 12, 13, 3), "float32")
    check_layer(layer, [(x, like), other], tmp_path, float32_layers=("/conv3",))


def test_an_unknown_activation():
    with pytest.raises(ValueError, match="`activation` must be \"relu\" or None. Received: 'elu'"):
        DepthHead((5, 4), "elu")


@pytest.mark.parametrize("align_corners", [True, False])
def test_strips_make_the_same_map(align_corners):
    """Three strips, the last one of a few rows; in training the map is made at once."""
    layer, x = DepthHead((5, 4), align_corners=align_corners), maps(35, 4)
    layer.build((None, None, None, 6))
    tiny.randomize(layer)
    y = ops.convert_to_tensor(x)
    whole = layer.conv3(layer.conv2(resize_bilinear(layer.conv1(y), (70, 8), align_corners)))
    strips = layer._in_strips(layer.conv1(y), (70, 8))
    np.testing.assert_allclose(arrays(strips), arrays(whole), atol=1e-5)


def test_fresh_head_can_learn():
    """A ReLU that is silent everywhere has no gradient: a model may not start like that."""
    x = 3 * maps(16, 16, 64)
    for seed in range(10):
        keras.utils.set_random_seed(seed)
        y = arrays(DepthHead((32, 16))(x))
        assert (y > 0).mean() > 0.9


def test_head_is_never_negative():
    layer, x = head(), maps(3, 5)
    layer.conv3.bias.assign([-1.0])
    y = arrays(layer(x))
    assert y.min() == 0 < y.max()
