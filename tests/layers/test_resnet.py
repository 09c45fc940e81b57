"""Blocks of ResNet and ResNeXt beside plain NumPy."""

import numpy as np
import pytest
import tiny
from contracts import arrays, check_layer

from keras_dpt.layers.resnet import Bottleneck, ResNetStem, SymmetricConvNorm

from .reference import conv, relu, weights


def maps(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def built(layer, channels):
    layer.build((None, None, None, channels))
    return tiny.randomize(layer)


def convolved(x, w, prefix="", strides=1, groups=1):
    """Convolution with as many zeros on each side, in groups, and stored statistics."""
    kernel = w[f"{prefix}conv/kernel"]
    margin = kernel.shape[0] // 2
    parts = zip(np.split(x, groups, -1), np.split(kernel, groups, -1), strict=True)
    padding = ((margin, margin), (margin, margin))
    y = np.concatenate([conv(a, b, 0.0, strides, padding) for a, b in parts], axis=-1)
    y = (y - w[f"{prefix}norm/moving_mean"]) / np.sqrt(w[f"{prefix}norm/moving_variance"] + 1e-5)
    return y * w[f"{prefix}norm/gamma"] + w[f"{prefix}norm/beta"]


@pytest.mark.parametrize(
    ("size", "strides", "groups", "activate"),
    [(1, 1, 1, True), (1, 2, 1, False), (3, 1, 2, True), (3, 2, 2, False), (7, 2, 1, True)],
)
def test_convolution(size, strides, groups, activate):
    layer = built(SymmetricConvNorm(6, size, strides, groups, activate), 4)
    x, w = maps(2, 7, 8, 4), weights(layer)
    leaves = ("gamma", "beta", "moving_mean", "moving_variance")
    assert set(w) == {"conv/kernel", *(f"norm/{leaf}" for leaf in leaves)}
    expected = convolved(x, w, "", strides, groups)
    expected = relu(expected) if activate else expected
    np.testing.assert_allclose(arrays(layer(x)), expected, atol=1e-5)
    assert layer.compute_output_shape((None, 7, None, 4)) == (None, -(-7 // strides), None, 6)


def test_convolution_contract(tmp_path):
    layer = built(SymmetricConvNorm(6, 3, 2, 2, activate=False), 4)
    check_layer(layer, [(maps(2, 7, 8, 4),), (maps(2, 6, 5, 4),)], tmp_path)


@pytest.mark.parametrize("groups", [1, 2])
def test_statistics_move_by_a_tenth_in_training(groups):
    layer, x = built(SymmetricConvNorm(6, 3, groups=groups), 4), maps(2, 7, 8, 4)
    before = weights(layer)
    layer(x, training=True)
    identity = {"norm/gamma": 1.0, "norm/beta": 0.0, "norm/moving_mean": 0.0}
    plain = convolved(x, before | identity | {"norm/moving_variance": 1 - 1e-5}, groups=groups)
    expected = 0.9 * before["norm/moving_mean"] + 0.1 * plain.mean((0, 1, 2))
    np.testing.assert_allclose(weights(layer)["norm/moving_mean"], expected, atol=1e-5)


def test_stem(tmp_path):
    layer, x = built(ResNetStem(4), 3), maps(2, 16, 24, 3)
    y = relu(convolved(x, weights(layer), strides=2))
    y = np.pad(y, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [y[:, i : i + 8 : 2, j : j + 12 : 2] for i in range(3) for j in range(3)]
    np.testing.assert_allclose(arrays(layer(x)), np.max(shifted, axis=0), atol=1e-5)
    assert layer.compute_output_shape((None, None, 24, 3)) == (None, None, 6, 4)
    check_layer(layer, [(x,), (maps(2, 8, 20, 3),)], tmp_path)


@pytest.mark.parametrize(
    ("channels", "strides", "groups"), [(8, 1, 1), (8, 1, 2), (8, 2, 1), (6, 1, 2)]
)
def test_bottleneck(channels, strides, groups, tmp_path):
    layer = built(Bottleneck(channels, 8, 4, strides, groups), channels)
    x, w = maps(2, 7, 6, channels), weights(layer)
    y = relu(convolved(x, w, "conv1/"))
    y = relu(convolved(y, w, "conv2/", strides, groups))
    y = convolved(y, w, "conv3/")
    projects = strides > 1 or channels != 8
    shortcut = convolved(x, w, "shortcut/", strides) if projects else x
    np.testing.assert_allclose(arrays(layer(x)), relu(y + shortcut), atol=1e-5)
    own = [layer.conv1, layer.conv2, layer.conv3, *[getattr(layer, "shortcut", None)] * projects]
    assert layer.convolutions() == own
    if (strides, groups) == (1, 2):
        check_layer(layer, [(x,), (maps(2, 4, 5, channels),)], tmp_path)
