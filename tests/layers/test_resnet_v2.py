import numpy as np
import pytest
import tiny
from contracts import arrays, check_layer

from keras_dpt.layers.resnet_v2 import Bottleneck, GroupNorm, ResNetStem, WeightStandardizedConv2D

from .reference import conv_same, group_norm, max_pool_same, relu, standardize, weights

FORMULAS = ("std", "variance")


def maps(height, width, channels):
    return np.random.default_rng(0).normal(size=(2, height, width, channels)).astype("float32")


def built(layer, channels):
    layer.build((None, None, None, channels))
    return tiny.randomize(layer)


@pytest.mark.parametrize("formula", FORMULAS)
def test_convolution_contract(formula, tmp_path):
    layer = built(WeightStandardizedConv2D(4, 3, strides=2, standardization=formula), 3)
    check_layer(layer, [(maps(6, 8, 3),), (maps(9, 5, 3),)], tmp_path)


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("size, strides", [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_convolution_by_numbers(formula, size, strides):
    layer = built(WeightStandardizedConv2D(4, size, strides, standardization=formula), 3)
    # Small weights, as trained ones are, tell the formulas apart.
    layer.kernel.assign(layer.kernel * 1e-3 + 1e-4)
    x = maps(8, 6, 3)
    kernel = standardize(weights(layer)["kernel"], formula)
    expected = conv_same(x, kernel, strides=strides)
    np.testing.assert_allclose(arrays(layer(x)), expected, atol=1e-3)
    other = standardize(weights(layer)["kernel"], FORMULAS[1 - FORMULAS.index(formula)])
    assert np.abs(conv_same(x, other, strides=strides) - expected).max() > 1e-2


def test_kernel_has_no_mean_and_unit_variance():
    layer = built(WeightStandardizedConv2D(4, 3), 3)
    kernel = arrays(layer.standardize(layer.kernel))
    np.testing.assert_allclose(kernel.mean((0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(kernel.var((0, 1, 2)), 1, atol=1e-3)


def test_group_norm(tmp_path):
    layer, x = built(GroupNorm(2, epsilon=1e-5), 6), maps(4, 6, 6)
    w = weights(layer)
    for offset, tolerance in ((0, 1e-5), (100, 1e-3)):  # E[x^2] - E[x]^2 would be off by 0.1
        expected = group_norm((x + np.float32(offset)).astype("float64"), w["gamma"], w["beta"], 2)
        result = arrays(layer(x + np.float32(offset)))
        np.testing.assert_allclose(result, expected, atol=tolerance)
    check_layer(layer, [(x,), (maps(3, 5, 6),)], tmp_path)


def test_unknown_formula():
    with pytest.raises(ValueError, match="'std', 'variance'.*Received: 'stdev'"):
        WeightStandardizedConv2D(4, 3, standardization="stdev")


@pytest.mark.parametrize("formula", FORMULAS)
def test_stem(formula, tmp_path):
    layer, x = built(ResNetStem(4, num_groups=2, standardization=formula), 3), maps(32, 16, 3)
    w = weights(layer)
    y = conv_same(x, standardize(w["conv/kernel"], formula), strides=2)
    y = relu(group_norm(y, w["norm/gamma"], w["norm/beta"], groups=2))
    expected = max_pool_same(y, 3, strides=2)
    np.testing.assert_allclose(arrays(layer(x)), expected, atol=1e-5)
    if formula == "std":
        check_layer(layer, [(x,), (maps(16, 48, 3),)], tmp_path)


@pytest.mark.compiles_long
@pytest.mark.parametrize(
    "options",
    [
        {"project": True},
        {"project": True, "strides": 2, "standardization": "variance"},
        {},
    ],
)
def test_bottleneck(options, tmp_path):
    project, strides = options.get("project", False), options.get("strides", 1)
    formula = options.get("standardization", "std")
    channels = 4 if project else 8
    layer, x = built(Bottleneck(8, num_groups=2, **options), channels), maps(6, 5, channels)
    w = weights(layer)

    def conv_and_norm(y, number, strides=1, prefix=""):
        kernel = standardize(w[f"{prefix}conv{number}/kernel"], formula)
        y = conv_same(y, kernel, strides=strides)
        return group_norm(y, w[f"{prefix}norm{number}/gamma"], w[f"{prefix}norm{number}/beta"], 2)

    y = relu(conv_and_norm(x, 1))
    y = relu(conv_and_norm(y, 2, strides))
    y = conv_and_norm(y, 3)
    shortcut = conv_and_norm(x, "", strides, "downsample_") if project else x
    np.testing.assert_allclose(arrays(layer(x)), relu(y + shortcut), atol=2e-5)
    check_layer(layer, [(x,), (maps(3, 4, channels),)], tmp_path)
