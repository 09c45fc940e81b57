"""Blocks of Swin, versions 1 and 2, beside plain NumPy."""

import itertools
import math

import numpy as np
import pytest
import tiny
from contracts import arrays, check_layer

from keras_dpt.layers.swin import PatchMerging, Swin2Block, SwinBlock, shift_mask
from keras_dpt.layers.window_attention import CosineWindowAttention, WindowAttention

from .reference import layer_norm, softmax, weights

DIM, HEADS, MLP_DIM, SIDE = 8, 2, 12, 3
CELLS = list(itertools.product(range(SIDE), repeat=2))


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def built(layer, *shape):
    layer.build((None, *shape))
    return tiny.randomize(layer)


def of_pairs(table):
    """`(N, T, T)`, queries by keys, of a table of offsets `((2 s - 1)^2, N)`."""
    table = table.reshape(2 * SIDE - 1, 2 * SIDE - 1, -1)
    shift = SIDE - 1
    rows = [[table[a - c + shift, b - d + shift] for c, d in CELLS] for a, b in CELLS]
    return np.moveaxis(np.array(rows), -1, 0)


def heads_of(x):
    return x.reshape(len(x), -1, HEADS, DIM // HEADS).transpose(0, 2, 1, 3)


def joined(scores, values, w, prefix):
    y = (softmax(scores) @ values).transpose(0, 2, 1, 3)
    y = y.reshape(len(y), -1, DIM)
    return y @ w[f"{prefix}projection/kernel"] + w[f"{prefix}projection/bias"]


def attention(x, w, prefix="", mask=0.0):
    qkv = x @ w[f"{prefix}qkv/kernel"] + w[f"{prefix}qkv/bias"]
    q, k, v = map(heads_of, np.split(qkv, 3, axis=-1))
    scores = q @ k.swapaxes(2, 3) / math.sqrt(DIM // HEADS)
    return joined(scores + of_pairs(w[f"{prefix}bias_table"]) + mask, v, w, prefix)


def cosine_attention(x, w, prefix="", mask=0.0, pretrained=SIDE):
    q, k, v = np.split(x @ w[f"{prefix}qkv/kernel"], 3, axis=-1)
    q, v = q + w[f"{prefix}query_bias"], v + w[f"{prefix}value_bias"]
    q, k, v = map(heads_of, (q, k, v))
    q, k = (y / np.linalg.norm(y, axis=-1, keepdims=True) for y in (q, k))
    scale = np.exp(np.minimum(w[f"{prefix}logit_scale"], math.log(100)))[:, None, None]
    steps = np.arange(1 - SIDE, SIDE) * 8 / (pretrained - 1)
    steps = np.sign(steps) * np.log2(1 + np.abs(steps)) / 3
    offsets = np.array(list(itertools.product(steps, repeat=2)))
    hidden = offsets @ w[f"{prefix}offsets1/kernel"] + w[f"{prefix}offsets1/bias"]
    table = np.maximum(hidden, 0) @ w[f"{prefix}offsets2/kernel"]
    bias = of_pairs(16 / (1 + np.exp(-table)))
    return joined(scale * (q @ k.swapaxes(2, 3)) + bias + mask, v, w, prefix)


def in_windows(x, shift, attend):
    """Attention of the windows of a map that is rolled by `shift` and back."""
    height, width = x.shape[1:3]
    y, result = np.roll(x, (-shift, -shift), (1, 2)), np.empty(x.shape)
    for top, left in itertools.product(range(0, height, SIDE), range(0, width, SIDE)):
        window = np.s_[:, top : top + SIDE, left : left + SIDE]
        # Cells see each other if, in each axis, both or neither went over the edge.
        over = [(top + r + shift >= height, left + c + shift >= width) for r, c in CELLS]
        mask = np.array([[0 if a == b else -100 for b in over] for a in over])
        cells = y[window].reshape(len(x), SIDE**2, DIM)
        result[window] = attend(cells, mask).reshape(y[window].shape)
    return np.roll(result, (shift, shift), (1, 2))


def mlp(x, w):
    y = x @ w["mlp/dense1/kernel"] + w["mlp/dense1/bias"]
    y = y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
    return y @ w["mlp/dense2/kernel"] + w["mlp/dense2/bias"]


def norm(x, w, name, epsilon):
    return layer_norm(x, w[f"{name}/gamma"], w[f"{name}/beta"], epsilon)


OF_BOTH = {
    *(f"{norm}/{leaf}" for norm in ("norm1", "norm2") for leaf in ("gamma", "beta")),
    *(f"mlp/dense{n}/{leaf}" for n in (1, 2) for leaf in ("kernel", "bias")),
    *(f"attention/projection/{leaf}" for leaf in ("kernel", "bias")),
    "attention/qkv/kernel",
}
OF_V1 = {"attention/qkv/bias", "attention/bias_table"}
OF_V2 = {f"attention/{name}" for name in ("query_bias", "value_bias", "logit_scale")}
OF_V2 |= {f"attention/offsets{n}" for n in ("1/kernel", "1/bias", "2/kernel")}


@pytest.mark.parametrize("shift", [0, 1])
def test_block(shift, tmp_path):
    layer = SwinBlock(DIM, HEADS, MLP_DIM, SIDE, shift, epsilon=1e-2)
    layer, x = built(layer, 6, 9, DIM), normal(2, 6, 9, DIM)
    w = weights(layer)
    assert set(w) == OF_BOTH | OF_V1 and w["attention/bias_table"].shape == (25, HEADS)

    def attend(cells, mask):
        return attention(cells, w, "attention/", mask)

    y = x + in_windows(norm(x, w, "norm1", 1e-2), shift, attend)
    expected = y + mlp(norm(y, w, "norm2", 1e-2), w)
    np.testing.assert_allclose(arrays(layer(x)), expected, atol=1e-5)
    if shift:
        check_layer(layer, [(x,), (normal(1, 6, 9, DIM),)], tmp_path)


@pytest.mark.parametrize(("shift", "pretrained"), [(0, None), (1, 2)])
def test_block_of_version_2(shift, pretrained, tmp_path):
    options = {"epsilon": 1e-2, "pretrained_window": pretrained}
    layer = Swin2Block(DIM, HEADS, MLP_DIM, SIDE, shift, **options)
    layer, x = built(layer, 6, 9, DIM), normal(2, 6, 9, DIM)
    layer.attention.logit_scale.assign([2.0, 9.0])  # the second is beyond the largest
    w = weights(layer)
    assert set(w) == OF_BOTH | OF_V2

    def attend(cells, mask):
        return cosine_attention(cells, w, "attention/", mask, pretrained or SIDE)

    y = x + norm(in_windows(x, shift, attend), w, "norm1", 1e-2)
    expected = y + norm(mlp(y, w), w, "norm2", 1e-2)
    np.testing.assert_allclose(arrays(layer(x)), expected, atol=1e-4)
    if shift:
        layer.attention.logit_scale.assign([2.0, 1.0])
        check_layer(layer, [(x,), (normal(1, 6, 9, DIM),)], tmp_path, ("offsets",))


def test_defaults_are_those_of_the_papers():
    for cls in (SwinBlock, Swin2Block, PatchMerging):
        config = cls(DIM, *[HEADS, MLP_DIM, SIDE] * (cls is not PatchMerging)).get_config()
        assert config["epsilon"] == 1e-5
        assert config.get("shift", 0) == 0
    layer = Swin2Block(DIM, HEADS, MLP_DIM, SIDE)
    layer.build((None, 6, 9, DIM))
    scale = arrays(layer.attention.logit_scale.value)
    np.testing.assert_allclose(scale, np.full(HEADS, math.log(10)), rtol=1e-6)
    for bias in (layer.attention.query_bias, layer.attention.value_bias):
        np.testing.assert_array_equal(arrays(bias.value), np.zeros(DIM))
    layer = WindowAttention(DIM, HEADS, 12)
    layer.build((None, 144, DIM))
    assert arrays(layer.bias_table.value).std() == pytest.approx(0.0176, rel=0.1)  # cut at 2 sigma


def test_biases_stay_float32():
    """The logarithms and tables lose what tells far cells apart in half precision."""
    layer = CosineWindowAttention(DIM, HEADS, SIDE, dtype="mixed_bfloat16")
    layer.build((None, SIDE**2, DIM))
    tiny.randomize(layer)
    exact = CosineWindowAttention(DIM, HEADS, SIDE)
    exact.build((None, SIDE**2, DIM))
    exact.set_weights(layer.get_weights())
    np.testing.assert_allclose(arrays(layer.biases()), arrays(exact.biases()), rtol=1e-6)


def test_masks_are_shared_and_large_enough():
    mask = shift_mask(6, 9, SIDE, 1)
    assert mask.shape == (6, 9, 9) and mask.dtype == np.float32
    assert set(np.unique(mask)) == {0, -100} and not mask[0].any()


@pytest.mark.parametrize("norm_first", [False, True])
def test_patch_merging(norm_first, tmp_path):
    layer = built(PatchMerging(12, norm_first, epsilon=1e-2), 4, 6, DIM)
    x, w = normal(2, 4, 6, DIM), weights(layer)
    assert set(w) == {"norm/gamma", "norm/beta", "reduction/kernel"}
    # (row, column) (0, 0), (1, 0), (0, 1), (1, 1)
    four = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
    y = np.concatenate(four, axis=-1)
    if norm_first:
        expected = norm(y, w, "norm", 1e-2) @ w["reduction/kernel"]
    else:
        expected = norm(y @ w["reduction/kernel"], w, "norm", 1e-2)
    np.testing.assert_allclose(arrays(layer(x)), expected, atol=1e-5)
    check_layer(layer, [(x,), (normal(1, 4, 6, DIM),)], tmp_path)
