"""Gradient checkpointing: layers keep only their input and are computed again for gradients."""

import keras

from keras_dpt.ops import in_place
from keras_dpt.ops.training import check_training


def recompute(layers, enabled=True):
    """Let each layer recompute its intermediate values for gradients instead of storing them.

    Results and gradients stay the same; configs and files are not affected. (Keras's `RematScope`
    must be entered before the layers are created.)

    Args:
        layers: their `call` takes a tensor first; gradients flow to it and to the weights.
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
        # Other arguments may not be tensors, and JAX would convert them.
        return keras.remat(lambda x: call(x, *args, **kwargs))(x)

    return again
