"""What a relative depth network needs when it starts from random weights."""

from contextlib import contextmanager
from itertools import islice

import keras
import numpy as np


@contextmanager
def linear_head(model):
    """Train a relative `DPTDepth` without its final ReLU, which is restored afterwards.

    The loss is blind to shifts, so half of a fresh network's outputs would soon be negative and,
    behind the ReLU, learn nothing. Before the context ends, `lift_outputs` must make them positive.
    Trained networks keep their ReLU.
    """
    last = model.head.conv3
    activation = last.activation
    _set_activation(model, keras.activations.linear)
    try:
        yield
    finally:
        _set_activation(model, activation)


SPREAD = 50.0  # between the nearest and the farthest of a picture: a number that people can read


def lift_outputs(model, images):
    """Bring the outputs of a relative `DPTDepth` into the usual range, without negative values.

    The loss is blind to scale and shift, so in a long training both drift, by factors of a hundred
    thousand. Here the head's three convolutions share a factor that makes the median difference
    between nearest and farthest 50, and the last bias lifts the lowest output to 0. Neither affects
    the meaning of a relative map. Call it inside `linear_head`.

    Args:
        images: photos, such as those of the training set; any iterable, 16 are held at once.

    Returns: the factor by which the outputs were multiplied, and the amount added after that.
    """
    images, ranges = iter(images), []
    while batch := list(islice(images, 16)):
        outputs = (depth.values for depth in model.predict_images(batch, 16))
        ranges += [(float(np.min(x)), float(np.ptp(x))) for x in outputs]
    lowest, spread = np.min(ranges, axis=0)[0], np.median(ranges, axis=0)[1]
    scale = float(SPREAD / spread)
    lift = max(0.0, float(-scale * lowest))
    part = scale ** (1 / 3)
    # ReLUs pass a positive factor on; biases have to grow by all factors up to theirs.
    for n, conv in enumerate((model.head.conv1, model.head.conv2, model.head.conv3), 1):
        kernel, bias = conv.get_weights()
        conv.set_weights([kernel * part, bias * part**n])
    model.head.conv3.bias.assign_add([lift])
    return scale, lift


def _set_activation(model, activation):
    model.head.conv3.activation = activation
    forget_compiled(model)


def forget_compiled(model):
    """Have `fit`, `evaluate` and `predict` compile again: the model is not what it was.

    They do so when they begin. Keras's `make_train_function(force=True)` would do it at once, and
    with `keras.distribution` fix the places of an optimizer's variables that are not there yet.
    """
    model.train_function = model.test_function = model.predict_function = None
