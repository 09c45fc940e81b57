import keras
import numpy as np
import tiny
from contracts import arrays, check_layer

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
