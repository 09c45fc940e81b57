"""Depthwise convolution as a sum of shifted maps, and the padding that TensorFlow calls SAME."""

from keras import ops


def same_padding(side, size, step, dilation):
    """Zeros before and after an axis, as TensorFlow's SAME has them."""
    # Written so that a side may be a symbol, as in export: without a stride it does not matter.
    total = max((size - 1) * dilation + 1 - step + (-side % step if step > 1 else 0), 0)
    return total // 2, total - total // 2


def sum_of_shifts(inputs, kernel, bias, strides, dilation, pads):
    """Depthwise convolution of `(B, H, W, C)` with `(kh, kw, C, 1)`."""
    # As a convolution, which sums in float32 and rounds once.
    x = ops.pad(ops.cast(inputs, "float32"), ((0, 0), *pads, (0, 0)))
    kernel = ops.cast(kernel, "float32")
    ends = [x.shape[axis + 1] - dilation[axis] * (kernel.shape[axis] - 1) for axis in (0, 1)]

    def shifted(i, j):
        top, left = i * dilation[0], j * dilation[1]
        rows = slice(top, top + ends[0], strides[0])
        return x[:, rows, left : left + ends[1] : strides[1]] * kernel[i, j, :, 0]

    total = sum(shifted(i, j) for i in range(kernel.shape[0]) for j in range(kernel.shape[1]))
    total = ops.cast(total, inputs.dtype)
    return total if bias is None else total + bias
