"""Taps of tokens inside other libraries' backbones, and names by which files know our layers."""

import importlib
import pkgutil

import keras
import numpy as np
from contracts import arrays, check_layer

from keras_dpt import layers
from keras_dpt.layers.tokens import FoldTokens, TappedBlocks


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def test_fold_tokens(tmp_path):
    layer, x = FoldTokens((2, 3), 2), normal(2, 8, 4)
    grid, prefix = arrays(layer(x))
    np.testing.assert_array_equal(prefix, x[:, :2])
    np.testing.assert_array_equal(grid, x[:, 2:].reshape(2, 2, 3, 4))
    check_layer(layer, [(x,), (normal(3, 8, 4),)], tmp_path)


def test_blocks_run_up_to_the_last_tap():
    """Some give attention scores too; the first of what they give goes on."""
    ran = []

    def block(i):
        return lambda x: ran.append(i) or ((x + 10**i, "scores") if i % 2 else x + 10**i)

    layer = TappedBlocks([block(i) for i in range(5)], (1, 3))
    outputs = layer(normal(2, 3, 4) * 0)
    assert [float(arrays(y).max()) for y in outputs] == [11, 1111] and ran == [0, 1, 2, 3]
    assert layer.compute_output_shape((None, 3, 4)) == [(None, 3, 4)] * 2


def test_every_layer_has_a_name_of_its_own_in_files():
    modules = [
        importlib.import_module(f"keras_dpt.layers.{module.name}")
        for module in pkgutil.iter_modules(layers.__path__)
    ]
    found = 0
    for module in modules:
        for cls in vars(module).values():
            if isinstance(cls, type) and cls.__module__ == module.__name__:
                name = keras.saving.get_registered_name(cls)
                if name.startswith("keras_dpt>"):
                    found += 1
                    assert keras.saving.get_registered_object(name) is cls
    assert found > 30
