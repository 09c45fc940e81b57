"""Keras's dense layers and convolutions, in the fastest form for each backend.

Weights, configs and results are those of `keras.layers`; only the computation differs.
"""

import keras
from keras import ops

from keras_dpt.ops import tensorflow_dense, torch_linear
from keras_dpt.ops.convolution import (
    convolve_to_learn,
    enlarge,
    learns_slowly,
    pointwise,
    same_convolution,
)
from keras_dpt.ops.depthwise import same_padding, sum_of_shifts
from keras_dpt.ops.memory_order import keep_outputs_first
from keras_dpt.ops.processor import computes_on_processor
from keras_dpt.ops.product import matmul


class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D`, on PyTorch without the copies that Keras makes around it.

    Keras's maps are `(B, H, W, C)`. PyTorch can read that memory directly, as `(B, C, H, W)` in its
    memory format "channels last"; Keras copies input and kernel back and forth, which takes as long
    as a fifth of DPT's convolutions.

    On CPUs, JAX computes 1x1 convolutions as matrix products and others by
    `keras_dpt.ops.convolution.same_convolution`, and training may use `convolve_to_learn` there.

    Args, inputs and returns: as in `keras.layers.Conv2D`, with `data_format="channels_last"`.
    """

    def __init__(self, *args, data_format="channels_last", **kwargs):
        super().__init__(*args, data_format=data_format, **kwargs)

    def build(self, input_shape):
        super().build(input_shape)
        keep_outputs_first(self._kernel, (3, 2, 0, 1))

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
        elif training and padding and learns_slowly(inputs):
            x = convolve_to_learn(inputs, ops.convert_to_tensor(kernel))
        elif backend == "torch":
            return torch_linear.convolution(inputs, kernel, bias, self.strides, padding)
        elif padding and backend == "jax":
            x = same_convolution(inputs, ops.convert_to_tensor(kernel))
        else:
            x = super().convolution_op(inputs, kernel)
        return x if bias is None else x + bias

    def _padding(self):
        """Zeros above and left, as many as below and right; `None` if the padding differs."""
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
    """`keras.layers.Conv2DTranspose` with equal kernel size and stride: a matrix product.

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

    XLA's CPU code for a convolution with one group per channel takes 5 to 50 times as long as the
    sum, which it fuses into one pass.

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
                same_padding(side, size, step, dilation)
                for side, size, step, dilation in zip(
                    inputs.shape[1:3],
                    self.kernel_size,
                    self.strides,
                    self.dilation_rate,
                    strict=True,
                )
            ]
            convolution = {"jax": sum_of_shifts, "torch": torch_linear.depthwise}[backend]
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
    """`keras.layers.Dense` as a product of two matrices, for inputs of any rank.

    Only then does TensorFlow fuse product, bias and GELU. PyTorch's float32 product is MKL's, which
    does not use AVX-512 on AMD CPUs, and its bfloat16 product reads the weights in a slow order. On
    AMD CPUs with AVX-512 the product therefore runs as a 1x1 convolution by oneDNN. (With AVX2
    only, that convolution is up to four times slower than the product.)

    Args, inputs and returns: as in `keras.layers.Dense`.
    """

    def build(self, input_shape):
        super().build(input_shape)
        keep_outputs_first(self._kernel, (1, 0))

    def call(self, inputs, training=None):
        bias, backend = self.bias if self.use_bias else None, keras.config.backend()
        if backend == "tensorflow":
            return tensorflow_dense.dense(inputs, self.kernel, bias, self.activation)
        if backend == "torch":
            x = torch_linear.dense(inputs, self.kernel, bias)
        else:
            x = matmul(inputs, ops.convert_to_tensor(self.kernel))
            x = x if bias is None else x + bias
        return x if self.activation is None else self.activation(x)

    def quantize(self, mode=None, type_check=True, config=None):
        """As in Keras, which does not quantise subclasses of its layers by default."""
        super().quantize(mode, type_check=False, config=config)
