import numpy as np
import pytest
import tiny
from contracts import arrays, check_layer

from keras_dpt.layers.heads import SegmentationHead
from keras_dpt.ops.resize import resize_bilinear

from .reference import conv_same, relu, weights


def maps(height, width, channels=6):
    return np.random.default_rng(0).normal(size=(2, height, width, channels)).astype("float32")


def head(**options):
    layer = SegmentationHead(4, 6, **options)
    layer.build((None, None, None, 6))
    return tiny.randomize(layer)


def small_logits(layer, x):
    """Logits before any enlargement, with stored statistics."""
    w = weights(layer)
    y = conv_same(x, w["conv1/kernel"], np.zeros(6))
    y = (y - w["norm/moving_mean"]) / np.sqrt(w["norm/moving_variance"] + 1e-5)
    y = relu(y * w["norm/gamma"] + w["norm/beta"])
    return conv_same(y, w["conv2/kernel"], w["conv2/bias"])


@pytest.mark.parametrize("factor", [1, 2])
def test_contract(factor, tmp_path):
    layer = head(factor=factor)
    check_layer(layer, [(maps(4, 6),), (maps(3, 5),)], tmp_path, float32_layers=("conv2",))


def test_by_its_parts():
    x = maps(3, 5)
    layer = head(factor=1)
    np.testing.assert_allclose(arrays(layer(x)), small_logits(layer, x), atol=1e-5)
    layer = head(factor=2)
    expected = small_logits(layer, x).astype("float32")
    expected = arrays(resize_bilinear(expected, (6, 10), align_corners=True))
    np.testing.assert_allclose(arrays(layer(x)), expected, atol=1e-5)


@pytest.mark.parametrize("factor", [1, 2])
def test_logits_of_the_size_of_an_image(factor, tmp_path):
    x, like = maps(3, 5), np.zeros((2, 7, 12, 3), "float32")
    layer = head(factor=factor)
    expected = small_logits(layer, x).astype("float32")
    expected = arrays(resize_bilinear(expected, (7, 12), align_corners=True))
    np.testing.assert_allclose(arrays(layer(x, like)), expected, atol=1e-5)
    other = maps(4, 6), np.zeros((2, 8, 9, 3), "float32")
    check_layer(layer, [(x, like), other], tmp_path, float32_layers=("conv2",))


def test_defaults_are_those_of_the_source():
    config = SegmentationHead(4).get_config()
    assert (config["channels"], config["dropout"], config["factor"]) == (256, 0.1, 2)
    layer = SegmentationHead(4)
    assert (layer.drop.rate, layer.norm.momentum, layer.norm.epsilon) == (0.1, 0.9, 1e-5)


def test_training_drops_and_normalises_by_the_batch():
    x = maps(8, 9)
    layer = head(dropout=0.0)
    before = arrays(layer.norm.moving_mean.value).copy()
    trained = arrays(layer(x, training=True))
    w = weights(layer)
    assert np.abs(w["norm/moving_mean"] - before).max() > 0
    batch = conv_same(x, w["conv1/kernel"], np.zeros(6)).mean((0, 1, 2))
    np.testing.assert_allclose(w["norm/moving_mean"], 0.9 * before + 0.1 * batch, atol=1e-5)
    np.testing.assert_allclose(arrays(layer(x, training=True)), trained, atol=1e-5)
    dropping = head(dropout=0.5)
    first, second = (arrays(dropping(x, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 0.1
    first, second = (arrays(dropping(x)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_paths():
    paths = {w.path for w in SegmentationHead(4, 6, name="segmentation_head").weights}
    assert not paths
    layer = SegmentationHead(4, 6, name="segmentation_head")
    layer.build((None, None, None, 6))
    names = [f"norm/{x}" for x in ("gamma", "beta", "moving_mean", "moving_variance")]
    names += ["conv1/kernel", "conv2/kernel", "conv2/bias"]
    assert {w.path for w in layer.weights} == {f"segmentation_head/{name}" for name in names}
