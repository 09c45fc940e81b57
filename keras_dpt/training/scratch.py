"""What a relative depth network needs when it starts from random weights."""

from contextlib import contextmanager

import keras
import numpy as np


@contextmanager
def linear_head(model):
    """Train a relative `DPTDepth` without the ReLU at its end, which comes back afterwards.

    The loss is blind to shifts, so half of a fresh network's outputs would soon be negative and,
    behind the ReLU, learn nothing. Before the context ends, `lift_outputs` has to make them
    positive. Trained networks keep their ReLU.
    """
    last = model.head.conv3
    activation = last.activation
    _set_activation(model, keras.activations.linear)
    try:
        yield
    finally:
        _set_activation(model, activation)


def lift_outputs(model, images):
    """Raise the bias of a relative `DPTDepth`'s head until no output for `images` is negative.

    That changes a shift, which means nothing in a relative map. Call it inside `linear_head`.

    Args:
        images: list of photos, such as those of the training set.

    Returns: by how much, 0 if all outputs were positive.
    """
    lowest = min(float(np.min(depth.values)) for depth in model.predict_images(images, 16))
    lift = max(0.0, -lowest)
    model.head.conv3.bias.assign_add([lift])
    return lift


def _set_activation(model, activation):
    model.head.conv3.activation = activation
    # Compiled functions remember the old one.
    model.make_train_function(force=True)
    model.make_test_function(force=True)
    model.make_predict_function(force=True)
