"""Frozen batch normalisation, folded into the convolution before it."""

from keras import ops

from keras_dpt.ops.in_place import has_hooks


def convolve_and_normalize(conv, norm, x, training):
    """`norm(conv(x))`; unless `norm` is being trained, it is folded into kernel and bias.

    This takes one pass over the map instead of two or three; in exact arithmetic the result is the
    same. Nothing is stored: folding reads the weights once per call.

    Args:
        conv: a built `Conv2D` or `DepthwiseConv2D` of this package, without bias or activation.
        norm: a built `keras.layers.BatchNormalization` with scale and centre.
        x: `(B, h, w, C)` float.
        training: whether this is a training step; `None` is `False`.
    """
    if training and norm.trainable:
        return norm(conv(x), training=True)
    if has_hooks(conv, norm):  # folded, neither layer is called, and a hook would see nothing
        return norm(conv(x), training=False)
    # In float32: half precision cannot represent small variances.
    gamma, beta, mean, variance = (
        ops.cast(weight, "float32")
        for weight in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    )
    factor = gamma / ops.sqrt(variance + norm.epsilon)
    kernel = ops.cast(conv.kernel, "float32")
    # Outputs are the last axis of a kernel, in a depthwise one the second to last.
    depthwise = kernel.shape[-1] == 1 != factor.shape[0]
    kernel = kernel * (factor[:, None] if depthwise else factor)
    kernel, bias = (ops.cast(w, conv.compute_dtype) for w in (kernel, beta - mean * factor))
    return conv.convolution_op(x, kernel, bias, training)
