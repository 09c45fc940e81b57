"""Convolutions and dense layers on PyTorch, on maps `(B, H, W, C)` and without copies of them."""

import functools

from keras import ops

from keras_dpt.ops import processor


def convolution(inputs, kernel, bias, strides, padding):
    """Convolution of `(B, H, W, C)` with `(kh, kw, C, D)`: `(B, H', W', D)`."""
    import torch.nn.functional as F

    inputs, kernel = ops.convert_to_tensor(inputs), ops.convert_to_tensor(kernel)
    bias = None if bias is None else ops.convert_to_tensor(bias)
    x = F.conv2d(inputs.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), bias, strides, padding)
    return x.permute(0, 2, 3, 1)


def depthwise(inputs, kernel, bias, strides, dilation, pads):
    """Depthwise convolution of `(B, H, W, C)` with `(kh, kw, C, 1)`."""
    import torch.nn.functional as F

    x = ops.convert_to_tensor(inputs).permute(0, 3, 1, 2)
    kernel = ops.convert_to_tensor(kernel).permute(2, 3, 0, 1)
    bias = None if bias is None else ops.convert_to_tensor(bias)
    (top, bottom), (left, right) = pads
    if (top, left) != (bottom, right):
        x = F.pad(x, (left, right, top, bottom))
        top = left = 0
    x = F.conv2d(x, kernel, bias, strides, (top, left), dilation, groups=kernel.shape[0])
    return x.permute(0, 2, 3, 1)


def dense(inputs, kernel, bias):
    """Product of `(..., C)` with `(C, D)`: `(..., D)`."""
    import torch
    import torch.nn.functional as F

    inputs, kernel = ops.convert_to_tensor(inputs), ops.convert_to_tensor(kernel)
    bias = None if bias is None else ops.convert_to_tensor(bias)
    on_processor = inputs.device.type == "cpu" and inputs.dtype in (torch.float32, torch.bfloat16)
    # An exported graph runs on other machines, and the detour hides its sizes from `torch.export`.
    exporting = torch.compiler.is_exporting()
    if exporting or not (on_processor and _mkl_is_slow() and torch.backends.mkldnn.is_available()):
        return F.linear(inputs, kernel.t(), bias)
    x = _product().apply(inputs.reshape(-1, inputs.shape[-1]), kernel, bias)
    return x.reshape(*inputs.shape[:-1], kernel.shape[1])


@functools.cache
def _product():
    import torch

    class Product(torch.autograd.Function):
        """`(rows, C)` times `(C, D)` as a convolution, and its gradients.

        oneDNN's gradient by a convolution's kernel takes up to twice as long as MKL's product.
        """

        @staticmethod
        def forward(ctx, x, kernel, bias):
            ctx.save_for_backward(x, kernel)
            return convolution(x[None, None], kernel[None, None], bias, 1, 0)[0, 0]

        @staticmethod
        def backward(ctx, upstream):
            x, kernel = ctx.saved_tensors
            by_input, by_kernel, by_bias = ctx.needs_input_grad
            turned = kernel.t()[None, None]
            return (
                convolution(upstream[None, None], turned, None, 1, 0)[0, 0] if by_input else None,
                (upstream.t() @ x).t() if by_kernel else None,
                upstream.sum(0) if by_bias else None,
            )

    return Product


@functools.cache
def _mkl_is_slow():
    """Whether this is an AMD CPU with AVX-512, which MKL does not use there."""
    import torch

    has_avx512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return has_avx512 and "AuthenticAMD" in processor.description()
