"""The operations of the layers once more, in NumPy and float64."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def weights(layer):
    """`{path below the layer: float64 array}` of a layer's weights."""
    paths = [v.path.removeprefix(f"{layer.path}/") for v in layer.weights]
    return {path: w.astype("float64") for path, w in zip(paths, layer.get_weights(), strict=True)}


def conv(x, kernel, bias=0.0, strides=1, padding=((0, 0), (0, 0))):
    """Convolution of `(B, H, W, C)`; `padding` is zeros `((top, bottom), (left, right))`."""
    x = np.pad(x.astype("float64"), ((0, 0), *padding, (0, 0)))
    windows = sliding_window_view(x, kernel.shape[:2], axis=(1, 2))[:, ::strides, ::strides]
    return np.einsum("bhwcij,ijco->bhwo", windows, kernel) + bias


def same_padding(size, kernel, strides):
    """TensorFlow's SAME along one axis: what is odd goes to the end."""
    total = max((-(-size // strides) - 1) * strides + kernel - size, 0)
    return total // 2, total - total // 2


def conv_same(x, kernel, bias=0.0, strides=1):
    padding = [same_padding(x.shape[a], kernel.shape[a - 1], strides) for a in (1, 2)]
    return conv(x, kernel, bias, strides, padding)


def depthwise_same(x, kernel, strides=1, dilation=1):
    """Each channel by itself, `(kh, kw, C, 1)`, as a convolution that mixes none."""
    dense = kernel * np.eye(kernel.shape[2])
    return conv_same(x, dilated(dense, dilation), strides=strides)


def dilated(kernel, dilation):
    """The kernel with zeros between its weights."""
    sides = [(side - 1) * dilation + 1 for side in kernel.shape[:2]]
    spread = np.zeros((*sides, *kernel.shape[2:]))
    spread[::dilation, ::dilation] = kernel
    return spread


def max_pool_same(x, size, strides):
    padding = [same_padding(side, size, strides) for side in x.shape[1:3]]
    x = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=-np.inf)
    return sliding_window_view(x, (size, size), axis=(1, 2))[:, ::strides, ::strides].max((-1, -2))


def relu(x):
    return np.maximum(x, 0)


def group_norm(x, gamma, beta, groups, epsilon=1e-5):
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, groups, channels // groups)
    mean = x.mean((1, 2, 4), keepdims=True)
    x = (x - mean) / np.sqrt(x.var((1, 2, 4), keepdims=True) + epsilon)
    return x.reshape(batch, height, width, channels) * gamma + beta


def standardize(kernel, formula):
    """Per output channel; "std" is timm 0.4.5's formula, "variance" timm 0.4.12's."""
    kernel = kernel - kernel.mean((0, 1, 2))
    if formula == "std":
        return kernel / (kernel.std((0, 1, 2)) + 1e-5)
    return kernel / np.sqrt(kernel.var((0, 1, 2)) + 1e-8)


def layer_norm(x, gamma, beta, epsilon=1e-6):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)
