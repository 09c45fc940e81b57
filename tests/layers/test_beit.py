"""BEiT's layers beside plain NumPy."""

import math

import numpy as np
import pytest
import tiny
from contracts import arrays, check_layer

from keras_dpt.layers.beit import BEiTAttention, BEiTBlock, ClassToken, token_pair_rows
from keras_dpt.ops.resize import resize_bilinear

from .reference import softmax, weights

DIM, HEADS, MLP_DIM, GRID = 8, 2, 12, (2, 3)


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def inputs(height, width):
    return normal(2, 1 + height * width, DIM), normal(2, height, width, 1)


def built(layer):
    layer.build((None, None, DIM), (None, None, None, 1))
    return tiny.randomize(layer)


def biases(table, height, width):
    """`(N, T, T)` of a table for this grid, pair by pair, queries by keys."""
    length = (2 * height - 1) * (2 * width - 1)
    cells = [(r, c) for r in range(height) for c in range(width)]
    result = np.empty((HEADS, 1 + len(cells), 1 + len(cells)))
    for i, (a, b) in enumerate(cells, 1):
        for j, (c, d) in enumerate(cells, 1):
            row = (a - c + height - 1) * (2 * width - 1) + b - d + width - 1
            result[:, i, j] = table[row]
    # class token to patch, patch to class token, class token to itself
    result[:, :1, 1:] = table[length][:, None, None]
    result[:, 1:, :1] = table[length + 1][:, None, None]
    result[:, 0, 0] = table[length + 2]
    return result


def attention(x, w, bias):
    q, k, v = np.split(x @ w["qkv/kernel"], 3, axis=-1)
    q, v = q + w["query_bias"], v + w["value_bias"]
    q, k, v = (y.reshape(2, -1, HEADS, DIM // HEADS).transpose(0, 2, 1, 3) for y in (q, k, v))
    y = softmax(q @ k.swapaxes(2, 3) / math.sqrt(DIM // HEADS) + bias) @ v
    y = y.transpose(0, 2, 1, 3).reshape(2, -1, DIM)
    return y @ w["projection/kernel"] + w["projection/bias"]


def test_attention_on_its_own_grid(tmp_path):
    layer, (x, like) = built(BEiTAttention(DIM, HEADS, GRID)), inputs(*GRID)
    w = weights(layer)
    names = {f"projection/{leaf}" for leaf in ("kernel", "bias")}
    assert set(w) == names | {"qkv/kernel", "query_bias", "value_bias", "bias_table"}
    assert w["bias_table"].shape == (3 * 5 + 3, HEADS)
    expected = attention(x, w, biases(w["bias_table"], *GRID))
    np.testing.assert_allclose(arrays(layer(x, like)), expected, atol=1e-5)
    check_layer(layer, [(x, like), inputs(3, 4)], tmp_path)


def test_attention_on_another_grid():
    """Biases of offsets are resized as a map, those of the class token stay."""
    layer, (x, like) = built(BEiTAttention(DIM, HEADS, GRID)), inputs(4, 5)
    w = weights(layer)
    table = w["bias_table"].astype("float32")
    patches = resize_bilinear(table[:-3].reshape(1, 3, 5, HEADS), (7, 9), align_corners=False)
    table = np.concatenate([arrays(patches).reshape(-1, HEADS), table[-3:]])
    expected = attention(x, w, biases(table, 4, 5))
    np.testing.assert_allclose(arrays(layer(x, like)), expected, atol=1e-5)


def test_a_fresh_attention_has_no_biases():
    layer = BEiTAttention(DIM, HEADS, GRID)
    layer.build((None, None, DIM))
    for bias in (layer.bias_table, layer.query_bias, layer.value_bias):
        assert not np.any(arrays(bias.value))


def test_block(tmp_path):
    layer, (x, like) = built(BEiTBlock(DIM, HEADS, MLP_DIM, GRID, epsilon=1e-2)), inputs(*GRID)
    assert layer.norm1.epsilon == layer.norm2.epsilon == 1e-2
    scale1, scale2 = (arrays(scale.gamma.value) for scale in (layer.scale1, layer.scale2))
    assert np.abs(scale1 - 1).max() > 0.3
    y = x + scale1 * arrays(layer.attention(layer.norm1(x), like))
    expected = y + scale2 * arrays(layer.mlp(layer.norm2(y)))
    np.testing.assert_allclose(arrays(layer(x, like)), expected, atol=1e-5)
    check_layer(layer, [(x, like), inputs(3, 4)], tmp_path)


def test_attention_weights_of_some_tokens():
    layer, (x, _) = built(BEiTBlock(DIM, HEADS, MLP_DIM, GRID)), inputs(*GRID)
    found = layer.attention_weights(x[:1], [0, 4], GRID)
    w = weights(layer.attention)
    y = arrays(layer.norm1(x[:1]))
    q, k, _ = np.split(y @ w["qkv/kernel"], 3, axis=-1)
    q, k = (z.reshape(-1, HEADS, DIM // HEADS).transpose(1, 0, 2) for z in (q + w["query_bias"], k))
    scores = q @ k.swapaxes(1, 2) / math.sqrt(DIM // HEADS) + biases(w["bias_table"], *GRID)
    np.testing.assert_allclose(found, softmax(scores)[:, [0, 4]].swapaxes(0, 1), atol=1e-5)


def test_class_token(tmp_path):
    layer = ClassToken()
    layer.build((None, None, None, DIM))
    tiny.randomize(layer)
    x = normal(2, 2, 3, DIM)
    y = arrays(layer(x))
    np.testing.assert_array_equal(y[:, 1:], x.reshape(2, 6, DIM))
    token = weights(layer)["class_token"][:, 0]
    np.testing.assert_allclose(y[:, 0], np.broadcast_to(token, (2, DIM)), atol=1e-7)
    check_layer(layer, [(x,), (normal(2, 4, 5, DIM),)], tmp_path)


@pytest.mark.parametrize("size", [(2, 3), (3, 2)])
def test_rows_of_pairs(size):
    table = np.arange((2 * size[0] - 1) * (2 * size[1] - 1) + 3)
    expected = biases(np.stack([table] * HEADS, axis=-1), *size)[0]
    np.testing.assert_array_equal(token_pair_rows(size), expected)
