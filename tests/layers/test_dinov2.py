import keras
import numpy as np
import pytest
import tiny
from contracts import arrays, check_layer

from keras_dpt.layers.dinov2 import DINOv2Block, DINOv2PositionEmbedding, LayerScale, SwiGLU
from keras_dpt.layers.transformer import TransformerBlock

from .reference import weights

DIM, HEADS, MLP_DIM = 8, 2, 12


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def built(layer, *shape):
    layer.build((None, *shape))
    return tiny.randomize(layer)


def test_layer_scale(tmp_path):
    layer, x = built(LayerScale(), None, DIM), normal(2, 7, DIM)
    np.testing.assert_allclose(arrays(layer(x)), x * weights(layer)["gamma"], atol=1e-6)
    check_layer(layer, [(x,), (normal(2, 5, DIM),)], tmp_path)


def test_a_fresh_layer_scale_changes_nothing():
    layer, x = LayerScale(), normal(2, 7, DIM)
    np.testing.assert_array_equal(arrays(layer(x)), x)


def test_swiglu(tmp_path):
    layer, x = built(SwiGLU(DIM, MLP_DIM), None, DIM), normal(2, 7, DIM)
    w = weights(layer)
    gate, value = np.split(x @ w["dense1/kernel"] + w["dense1/bias"], 2, axis=-1)
    expected = (gate / (1 + np.exp(-gate)) * value) @ w["dense2/kernel"] + w["dense2/bias"]
    np.testing.assert_allclose(arrays(layer(x)), expected, atol=1e-5)
    check_layer(layer, [(x,), (normal(2, 5, DIM),)], tmp_path)


@pytest.mark.parametrize("swiglu", [False, True])
def test_block(tmp_path, swiglu):
    layer = built(DINOv2Block(DIM, HEADS, MLP_DIM, 1e-2, swiglu), None, DIM)
    x = normal(2, 7, DIM)
    scale1, scale2 = (arrays(scale.gamma) for scale in (layer.scale1, layer.scale2))
    y = x + scale1 * arrays(layer.attention(layer.norm1(x)))
    expected = y + scale2 * arrays(layer.mlp(layer.norm2(y)))
    np.testing.assert_allclose(arrays(layer(x)), expected, atol=1e-5)
    assert np.abs(scale1 - 1).max() > 0.3
    check_layer(layer, [(x,), (normal(2, 5, DIM),)], tmp_path)


def test_a_fresh_block_is_a_plain_one():
    """With factors of 1, and by the same names of weights."""
    block, plain = (cls(DIM, HEADS, MLP_DIM) for cls in (DINOv2Block, TransformerBlock))
    x = normal(2, 7, DIM)
    for layer in (block, plain):
        layer.build(x.shape)
    for variable in plain.variables:
        name = variable.path.partition("/")[2]
        (twin,) = [v for v in block.variables if v.path.partition("/")[2] == name]
        twin.assign(variable)
    np.testing.assert_allclose(arrays(block(x)), arrays(plain(x)), atol=1e-6)


@pytest.mark.parametrize("registers", [0, 2])
def test_positions(tmp_path, registers):
    layer = built(DINOv2PositionEmbedding((3, 4), 0.1, registers), 3, 4, DIM)
    w, x = weights(layer), normal(2, 3, 4, DIM)
    table = w["position_embedding"]
    y = arrays(layer(x))
    assert y.shape == (2, 1 + registers + 12, DIM)
    # The grid of the stored ones gets them as they are; registers have none.
    expected = x.reshape(2, 12, DIM) + table[:, 1:]
    np.testing.assert_allclose(y[:, 1 + registers :], expected, atol=1e-6)
    class_token = (w["class_token"] + table[:, :1])[0]
    np.testing.assert_allclose(y[0, :1], class_token, atol=1e-6)
    if registers:
        np.testing.assert_allclose(y[1, 1:3], w["register_tokens"][0], atol=1e-6)
    check_layer(layer, [(x,), (normal(2, 5, 2, DIM),)], tmp_path)


def test_positions_are_resized_in_float32():
    layer = built(DINOv2PositionEmbedding((3, 4)), 5, 7, DIM)
    half = DINOv2PositionEmbedding((3, 4), dtype="mixed_bfloat16")
    half.build((None, 5, 7, DIM))
    half.set_weights(layer.get_weights())
    zeros = np.zeros((1, 5, 7, DIM), "float32")
    exact, rounded = arrays(layer(zeros)), arrays(keras.ops.cast(half(zeros), "float32"))
    assert np.abs(rounded - exact).max() < 2**-8 * np.abs(exact).max()
