"""Attention of tokens to each other, in the form that is fastest on each backend."""

import contextlib

import keras
from keras import ops

from keras_dpt.ops.processor import computes_on_processor, has_avx2_alone, multiplies_bfloat16
from keras_dpt.ops.product import matmul

# JAX's matrices of attention scores have no more rows than this once there are twice as many, or
# head by head four times as many.
QUERIES_AT_ONCE = 1024

_whole = False


@contextlib.contextmanager
def all_heads_at_once():
    """For graphs that other programs will run: they know this form, and have faster ones of it."""
    global _whole
    before, _whole = _whole, True
    try:
        yield
    finally:
        _whole = before


def attend(qkv):
    """Scaled dot-product attention.

    On processors TensorFlow and JAX go head by head, of which one's scores fit the cache: up to
    twice as fast as all together. So does PyTorch in bfloat16, 1.3 times as fast as its own kernel.

    Args: qkv: queries, keys and values, `(B, T, 3, N, D)` float for N heads.
    Returns: `(B, T, N, D)`.
    Source: Vaswani et al. 2017 (arXiv 1706.03762), equation 1.
    """
    backend = keras.config.backend()
    if backend == "torch" and not _torch_kernel_is_slow(qkv):
        # One fused kernel that never holds the T x T matrix.
        return ops.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
    length, heads = qkv.shape[1], qkv.shape[3]
    if _whole or (backend != "torch" and not computes_on_processor()):
        query, key, value = _scaled(ops.transpose(qkv, (2, 0, 3, 1, 4)))  # (B, N, T, D)
        in_parts = backend == "jax" and length > 2 * QUERIES_AT_ONCE
        x = (_by_parts if in_parts else _by_whole)(query, key, value)
        return ops.swapaxes(x, 1, 2)
    per_head = _scaled(ops.transpose(qkv, (2, 3, 0, 1, 4)))  # (N, B, T, D)
    if backend != "tensorflow":
        attend_head = _by_parts if length > 4 * QUERIES_AT_ONCE else _by_whole
        x = ops.map(lambda head: attend_head(*head), per_head)
        return ops.transpose(x, (1, 2, 0, 3))
    return ops.stack([_by_whole(*(x[n] for x in per_head)) for n in range(heads)], axis=2)


def _torch_kernel_is_slow(qkv):
    """Whether PyTorch predicts in bfloat16 on a processor that multiplies bfloat16 itself."""
    import torch

    if torch.is_grad_enabled() or torch.compiler.is_exporting() or _whole:
        return False
    predicts = qkv.device.type == "cpu" and qkv.dtype == torch.bfloat16
    return predicts and multiplies_bfloat16()


def _scaled(qkv):
    """Queries, keys and values of `(3, ..., T, D)`, the queries divided by the root of D."""
    query, key, value = ops.unstack(qkv, 3)
    return query * query.shape[-1] ** -0.5, key, value


def _by_whole(query, key, value):
    """Attention of all `(..., T, D)` at once; the queries are scaled."""
    scores = matmul(query, ops.swapaxes(key, -2, -1))
    backend = keras.config.backend()
    if backend == "torch" or (backend == "tensorflow" and not has_avx2_alone()):
        # One kernel, oneDNN's or the accelerator's, which sums half precision in float32.
        return matmul(ops.softmax(scores), value)
    if keras.backend.standardize_dtype(scores.dtype) != "float32":
        # In half precision the softmax over many tokens loses the small ones.
        weights = ops.softmax(ops.cast(scores, "float32"))
        return matmul(ops.cast(weights, value.dtype), value)
    # The softmax's division comes last, where there is less to divide.
    scores = scores - ops.stop_gradient(ops.max(scores, axis=-1, keepdims=True))
    weights = ops.exp(scores)
    return matmul(weights, value) / ops.sum(weights, axis=-1, keepdims=True)


def _by_parts(query, key, value):
    """As `_by_whole`, for so many queries after the other: T x T never exists."""
    *outer, length, dim = query.shape
    count = -(-length // QUERIES_AT_ONCE)
    missing = count * QUERIES_AT_ONCE - length
    query = ops.pad(query, (*((0, 0) for _ in outer), (0, missing), (0, 0)))
    parts = ops.moveaxis(ops.reshape(query, (*outer, count, QUERIES_AT_ONCE, dim)), -3, 0)
    x = ops.moveaxis(ops.map(lambda part: _by_whole(part, key, value), parts), 0, -3)
    return ops.reshape(x, (*outer, count * QUERIES_AT_ONCE, dim))[..., :length, :]
