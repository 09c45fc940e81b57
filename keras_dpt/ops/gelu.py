"""The exact Gaussian error linear unit."""

import math

import keras
from keras import ops


def gelu(x):
    """`x * Phi(x)` with the error function, as every ViT and DPT's readout use it.

    Args:
        x: float tensor of any shape.

    Returns:
        Tensor with the shape and dtype of `x`.

    Source: Hendrycks & Gimpel 2016 (arXiv 1606.08415), the form without tanh.
    """
    if keras.config.backend() == "torch":
        return ops.gelu(x, approximate=False)  # one fused kernel
    # TensorFlow's and JAX's own go through `erfc` and take more than twice as long. In this order
    # LiteRT's converter recognises the sum as its GELU; it has no `erf` of its own.
    return 0.5 * x * (1 + ops.erf(x * math.sqrt(0.5)))
