"""Sums and ReLUs that reuse the memory of a tensor which nothing reads any more.

Only PyTorch computes op by op; there each new map of megabytes costs as much in fetching fresh
memory as in computing. The compilers of TensorFlow and JAX do this by themselves.

A forward hook may keep a layer's output. So whoever works in place names the layer, `of`, that the
tensor comes from: if it or a layer in it has a hook, the result gets memory of its own.
"""

import keras
from keras import ops


def keeps_nothing():
    """Whether PyTorch runs op by op and keeps no intermediate results for gradients."""
    if keras.config.backend() != "torch":
        return False
    import torch

    return not (torch.is_grad_enabled() or torch.compiler.is_compiling())


def may_learn():
    """Whether results may be kept for gradients; elsewhere than on PyTorch compilers decide."""
    if keras.config.backend() != "torch":
        return True
    import torch

    return torch.is_grad_enabled() and not torch.compiler.is_exporting()


def has_hooks(*layers):
    """Whether PyTorch's forward hooks see outputs of these layers, or of a layer inside them."""
    if keras.config.backend() != "torch":
        return False
    from torch.nn.modules import module

    if module._global_forward_hooks:
        return True
    return any(inner._forward_hooks for layer in layers for inner in layer.modules())


def relu(x, of=None):
    """`max(x, 0)`; `x` must not be read afterwards.

    Args: x: float tensor. of: the layer whose output it is; `None` if it is no layer's.
    """
    return x.relu_() if _is_free(of) else ops.relu(x)


def relu6(x, of=None):
    """`min(max(x, 0), 6)`; see `relu`."""
    return x.clamp_(0, 6) if _is_free(of) else ops.relu6(x)


def add(x, y, of=None):
    """`x + y`, both of the same shape and dtype; for `x` see `relu`."""
    return x.add_(y) if _is_free(of) else x + y


def _is_free(of):
    return keeps_nothing() and (of is None or not has_hooks(of))
