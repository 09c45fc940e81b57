"""Dense layers and convolutions of the networks: Keras's, on each backend in its fastest form.

Weights, configs and results are those of `keras.layers`; only the way to the same sums differs.
"""

import functools

import keras
from keras import ops

from keras_dpt.ops import processor
from keras_dpt.ops.convolution import convolve_to_learn, enlarge, pointwise
from keras_dpt.ops.processor import computes_on_processor
from keras_dpt.ops.product import matmul


class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D`, on PyTorch without the copies that Keras makes around it.

    Keras's maps are `(B, H, W, C)`. PyTorch reads such memory as it is, as `(B, C, H, W)` in its
    memory format "channels last"; Keras copies input and kernel there and back, which takes as long
    as a fifth of DPT's convolutions.

    On processors, JAX takes 1x1 convolutions as products of matrices, and training may go the way
    of `keras_dpt.ops.convolution.convolve_to_learn`.

    Args, inputs and returns: as in `keras.layers.Conv2D`, with `data_format="channels_last"`.
    """

    def __init__(self, *args, data_format="channels_last", **kwargs):
        super().__init__(*args, data_format=data_format, **kwargs)

    def build(self, input_shape):
        super().build(input_shape)
        _keep_outputs_first(self._kernel, (3, 2, 0, 1))

    def call(self, inputs, training=None):
        kernel, bias = self.kernel, self.bias if self.use_bias else None
        x = self.convolution_op(inputs, kernel, bias, training)
        return x if self.activation is None else self.activation(x)

    def convolution_op(self, inputs, kernel, bias=None, training=None):
        padding, backend = self._padding(), keras.config.backend()
        if padding is None:
            x = super().convolution_op(inputs, kernel)
        elif self.kernel_size == (1, 1) and backend == "jax" and computes_on_processor():
            x = pointwise(inputs, ops.convert_to_tensor(kernel), self.strides)
        elif training and padding and _learns_slowly(inputs):
            x = convolve_to_learn(inputs, ops.convert_to_tensor(kernel))
        elif backend == "torch":
            return _torch_convolution(inputs, kernel, bias, self.strides, padding)
        else:
            x = super().convolution_op(inputs, kernel)
        return x if bias is None else x + bias

    def _padding(self):
        """Zeros above and left, as many as below and right; `None` where it is not so simple."""
        if self.groups > 1 or self.dilation_rate != (1, 1):
            return None
        if self.padding == "valid" or self.kernel_size == (1, 1):
            return 0
        # "Same" is symmetric for odd kernels without stride only.
        odd = all(side % 2 for side in self.kernel_size)
        if self.padding == "same" and self.strides == (1, 1) and odd:
            return tuple(side // 2 for side in self.kernel_size)
        return None


class Conv2DTranspose(keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` whose kernel is as large as its step: a product of matrices.

    Args, inputs and returns: as in `keras.layers.Conv2DTranspose`, with `strides=kernel_size`,
        `padding="valid"` and `data_format="channels_last"`.
    """

    def __init__(self, *args, data_format="channels_last", **kwargs):
        super().__init__(*args, data_format=data_format, **kwargs)

    def call(self, inputs):
        x = enlarge(ops.convert_to_tensor(inputs), ops.convert_to_tensor(self.kernel))
        x = x + self.bias if self.use_bias else x
        return x if self.activation is None else self.activation(x)


class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D`: on JAX as a sum of shifted maps, on PyTorch without copies.

    XLA's processor code for a convolution in as many groups as channels takes 5 to 50 times as
    long as the sum, which it fuses into one pass.

    Args, inputs and returns: as in `keras.layers.DepthwiseConv2D`, with `depth_multiplier=1`,
        `padding="same"` and `data_format="channels_last"`.
    """

    def __init__(self, *args, data_format="channels_last", **kwargs):
        super().__init__(*args, data_format=data_format, **kwargs)

    def call(self, inputs):
        x = self.convolution_op(inputs, self.kernel, self.bias if self.use_bias else None)
        return x if self.activation is None else self.activation(x)

    def convolution_op(self, inputs, kernel, bias=None, training=None):
        backend = keras.config.backend()
        if backend in ("jax", "torch"):
            pads = [
                _same_padding(side, size, step, dilation)
                for side, size, step, dilation in zip(
                    inputs.shape[1:3],
                    self.kernel_size,
                    self.strides,
                    self.dilation_rate,
                    strict=True,
                )
            ]
            convolution = {"jax": _sum_of_shifts, "torch": _torch_depthwise}[backend]
            return convolution(inputs, kernel, bias, self.strides, self.dilation_rate, pads)
        x = ops.depthwise_conv(
            inputs,
            kernel,
            strides=self.strides,
            padding="same",
            dilation_rate=self.dilation_rate,
            data_format="channels_last",
        )
        return x if bias is None else x + bias


class Dense(keras.layers.Dense):
    """`keras.layers.Dense` as the product of two matrices, whatever the rank of its input.

    TensorFlow joins product, bias and GELU only then. PyTorch's float32 product is MKL's, which
    uses no AVX-512 on AMD's processors, and its product in bfloat16 reads the weights in a slow
    order; where these processors have AVX-512, the product runs as a 1x1 convolution, which is
    oneDNN's. (With AVX2 alone that convolution is up to four times slower than the product.)

    Args, inputs and returns: as in `keras.layers.Dense`.
    """

    def build(self, input_shape):
        super().build(input_shape)
        _keep_outputs_first(self._kernel, (1, 0))

    def call(self, inputs, training=None):
        bias, backend = self.bias if self.use_bias else None, keras.config.backend()
        if backend == "tensorflow":
            return _tensorflow_dense(inputs, self.kernel, bias, self.activation)
        if backend == "torch":
            x = _torch_dense(inputs, self.kernel, bias)
        else:
            x = matmul(inputs, ops.convert_to_tensor(self.kernel))
            x = x if bias is None else x + bias
        return x if self.activation is None else self.activation(x)

    def quantize(self, mode=None, type_check=True, config=None):
        """As in Keras, which quantises no subclasses of its layers unless told to."""
        super().quantize(mode, type_check=False, config=config)


def _keep_outputs_first(kernel, order):
    """Store a kernel of PyTorch in the memory order of its own layers, with the shape of Keras's.

    Without this, each call would reorder the weights. `assign` and optimizers write into the same
    memory and so keep the order.

    Args:
        kernel: a `keras.Variable`.
        order: the axes of the kernel in PyTorch's memory, outputs first.
    """
    if keras.config.backend() != "torch":
        return
    import torch

    shape = torch.Size(kernel.shape[axis] for axis in order)
    data = kernel.value.data.permute(*order)
    form = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    inverse = [order.index(axis) for axis in range(len(order))]
    kernel.value.data = data.contiguous(memory_format=form).permute(*inverse)


def order_as_weights(optimizer, weights):
    """On PyTorch, store an optimizer's variables in the memory order of the weights they follow.

    Keras makes them in its own order, and sums over two orders are slow: of a step of Base, which
    took 8.5 s on a processor, 0.5 s.

    Args: optimizer: built. weights: `keras.Variable`s.
    """
    if keras.config.backend() != "torch":
        return
    import torch

    values = {tuple(weight.shape): weight.value.data for weight in weights}
    for variable in optimizer.variables:
        like, data = values.get(tuple(variable.shape)), variable.value.data
        if like is not None and like.stride() != data.stride():
            variable.value.data = torch.empty_like(like, dtype=data.dtype).copy_(data)


def _torch_convolution(inputs, kernel, bias, strides, padding):
    """Convolution of `(B, H, W, C)` with `(kh, kw, C, D)`: `(B, H', W', D)`."""
    import torch.nn.functional as F

    inputs, kernel = ops.convert_to_tensor(inputs), ops.convert_to_tensor(kernel)
    bias = None if bias is None else ops.convert_to_tensor(bias)
    x = F.conv2d(inputs.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), bias, strides, padding)
    return x.permute(0, 2, 3, 1)


def _same_padding(side, size, step, dilation):
    """Zeros before and after an axis, as TensorFlow's SAME has them."""
    # Written so that a side may be a symbol, as in export: without a stride it does not matter.
    total = max((size - 1) * dilation + 1 - step + (-side % step if step > 1 else 0), 0)
    return total // 2, total - total // 2


def _sum_of_shifts(inputs, kernel, bias, strides, dilation, pads):
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


def _torch_depthwise(inputs, kernel, bias, strides, dilation, pads):
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


def _tensorflow_dense(inputs, kernel, bias, activation):
    """Product of `(..., C)` with `(C, D)`: `(..., D)`."""
    import tensorflow as tf

    inputs, kernel = tf.convert_to_tensor(inputs), tf.convert_to_tensor(kernel)
    x = tf.matmul(tf.reshape(inputs, (-1, inputs.shape[-1])), kernel)
    x = x if bias is None else tf.nn.bias_add(x, tf.convert_to_tensor(bias))
    # Between product and activation there is no reshape, so that TensorFlow can join them.
    x = x if activation is None else activation(x)
    outputs = tf.reshape(x, tf.concat([tf.shape(inputs)[:-1], kernel.shape[1:]], 0))
    outputs.set_shape([*inputs.shape[:-1], kernel.shape[1]])
    return outputs


def _torch_dense(inputs, kernel, bias):
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
    x = _torch_product().apply(inputs.reshape(-1, inputs.shape[-1]), kernel, bias)
    return x.reshape(*inputs.shape[:-1], kernel.shape[1])


@functools.cache
def _torch_product():
    import torch

    class Product(torch.autograd.Function):
        """`(rows, C)` times `(C, D)` as a convolution, and its gradients.

        oneDNN's gradient by a convolution's kernel takes up to twice as long as MKL's product.
        """

        @staticmethod
        def forward(ctx, x, kernel, bias):
            ctx.save_for_backward(x, kernel)
            return _torch_convolution(x[None, None], kernel[None, None], bias, 1, 0)[0, 0]

        @staticmethod
        def backward(ctx, upstream):
            x, kernel = ctx.saved_tensors
            by_input, by_kernel, by_bias = ctx.needs_input_grad
            turned = kernel.t()[None, None]
            return (
                _torch_convolution(upstream[None, None], turned, None, 1, 0)[0, 0]
                if by_input
                else None,
                (upstream.t() @ x).t() if by_kernel else None,
                upstream.sum(0) if by_bias else None,
            )

    return Product


def _learns_slowly(inputs):
    """Whether the gradient of a convolution's kernel is slow here.

    So it is on processors: in XLA always, in TensorFlow and oneDNN for float32 with AVX2 alone.
    """
    dtype, backend = keras.backend.standardize_dtype(inputs.dtype), keras.config.backend()
    if backend == "jax":
        return dtype in ("float32", "bfloat16") and computes_on_processor()
    if dtype != "float32" or not processor.has_avx2_alone():
        return False
    return inputs.device.type == "cpu" if backend == "torch" else computes_on_processor()


@functools.cache
def _mkl_is_slow():
    """Whether this is an AMD processor with AVX-512, which MKL does not use there."""
    import torch

    has_avx512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return has_avx512 and "AuthenticAMD" in processor.description()
