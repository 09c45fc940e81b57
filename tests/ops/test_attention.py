import contextlib

import keras
import numpy as np
import pytest
from keras import ops

from keras_dpt.ops import attention, processor

PROCESSORS = ["avx2", "avx2 avx512f", "avx2 avx512f avx512_bf16", "unknown"]


def softmax_attention(qkv, bias=0.0, scale=None):
    """Equation 1 of arXiv 1706.03762 in float64, `(B, T, 3, N, D)` to `(B, T, N, D)`."""
    query, key, value = np.moveaxis(qkv.astype("float64"), 2, 0)
    scale = 1 / np.sqrt(qkv.shape[-1]) if scale is None else scale
    scores = np.einsum("btnd,bsnd->bnts", query, key) * scale + bias
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.einsum("bnts,bsnd->btnd", weights, value)


def inference():
    """As in `predict`: PyTorch records nothing for gradients."""
    if keras.config.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()


@pytest.fixture(params=PROCESSORS)
def some_processor(request, monkeypatch):
    """The forms of attention that other machines take compute the same here."""
    monkeypatch.setattr(processor, "description", lambda: request.param)


def qkv(length, seed=0):
    x = np.random.default_rng(seed).normal(size=(2, length, 3, 3, 16))
    x[:, :, :2] *= 2  # so that some weights are large
    return x.astype("float32")


@pytest.mark.parametrize("at_once", [1024, 16])
@pytest.mark.parametrize("length", [3, 5, 77])  # three heads, too
def test_attention_is_that_of_the_paper(length, at_once, some_processor, monkeypatch):
    monkeypatch.setattr(attention, "QUERIES_AT_ONCE", at_once)
    x = qkv(length)
    with inference():
        y = ops.convert_to_numpy(attention.attend(ops.convert_to_tensor(x)))
    np.testing.assert_allclose(y, softmax_attention(x), atol=2e-6)


@pytest.mark.parametrize("at_once", [1024, 5])
@pytest.mark.parametrize("windows", [None, 1, 2, 4])
def test_a_bias_is_added_to_the_scores(windows, at_once, some_processor, monkeypatch):
    monkeypatch.setattr(attention, "QUERIES_AT_ONCE", at_once)
    x = np.concatenate([qkv(23), qkv(23, seed=1)])
    shape = (3, 23, 23) if windows is None else (windows, 3, 23, 23)
    bias = np.random.default_rng(2).normal(size=shape).astype("float32")
    each = bias if windows is None else np.tile(bias, (4 // windows, 1, 1, 1))
    expected = softmax_attention(x, each, scale=0.2)
    for whole in (contextlib.nullcontext, attention.all_heads_at_once):
        with inference(), whole():
            y = attention.attend(ops.convert_to_tensor(x), ops.convert_to_tensor(bias), scale=0.2)
        np.testing.assert_allclose(ops.convert_to_numpy(y), expected, atol=2e-6)


@pytest.mark.parametrize("at_once", [1024, 16])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_rounds_a_few_times(dtype, at_once, some_processor, monkeypatch):
    monkeypatch.setattr(attention, "QUERIES_AT_ONCE", at_once)
    # Of 600 nearly equal weights a sum in bfloat16 would stop growing at 256.
    x = ops.cast(qkv(600) * np.array([0.1, 0.1, 1])[:, None, None], dtype)
    expected = softmax_attention(ops.convert_to_numpy(ops.cast(x, "float32")))
    with inference():
        y = attention.attend(x)
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    error = ops.convert_to_numpy(ops.cast(y, "float32")) - expected
    step = 2**-8 if dtype == "bfloat16" else 2**-11
    assert np.std(error) < 2 * step * np.std(expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_all_heads_at_once_are_the_same(dtype, some_processor):
    x = ops.cast(qkv(40), dtype)
    with inference():
        expected = attention.attend(x)
        with attention.all_heads_at_once():
            y = attention.attend(x)
    y, expected = (ops.convert_to_numpy(ops.cast(t, "float32")) for t in (y, expected))
    np.testing.assert_allclose(y, expected, atol=1e-5 if dtype == "float32" else 6e-2)
