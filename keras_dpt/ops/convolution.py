"""Convolutions written as products of matrices, where libraries have nothing as fast."""

import functools

import keras
from keras import ops

from keras_dpt.ops import processor
from keras_dpt.ops.processor import computes_on_processor
from keras_dpt.ops.product import matmul

_BAND = 8  # rows at once; more do not fit the processor's cache
_PIXELS = 1536  # the same for `same_convolution`
_CHANNELS = 128  # with fewer on one side, products are no faster than XLA's convolution


def pointwise(x, kernel, strides):
    """Convolution with a 1x1 kernel.

    Args: x: `(B, H, W, C)`. kernel: `(1, 1, C, D)`. strides: of rows and columns.
    Returns: `(B, ceil(H / rows), ceil(W / columns), D)`.
    """
    if tuple(strides) != (1, 1):
        x = x[:, :: strides[0], :: strides[1]]
    _, height, width, channels = ops.shape(x)
    x = matmul(ops.reshape(x, (-1, channels)), kernel[0, 0])
    return ops.reshape(x, (-1, height, width, kernel.shape[3]))


def enlarge(x, kernel):
    """Transposed convolution whose kernel is as large as its step, so that no two results meet.

    Args: x: `(B, H, W, C)`. kernel: `(kh, kw, D, C)`, as Keras has it.
    Returns: `(B, kh H, kw W, D)`.
    """
    _, height, width, channels = ops.shape(x)
    rows, columns, outputs, _ = kernel.shape
    weights = ops.reshape(ops.transpose(kernel, (3, 0, 1, 2)), (channels, -1))
    x = matmul(ops.reshape(x, (-1, channels)), weights)
    x = ops.reshape(x, (-1, height, width, rows, columns, outputs))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, height * rows, width * columns, outputs))


def same_convolution(x, kernel):
    """Convolution without steps, with zeros around the map.

    On JAX in bfloat16, on CPUs with instructions for it, large ones are sums of products of
    matrices: XLA would convert them to float32, which takes up to 1.7 times as long.

    Args: x: `(B, H, W, C)` float. kernel: `(kh, kw, C, D)`, the same dtype, sides odd.
    Returns: `(B, H, W, D)`.
    """
    in_jax = keras.config.backend() == "jax" and computes_on_processor()
    half = keras.backend.standardize_dtype(x.dtype) == "bfloat16"
    large = min(kernel.shape[2:]) >= _CHANNELS and max(kernel.shape[:2]) > 1
    if in_jax and half and large and processor.multiplies_bfloat16():
        return convolve_in_bands(x, kernel)
    return ops.conv(x, kernel, strides=1, padding="same", data_format="channels_last")


def convolve_in_bands(x, kernel):
    """`same_convolution` as products of matrices, in a loop over bands of rows.

    Args, returns: see `same_convolution`; sides of the map are known.
    """
    rows, columns, channels, filters = kernel.shape
    batch, height, width, _ = x.shape
    band = min(height, max(1, _PIXELS // width))
    bands = -(-height // band)
    below = bands * band - height
    # The zeros between two rows make a step of the kernel a step along all pixels of the band.
    x = ops.pad(x, ((0, 0), (rows // 2, rows // 2 + below), (columns // 2,) * 2, (0, 0)))
    row = width + columns - 1
    count = band * row - (columns - 1)

    def add(index, result):
        image, start = index // bands, index % bands * band
        piece = ops.slice(x, (image, start, 0, 0), (1, band + rows - 1, row, channels))
        pixels = ops.reshape(piece, (-1, channels))
        total = sum(
            matmul(pixels[i * row + j : i * row + j + count], kernel[i, j], "float32")
            for i in range(rows)
            for j in range(columns)
        )
        total = ops.reshape(ops.pad(total, ((0, columns - 1), (0, 0))), (1, band, row, filters))
        total = ops.cast(total[:, :, :width], x.dtype)
        return ops.slice_update(result, (image, start, 0, 0), total)

    result = ops.zeros((batch, bands * band, width, filters), x.dtype)
    return ops.fori_loop(0, batch * bands, add, result)[:, :height]


def convolve_to_learn(x, kernel):
    """Convolution whose gradient is made of another one and of products of matrices.

    Of a convolution's gradients the kernel's takes XLA, TensorFlow's Eigen and oneDNN with AVX2
    alone up to ten times as long as the same number of products in a product of matrices.

    Args: x: `(B, H, W, C)` float. kernel: `(kh, kw, C, D)`, the same dtype, sides odd.
    Returns: `(B, H, W, D)`: without steps, with zeros around the map.
    """
    if keras.config.backend() == "torch":
        return _torch_function().apply(x, kernel)
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        kernel = tf.convert_to_tensor(kernel)  # a variable would need a gradient of its own

    @ops.custom_gradient
    def forward(x, kernel):
        def backward(upstream):
            return input_gradient(kernel, upstream), kernel_gradient(x, upstream, kernel.shape[:2])

        return same_convolution(x, kernel), backward

    return forward(x, kernel)


def input_gradient(kernel, upstream):
    """Gradient of `convolve_to_learn` by its input."""
    return same_convolution(upstream, ops.transpose(ops.flip(kernel, (0, 1)), (0, 1, 3, 2)))


def kernel_gradient(x, upstream, size):
    """Gradient of `convolve_to_learn` by its kernel.

    Args: x: `(B, H, W, C)`. upstream: gradient of the result, `(B, H, W, D)`. size: `(kh, kw)`.
    Returns: `(kh, kw, C, D)`.
    """
    if keras.config.backend() == "jax":
        return _sum_over_bands(x, upstream, size)
    rows, columns = size
    _, _, width, channels = ops.shape(x)
    # With zeros after each row of both, a step of the kernel is a step along all pixels in a row.
    x = ops.pad(x, ((0, 0), (rows // 2,) * 2, (columns // 2,) * 2, (0, 0)))
    upstream = ops.pad(upstream, ((0, 0), (0, rows - 1), (0, columns - 1), (0, 0)))
    x = ops.reshape(x, (-1, channels))
    upstream = ops.reshape(upstream, (-1, upstream.shape[-1]))
    row = width + columns - 1
    count = ops.shape(x)[0] - (rows - 1) * row - (columns - 1)
    upstream = upstream[:count]
    products = [
        ops.matmul(ops.transpose(x[start : start + count]), upstream)
        for start in (i * row + j for i in range(rows) for j in range(columns))
    ]
    return ops.reshape(ops.stack(products), (rows, columns, channels, -1))


def _sum_over_bands(x, upstream, size):
    """`kernel_gradient` in a loop over bands of rows, which XLA does not unroll."""
    rows, columns = size
    batch, height, width, channels = x.shape
    band = max(1, _BAND // batch)
    bands = -(-height // band)
    below = bands * band - height
    x = ops.pad(x, ((0, 0), (rows // 2, rows // 2 + below), (columns // 2,) * 2, (0, 0)))
    upstream = ops.pad(upstream, ((0, 0), (0, below), (0, 0), (0, 0)))

    def cut(x, start, count):
        shape = (batch, count, *x.shape[2:])
        return ops.slice(x, (0, start, 0, 0), shape)

    def flat(x):
        return ops.reshape(x, (-1, x.shape[-1]))

    def add(index, total):
        piece = cut(x, index * band, band + rows - 1)
        right = flat(cut(upstream, index * band, band))
        products = [
            matmul(ops.transpose(flat(piece[:, i : i + band, j : j + width])), right, "float32")
            for i in range(rows)
            for j in range(columns)
        ]
        return total + ops.stack(products)

    total = ops.zeros((rows * columns, channels, upstream.shape[-1]), "float32")
    total = ops.fori_loop(0, bands, add, total)
    return ops.cast(ops.reshape(total, (rows, columns, channels, -1)), x.dtype)


@functools.cache
def _torch_function():
    import torch
    import torch.nn.functional as F

    def convolve(x, kernel):
        padding = kernel.shape[0] // 2, kernel.shape[1] // 2
        return F.conv2d(x.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), padding=padding).permute(
            0, 2, 3, 1
        )

    class Convolution(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, kernel):
            ctx.save_for_backward(x, kernel)
            return convolve(x, kernel)

        @staticmethod
        def backward(ctx, upstream):
            x, kernel = ctx.saved_tensors
            by_input, by_kernel = ctx.needs_input_grad
            return (
                convolve(upstream, kernel.flip(0, 1).transpose(2, 3)) if by_input else None,
                kernel_gradient(x, upstream, kernel.shape[:2]) if by_kernel else None,
            )

    return Convolution


def learns_slowly(inputs):
    """Whether the gradient of a convolution's kernel is slow here.

    So it is on CPUs: in XLA always, in TensorFlow and oneDNN for float32 with AVX2 alone.
    """
    dtype, backend = keras.backend.standardize_dtype(inputs.dtype), keras.config.backend()
    if backend == "jax":
        return dtype in ("float32", "bfloat16") and computes_on_processor()
    if dtype != "float32" or not processor.has_avx2_alone():
        return False
    return inputs.device.type == "cpu" if backend == "torch" else computes_on_processor()
