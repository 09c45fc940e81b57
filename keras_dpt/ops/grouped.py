"""Convolution in groups, in a form that CPUs can differentiate."""

import keras
from keras import ops

from keras_dpt.ops.processor import computes_on_processor


def learns_slowly_in_groups():
    """Whether the backend's gradient of a grouped convolution takes many times as long as need be.

    TensorFlow's takes twelve times as long as `convolve_in_groups` for the 3x3 convolution of
    ResNeXt's first stage; JAX's 1.2 times, and PyTorch's own is quick.
    """
    return keras.config.backend() == "tensorflow" and computes_on_processor()


def convolve_in_groups(x, kernel, groups, strides=1):
    """A convolution without padding, as a sum of products of matrices, one for each kernel cell.

    Args:
        x: `(B, H, W, C)` float.
        kernel: `(h, w, C / groups, filters)`.
        groups: how many parts the channels are cut into; each makes as many of the outputs.
        strides: of both sides.

    Returns: `(B, (H - h) // strides + 1, (W - w) // strides + 1, filters)`.
    """
    _, height, width, channels = ops.shape(x)
    rows, columns, part, filters = kernel.shape
    kernel = ops.reshape(kernel, (rows, columns, part, groups, filters // groups))
    size = [(side - k) // strides + 1 for side, k in ((height, rows), (width, columns))]
    total = 0
    for i in range(rows):
        for j in range(columns):
            stops = [start + (n - 1) * strides + 1 for start, n in zip((i, j), size, strict=True)]
            shifted = x[:, i : stops[0] : strides, j : stops[1] : strides]
            shifted = ops.reshape(shifted, (-1, groups, channels // groups))
            matrices = ops.transpose(kernel[i, j], (1, 0, 2))
            total = total + ops.matmul(ops.transpose(shifted, (1, 0, 2)), matrices)
    return ops.reshape(ops.transpose(total, (1, 0, 2)), (-1, *size, filters))
