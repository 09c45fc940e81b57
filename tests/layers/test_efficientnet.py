"""EfficientNet-Lite's blocks beside plain NumPy."""

import keras
import numpy as np
import pytest
import tiny
from contracts import check_layer
from keras import ops

from keras_dpt.layers.efficientnet import ConvNorm, EfficientNetStem, InvertedResidual

from .reference import conv_same, depthwise_same, dilated


def maps(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def convolved(layer, x, kernel):
    """What a `ConvNorm`'s convolution gives."""
    if layer.filters is None:
        return depthwise_same(x, kernel, layer.strides, layer.dilation_rate)
    return conv_same(x, dilated(kernel, layer.dilation_rate), strides=layer.strides)


def normalized(x, weights, mean=None, variance=None):
    gamma, beta, moving_mean, moving_variance = weights
    mean = moving_mean if mean is None else mean
    variance = moving_variance if variance is None else variance
    return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta


def test_contract(tmp_path):
    layer = InvertedResidual(6, 6, 5, dilation_rate=2, expansion=3)
    layer.build((None, None, None, 6))
    tiny.randomize(layer)
    check_layer(layer, [(maps(2, 7, 9, 6),), (maps(2, 8, 5, 6),)], tmp_path)


@pytest.mark.parametrize("options", [{"filters": 5}, {"filters": None, "kernel_size": 3}])
def test_convolution_contract(options, tmp_path):
    layer = ConvNorm(strides=2, activate=False, **options)
    layer.build((None, None, None, 4))
    check_layer(tiny.randomize(layer), [(maps(2, 7, 9, 4),), (maps(2, 10, 4, 4),)], tmp_path)
    assert layer.get_config()["activate"] is False
    assert layer.compute_output_shape((None, 7, 9, 4)) == (None, 4, 5, options["filters"] or 4)
    assert layer.convolutions() == [layer]


def test_stem_contract(tmp_path):
    layer = EfficientNetStem(8)
    layer.build((None, None, None, 3))
    check_layer(tiny.randomize(layer), [(maps(2, 32, 48, 3),), (maps(2, 48, 16, 3),)], tmp_path)


@pytest.mark.parametrize("filters", [5, None])
@pytest.mark.parametrize("size, strides, dilation", [(3, 1, 1), (3, 2, 1), (5, 2, 1), (5, 1, 2)])
@pytest.mark.parametrize("sides", [(8, 11), (7, 6)])
def test_folded_norm(filters, size, strides, dilation, sides):
    layer = ConvNorm(filters, size, strides, dilation)
    x = maps(2, *sides, 4)
    layer.build(x.shape)
    tiny.randomize(layer)
    kernel, *norm = (np.array(w) for w in layer.get_weights())
    expected = np.clip(normalized(convolved(layer, x, kernel), norm), 0, 6)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, atol=1e-5)


@pytest.mark.parametrize("filters", [5, None])
def test_norm_of_the_batch_in_training(filters):
    layer = ConvNorm(filters, 3, activate=False)
    x = maps(2, 8, 11, 4)
    layer.build(x.shape)
    tiny.randomize(layer)
    kernel, *norm = (np.array(w) for w in layer.get_weights())
    y = convolved(layer, x, kernel)
    mean, variance = y.mean((0, 1, 2)), y.var((0, 1, 2))
    output = ops.convert_to_numpy(layer(x, training=True))
    np.testing.assert_allclose(output, normalized(y, norm, mean, variance), atol=1e-4)
    moved = np.array(layer.norm.moving_mean)
    np.testing.assert_allclose(moved, 0.99 * norm[2] + 0.01 * mean, atol=1e-5)


def test_shortcut_where_shapes_allow():
    plain = InvertedResidual(4, 4, expansion=1)
    plain.build((2, 8, 8, 4))
    x = maps(2, 8, 8, 4)
    for variable in plain.variables:
        variable.assign(np.zeros(variable.shape))  # the block itself gives nothing
    np.testing.assert_array_equal(ops.convert_to_numpy(plain(x)), x)
    for other in (InvertedResidual(4, 4, strides=2), InvertedResidual(4, 5)):
        other.build(x.shape)
        assert not other.has_shortcut
    assert not hasattr(plain, "expand") and len(plain.convolutions()) == 2


def test_large_factors_in_half_precision():
    """A channel that was nearly constant in training has a variance beyond float16's reach."""
    layer = ConvNorm(4, 1, activate=False, dtype="mixed_float16")
    x = maps(1, 4, 4, 3)
    layer.build(x.shape)
    layer.norm.moving_variance.assign(np.full(4, 1e-9, "float32"))
    output = ops.convert_to_numpy(ops.cast(layer(x), "float32"))
    kernel = np.array(layer.conv.kernel)
    np.testing.assert_allclose(
        output, convolved(layer, x, kernel) / np.sqrt(1e-3), rtol=0.02, atol=0.1
    )
    assert keras.backend.standardize_dtype(layer(x).dtype) == "float16"
