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


def for_other_programs():
    """Whether a graph is being made that other programs will run, see `all_heads_at_once`."""
    return _whole


def attend(qkv, bias=None, scale=None):
    """Scaled dot-product attention.

    On CPUs TensorFlow and JAX go head by head, of which one's scores fit the cache: up to
    twice as fast as all together. So does PyTorch in bfloat16, 1.3 times faster than its kernel.

    Args:
        qkv: queries, keys and values, `(B, T, 3, N, D)` float for N heads.
        bias: what is added to the scores before the softmax: `(N, T, T)`; or `(M, N, T, T)`, one
            for each of M windows, where B is a multiple of M and the windows vary fastest.
        scale: of the scores, by default `D ** -0.5`.

    Returns: `(B, T, N, D)`.
    Source: Vaswani et al. 2017 (arXiv 1706.03762), equation 1; with a bias Liu et al. 2021
        (arXiv 2103.14030), equation 4.
    """
    backend = keras.config.backend()
    scale = qkv.shape[-1] ** -0.5 if scale is None else scale
    if bias is not None:
        bias = ops.cast(bias, qkv.dtype)
        bias = bias[None] if len(bias.shape) == 3 else _for_batch(bias, ops.shape(qkv)[0])
    if backend == "openvino" or (backend == "torch" and not _torch_kernel_is_slow(qkv)):
        # One fused kernel that never holds the T x T matrix. On OpenVINO it takes half the time of
        # head after head; written as products, 2026.4 confuses heads and tokens of equal number.
        query, key, value = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        return ops.dot_product_attention(query, key, value, bias, scale=scale)
    length, heads = qkv.shape[1], qkv.shape[3]
    if _whole or (backend != "torch" and not computes_on_processor()):
        query, key, value = _scaled(ops.transpose(qkv, (2, 0, 3, 1, 4)), scale)  # (B, N, T, D)
        in_parts = backend == "jax" and length > 2 * QUERIES_AT_ONCE
        x = (_by_parts if in_parts else _by_whole)(query, key, value, bias)
        return ops.swapaxes(x, 1, 2)
    per_head = _scaled(ops.transpose(qkv, (2, 3, 0, 1, 4)), scale)  # (N, B, T, D)
    if bias is not None:
        per_head = (*per_head, ops.swapaxes(bias, 0, 1))  # (N, B or 1, T, T)
    if backend != "tensorflow":
        attend_head = _by_parts if length > 4 * QUERIES_AT_ONCE else _by_whole
        x = ops.map(lambda head: attend_head(*head), per_head)
        return ops.transpose(x, (1, 2, 0, 3))
    return ops.stack([_by_whole(*(x[n] for x in per_head)) for n in range(heads)], axis=2)


def _for_batch(bias, batch):
    """The biases of M windows, `(M, N, T, T)`, once for each image of a batch of windows."""
    count, *shape = bias.shape
    if isinstance(batch, int) and batch == count:
        return bias
    bias = ops.broadcast_to(bias[None], (batch // count, count, *shape))
    return ops.reshape(bias, (-1, *shape))


def _torch_kernel_is_slow(qkv):
    """Whether PyTorch predicts in bfloat16 on a CPU that multiplies bfloat16 itself."""
    import torch

    if torch.is_grad_enabled() or torch.compiler.is_exporting() or _whole:
        return False
    predicts = qkv.device.type == "cpu" and qkv.dtype == torch.bfloat16
    return predicts and multiplies_bfloat16()


def _scaled(qkv, scale):
    """Queries, keys and values of `(3, ..., T, D)`, the queries scaled."""
    query, key, value = ops.unstack(qkv, 3)
    return query * scale, key, value


def _by_whole(query, key, value, bias=None):
    """Attention of all `(..., T, D)` at once; the queries are scaled."""
    scores = matmul(query, ops.swapaxes(key, -2, -1))
    scores = scores if bias is None else scores + bias
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


def _by_parts(query, key, value, bias=None):
    """As `_by_whole`, for so many queries after the other: T x T never exists."""
    *outer, length, dim = query.shape
    count = -(-length // QUERIES_AT_ONCE)

    def parts(x):
        *first, _, last = x.shape
        missing = count * QUERIES_AT_ONCE - length
        x = ops.pad(x, (*((0, 0) for _ in first), (0, missing), (0, 0)))
        return ops.moveaxis(ops.reshape(x, (*first, count, QUERIES_AT_ONCE, last)), -3, 0)

    each = (parts(query),) if bias is None else (parts(query), parts(bias))
    x = ops.map(lambda part: _by_whole(part[0], key, value, *part[1:]), each)
    x = ops.moveaxis(x, 0, -3)
    return ops.reshape(x, (*outer, count * QUERIES_AT_ONCE, dim))[..., :length, :]
