"""Outputs of a network that several processes train, where one of them wants some for itself.

What `predict` does then is a step of all processes: one that takes it alone waits for the others.
"""

import keras
import numpy as np
from keras import ops


def is_shared(model):
    """Whether processes other than this one hold a part of the model's computations."""
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        if jax.process_count() == 1:
            return False
        return not all(v.value.is_fully_addressable for v in model.variables[:1])
    if backend == "tensorflow":
        strategy = model.distribute_strategy
        return getattr(strategy, "num_workers", 1) > 1
    return False  # PyTorch: nothing but gradients goes from process to process


def outputs_alone(model, images):
    """The model's output for a batch, made by this process on one of its devices.

    Args:
        model: a built model whose variables every device holds in full.
        images: `(B, H, W, 3)` float array, ready for the network.

    Returns: `(B, H, W, C)` array.
    """
    if keras.config.backend() == "tensorflow":
        return np.asarray(model(ops.convert_to_tensor(images), training=False))

    def here(variables):
        return [variable.value.addressable_data(0) for variable in variables]

    weights = here(model.trainable_variables), here(model.non_trainable_variables)
    return np.asarray(model.stateless_call(*weights, images, training=False)[0])
