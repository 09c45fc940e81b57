"""How a fresh decoder starts."""

import keras


def decoder_initializer():
    """Uniform with a variance of 1 / (3 fan_in), the default of PyTorch's convolutions.

    The original's decoder was trained from it. Keras's default is sqrt(3) times as wide, which
    makes the sums of seven residual units explode instead of starting near the identity.
    """
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
