"""Which backends can train."""

import keras

from keras_dpt.errors import TrainingError


def check_training(what="Training"):
    """Raise a TrainingError, before any work, on a backend without gradients.

    Args: what: what would need them, as the message begins.
    """
    backend = keras.config.backend()
    if backend in ("tensorflow", "jax", "torch"):
        return
    raise TrainingError(
        f"{what} needs TensorFlow, JAX or PyTorch; KERAS_BACKEND is {backend}. Train with "
        "KERAS_BACKEND=torch, for example; its presets and .keras files predict the same here."
    )
