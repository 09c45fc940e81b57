"""Gradient checkpointing: layers that keep their input alone, and compute again for gradients."""

import keras

from keras_dpt.ops import in_place
from keras_dpt.ops.training import check_training


def recompute(layers, enabled=True):
    """Let each layer compute again, when gradients are made, what it would have kept for them.

    Results and gradients stay the same. Neither configs nor files know of it. (Keras's `RematScope`
    must be entered before the layers are made.)

    Args:
        layers: whose `call` takes a tensor first; gradients flow to that and to the weights.
        enabled: `False` undoes it.

    Raises: TrainingError: the backend does not train.
    """
    check_training("Gradient checkpointing")
    for layer in layers:
        layer.__dict__.pop("call", None)
        if enabled:
            layer.call = _recomputed(layer.call)


def _recomputed(call):
    def again(x, *args, **kwargs):
        if not in_place.may_learn():
            return call(x, *args, **kwargs)
        # What is not the first argument may be no tensor, and JAX would make one of it.
        return keras.remat(lambda x: call(x, *args, **kwargs))(x)

    return again
