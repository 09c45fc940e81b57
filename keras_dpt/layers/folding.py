"""Batch normalisation that does not learn is part of the convolution before it."""

from keras import ops

from keras_dpt.ops.in_place import has_hooks


def convolve_and_normalize(conv, norm, x, training):
    """`norm(conv(x))`; when `norm` does not learn, with its factors in kernel and bias.

    That is one pass over the map instead of two or three, and the same numbers in exact
    arithmetic. Nothing is stored: folding costs as much as looking at the weights once.

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
    # In float32: a variance can be smaller than half precision knows.
    gamma, beta, mean, variance = (
        ops.cast(weight, "float32")
        for weight in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    )
    factor = gamma / ops.sqrt(variance + norm.epsilon)
    kernel = ops.cast(conv.kernel, "float32")
    # Outputs are the last axis of a kernel, but of a depthwise one the last but one, of C.
    depthwise = kernel.shape[-1] == 1 != factor.shape[0]
    kernel = kernel * (factor[:, None] if depthwise else factor)
    kernel, bias = (ops.cast(w, conv.compute_dtype) for w in (kernel, beta - mean * factor))
    return conv.convolution_op(x, kernel, bias, training)
