"""LoRA adapters in a training's state. Keras merges them into the kernels when it saves.

That is right for a finished network. Training that continues from it would start with both adapter
factors at zero, where their gradients are zero, too: they would never change.
"""

from contextlib import contextmanager

import keras

from keras_dpt.errors import TrainingError


def adapted_layers(model):
    """The layers that have adapters, in the order of the network."""
    return [layer for layer in model._flatten_layers() if getattr(layer, "lora_enabled", False)]


@contextmanager
def adapters_apart(model):
    """Save the weights of a model without its adapters; they stay what they are."""
    layers = adapted_layers(model)
    for layer in layers:
        layer.lora_enabled = False
    try:
        yield
    finally:
        for layer in layers:
            layer.lora_enabled = True


def adapter_values(model):
    """`{name: array}` of all adapters, for `set_adapters`."""
    return {
        f"adapter_{i}_{factor}": keras.ops.convert_to_numpy(variable)
        for i, layer in enumerate(adapted_layers(model))
        for factor, variable in _factors(layer)
    }


def set_adapters(model, values):
    """Give adapters their values back.

    Raises: TrainingError: they are not those of this model.
    """
    layers = adapted_layers(model)
    if len(values) != 2 * len(layers):
        raise TrainingError(
            f"The state has adapters of {len(values) // 2} layers, the model of {len(layers)}. "
            "Call `enable_lora` as in the first run, or begin in another folder."
        )
    for i, layer in enumerate(layers):
        for factor, variable in _factors(layer):
            variable.assign(values[f"adapter_{i}_{factor}"])


def _factors(layer):
    return ("a", layer.lora_kernel_a), ("b", layer.lora_kernel_b)
