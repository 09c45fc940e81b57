"""Sums and ReLUs that reuse the memory of a tensor which nobody reads any more.

Only PyTorch computes op by op; there each new map of megabytes costs as much in fetching fresh
memory as in computing. The compilers of TensorFlow and JAX do this by themselves.
"""

import keras
from keras import ops


def keeps_nothing():
    """Whether PyTorch runs op by op and keeps no intermediate results for gradients."""
    if keras.config.backend() != "torch":
        return False
    import torch

    return not (torch.is_grad_enabled() or torch.compiler.is_compiling())


def relu(x):
    """`max(x, 0)`; `x` must not be read afterwards."""
    return x.relu_() if keeps_nothing() else ops.relu(x)


def relu6(x):
    """`min(max(x, 0), 6)`; `x` must not be read afterwards."""
    return x.clamp_(0, 6) if keeps_nothing() else ops.relu6(x)


def add(x, y):
    """`x + y`; `x` must not be read afterwards. Both have the same shape and dtype."""
    return x.add_(y) if keeps_nothing() else x + y
