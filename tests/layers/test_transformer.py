import math

import keras
import numpy as np
import pytest
import tiny
from contracts import arrays, check_layer

from keras_dpt.layers.transformer import (
    MLP,
    Attention,
    PatchEmbedding,
    PositionEmbedding,
    TokensToMap,
    TransformerBlock,
)
from keras_dpt.ops import attention as ops_attention
from keras_dpt.ops.attention import all_heads_at_once
from keras_dpt.ops.resize import resize_bilinear

from .reference import layer_norm, softmax, weights

DIM, HEADS, MLP_DIM = 8, 2, 12


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def built(layer, *shape):
    layer.build((None, *shape))
    return tiny.randomize(layer)


def attention(x, w, prefix=""):
    batch, length, _ = x.shape
    qkv = x @ w[f"{prefix}qkv/kernel"] + w[f"{prefix}qkv/bias"]
    q, k, v = (
        part.reshape(batch, length, HEADS, DIM // HEADS).transpose(0, 2, 1, 3)
        for part in np.split(qkv, 3, axis=-1)
    )
    y = softmax(q @ k.swapaxes(2, 3) / math.sqrt(DIM // HEADS)) @ v
    y = y.transpose(0, 2, 1, 3).reshape(batch, length, DIM)
    return y @ w[f"{prefix}projection/kernel"] + w[f"{prefix}projection/bias"]


def mlp(x, w, prefix=""):
    y = x @ w[f"{prefix}dense1/kernel"] + w[f"{prefix}dense1/bias"]
    y = y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
    return y @ w[f"{prefix}dense2/kernel"] + w[f"{prefix}dense2/bias"]


def test_attention(tmp_path):
    layer, x = built(Attention(DIM, HEADS), None, DIM), normal(2, 7, DIM)
    np.testing.assert_allclose(arrays(layer(x)), attention(x, weights(layer)), atol=1e-5)
    check_layer(layer, [(x,), (normal(2, 5, DIM),)], tmp_path)


def test_attention_of_all_heads_at_once(tmp_path):
    layer, x = built(Attention(DIM, HEADS), None, DIM), normal(2, 7, DIM)
    with all_heads_at_once():
        np.testing.assert_allclose(arrays(layer(x)), attention(x, weights(layer)), atol=1e-5)
        check_layer(layer, [(x,), (normal(2, 5, DIM),)], tmp_path)


@pytest.mark.skipif(keras.config.backend() != "jax", reason="only JAX's goes part by part")
def test_attention_of_many_tokens_part_by_part(monkeypatch):
    layer, x = built(Attention(DIM, HEADS), None, DIM), normal(2, 40, DIM)

    def sizes():
        np.testing.assert_allclose(arrays(layer(x)), attention(x, weights(layer)), atol=1e-5)
        by_heads = largest_array(layer, x)
        with all_heads_at_once():
            np.testing.assert_allclose(arrays(layer(x)), attention(x, weights(layer)), atol=1e-5)
            return by_heads, largest_array(layer, x)

    scores = 2 * 40 * 40  # of a head
    assert sizes() == (scores, HEADS * scores)
    monkeypatch.setattr(ops_attention, "QUERIES_AT_ONCE", 3)
    by_heads, all_at_once = sizes()
    assert by_heads < scores and all_at_once < HEADS * scores


def largest_array(layer, x):
    """Elements of the largest array that a call makes, with all that it calls."""
    from jax import make_jaxpr
    from jax.extend.core import jaxprs_in_params

    def sizes(jaxpr):
        for equation in jaxpr.eqns:
            yield from (variable.aval.size for variable in equation.outvars)
            for inner in jaxprs_in_params(equation.params):
                yield from sizes(inner)

    # A function of its own: JAX remembers what it traced.
    return max(sizes(make_jaxpr(lambda x: layer(x))(x).jaxpr))


def test_heads_have_to_share_the_width():
    with pytest.raises(ValueError, match="multiple of `num_heads`. Received: 8 and 3"):
        Attention(8, 3)


def test_mlp(tmp_path):
    layer, x = built(MLP(DIM, MLP_DIM), None, DIM), normal(2, 7, DIM)
    np.testing.assert_allclose(arrays(layer(x)), mlp(x, weights(layer)), atol=1e-5)
    check_layer(layer, [(x,), (normal(2, 5, DIM),)], tmp_path)


def test_block(tmp_path):
    layer = built(TransformerBlock(DIM, HEADS, MLP_DIM, epsilon=1e-2), None, DIM)
    x, w = normal(2, 7, DIM), weights(layer)
    y = layer_norm(x, w["norm1/gamma"], w["norm1/beta"], epsilon=1e-2)
    y = x + attention(y, w, "attention/")
    z = layer_norm(y, w["norm2/gamma"], w["norm2/beta"], epsilon=1e-2)
    expected = y + mlp(z, w, "mlp/")
    np.testing.assert_allclose(arrays(layer(x)), expected, atol=1e-5)
    check_layer(layer, [(x,), (normal(2, 5, DIM),)], tmp_path)


def test_patch_embedding(tmp_path):
    layer, x = built(PatchEmbedding(DIM, 4), None, None, 3), normal(2, 8, 12, 3)
    w = weights(layer)
    patches = x.reshape(2, 2, 4, 3, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 2, 3, 48)
    expected = patches @ w["projection/kernel"].reshape(48, DIM) + w["projection/bias"]
    np.testing.assert_allclose(arrays(layer(x)), expected, atol=1e-5)
    check_layer(layer, [(x,), (normal(2, 4, 8, 3),)], tmp_path)


@pytest.mark.parametrize("size", [(9, 8), (8, 10)])
def test_patches_have_to_fit(size):
    with pytest.raises(ValueError, match=f"multiples of 4. Received: {size[0]} x {size[1]}"):
        PatchEmbedding(DIM, 4)(normal(1, *size, 3))


def test_position_embedding_contract(tmp_path):
    layer = built(PositionEmbedding((3, 4)), None, None, DIM)
    check_layer(layer, [(normal(2, 3, 4, DIM),), (normal(2, 2, 5, DIM),)], tmp_path)


def test_position_embedding_on_its_own_grid():
    layer, x = built(PositionEmbedding((3, 4)), None, None, DIM), normal(2, 3, 4, DIM)
    w = weights(layer)
    class_token = np.broadcast_to(w["class_token"], (2, 1, DIM))
    tokens = np.concatenate([class_token, x.reshape(2, 12, DIM)], axis=1)  # row by row
    np.testing.assert_allclose(arrays(layer(x)), tokens + w["position_embedding"], atol=1e-6)


@pytest.mark.parametrize("size", [(6, 8), (2, 5), (4, 3)])
def test_position_embedding_on_another_grid(size):
    layer, x = built(PositionEmbedding((3, 4)), None, None, DIM), normal(2, *size, DIM)
    positions = weights(layer)["position_embedding"].astype("float32")
    grid = positions[:, 1:].reshape(1, 3, 4, DIM)
    expected = x + arrays(resize_bilinear(grid, size, align_corners=False))
    result = arrays(layer(x))
    np.testing.assert_allclose(result[:, 1:].reshape(x.shape), expected, atol=1e-6)
    class_token = weights(layer)["class_token"][:, 0] + positions[:, 0]
    np.testing.assert_allclose(result[:, 0], np.broadcast_to(class_token, (2, DIM)), atol=1e-6)


def test_a_distillation_token_comes_second(tmp_path):
    layer, x = built(PositionEmbedding((3, 4), True), None, None, DIM), normal(2, 3, 4, DIM)
    w = weights(layer)
    assert w["position_embedding"].shape == (1, 14, DIM)
    first = [np.broadcast_to(w[f"{x}_token"], (2, 1, DIM)) for x in ("class", "distillation")]
    tokens = np.concatenate([*first, x.reshape(2, 12, DIM)], axis=1)
    np.testing.assert_allclose(arrays(layer(x)), tokens + w["position_embedding"], atol=1e-6)
    check_layer(layer, [(x,), (normal(2, 2, 5, DIM),)], tmp_path)


def test_attention_without_a_bias(tmp_path):
    layer, x = built(Attention(DIM, HEADS, qkv_bias=False), None, DIM), normal(2, 7, DIM)
    w = weights(layer)
    assert "qkv/bias" not in w
    expected = attention(x, w | {"qkv/bias": np.zeros(3 * DIM)})
    np.testing.assert_allclose(arrays(layer(x)), expected, atol=1e-5)
    check_layer(layer, [(x,), (normal(2, 5, DIM),)], tmp_path)


def test_attention_weights_of_some_tokens():
    layer, x = built(TransformerBlock(DIM, HEADS, MLP_DIM), None, DIM), normal(1, 7, DIM)
    w = weights(layer)
    y = layer_norm(x, w["norm1/gamma"], w["norm1/beta"])[0]
    qkv = y @ w["attention/qkv/kernel"] + w["attention/qkv/bias"]
    q, k, _ = (z.reshape(7, HEADS, DIM // HEADS) for z in np.split(qkv, 3, axis=-1))
    scores = softmax(np.einsum("qnd,tnd->qnt", q, k) / math.sqrt(DIM // HEADS))
    np.testing.assert_allclose(layer.attention_weights(x, [0, 3]), scores[[0, 3]], atol=1e-5)


@pytest.mark.parametrize("prefixes", [1, 2])
def test_tokens_to_map(prefixes, tmp_path):
    layer = TokensToMap(prefixes)
    tokens, like = normal(2, prefixes + 6, DIM), normal(2, 2, 3, 1)
    grid, prefix = arrays(layer(tokens, like))
    np.testing.assert_array_equal(prefix, tokens[:, :prefixes])
    np.testing.assert_array_equal(grid[:, 1, 0], tokens[:, prefixes + 3])  # row by row
    other = normal(2, prefixes + 20, DIM), normal(2, 4, 5, 1)
    check_layer(layer, [(tokens, like), other], tmp_path)
