"""What every layer and every model has to keep: one call in each of their tests."""

import copy
import inspect
import json
import re

import keras
import numpy as np
from keras import ops


def check_layer(layer, batches, tmp_path, float32_layers=()):
    """Hold a layer to the contract.

    Args:
        layer: built or not; its weights are used as they are.
        batches: two or more tuples of NumPy arrays, the positional arguments of a call. Axes that
            differ between them are the ones that have to be free.
        tmp_path: a folder for files.
        float32_layers: patterns of paths of sublayers that are float32 whatever the policy.
    """
    check_config(layer)
    eager = arrays(layer(*map(ops.convert_to_tensor, batches[0])))
    model = functional(layer, batches)
    outputs = [predict(model, batch) for batch in batches]
    assert_close(outputs[0], eager, 1e-5)
    check_symbolic(layer, batches, outputs)
    check_saved(model, batches[0], outputs[0], tmp_path)
    check_gradients(layer, batches[0])
    # Models go through both policies; here the one of the smaller range is enough.
    check_half_precision(layer, "mixed_float16", batches[0], outputs[0], float32_layers)


def check_model(model, sizes, tmp_path, float32_layers=()):
    """Hold an image model to the contract.

    Args:
        model: a keras-hub backbone or task of one image input.
        sizes: two or more `(height, width)` that it has to take.
        tmp_path: a folder for files.
        float32_layers: patterns of paths of layers that are float32 whatever the policy.
    """
    batches, outputs = check_graph(model, sizes)
    check_saved(model, batches[0], outputs[0], tmp_path)
    check_gradients(model, batches[0])
    for policy in ("mixed_bfloat16", "mixed_float16"):
        check_half_precision(model, policy, batches[0], outputs[0], float32_layers)


def check_graph(model, sizes):
    """The part of `check_model` that is about sizes and config; returns batches and outputs."""
    rng = np.random.default_rng(0)
    batches = [(rng.uniform(-1, 1, (2, *size, 3)).astype("float32"),) for size in sizes]
    check_config(model)
    outputs = [predict(model, batch) for batch in batches]
    check_symbolic(model, batches, outputs)
    return batches, outputs


def check_config(layer):
    """The config holds every constructor argument, survives JSON, and rebuilds the layer."""
    config = layer.get_config()
    starred = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    for name, parameter in inspect.signature(type(layer).__init__).parameters.items():
        if name != "self" and parameter.kind not in starred:
            assert name in config, f"{type(layer).__name__}.get_config() lacks {name!r}"
    stored = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    # A copy: keras-hub's `from_config` puts objects into the dict that it is given.
    rebuilt = keras.saving.deserialize_keras_object(copy.deepcopy(stored))
    assert type(rebuilt) is type(layer)
    again = json.loads(json.dumps(keras.saving.serialize_keras_object(rebuilt)))
    for description in (stored, again):
        description.pop("build_config", None)  # what is built yet, not what to build
        description.pop("compile_config", None)
    assert again == stored
    assert type(layer).from_config(layer.get_config()).get_config() == config


def check_symbolic(layer, batches, outputs):
    """Keras's idea of the output, with known and with unknown sizes, is what comes out."""
    for batch, output in zip(batches, outputs, strict=True):
        inputs = [keras.Input(batch_shape=x.shape, dtype=str(x.dtype)) for x in batch]
        for symbol, array in zip(leaves(layer(*inputs)), leaves(output), strict=True):
            assert tuple(symbol.shape) == array.shape
            assert symbol.dtype == str(array.dtype)
    symbols = leaves(layer(*free_inputs(batches)))
    for symbol, *examples in zip(symbols, *map(leaves, outputs), strict=True):
        assert tuple(symbol.shape[1:]) == common_shape(examples)[1:]


def check_saved(model, batch, expected, tmp_path):
    """A `.keras` file brings back the class and every bit of the outputs."""
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.saving.load_model(path)
    assert type(loaded) is type(model)
    for a, b in zip(leaves(predict(loaded, batch)), leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def check_gradients(layer, batch):
    """Every trainable weight has a finite gradient that is not zero."""
    if not layer.trainable_variables:
        return
    random = [
        np.random.default_rng(1).normal(size=symbol.shape).astype("float32")
        for symbol in leaves(layer(*[keras.Input(batch_shape=x.shape) for x in batch]))
    ]

    def loss(outputs):
        products = zip(leaves(outputs), random, strict=True)
        return sum(ops.mean(ops.multiply(ops.cast(y, "float32"), w)) for y, w in products)

    gradients = weight_gradients(layer, loss, batch)
    assert len(gradients) == len(layer.trainable_variables)
    for path, gradient in gradients.items():
        assert np.isfinite(gradient).all(), f"gradient of {path} is not finite"
        assert np.any(gradient), f"no gradient in {path}"


def check_half_precision(layer, policy, batch, expected, float32_layers):
    """With a policy of half precision: everywhere, up to the output, and close to float32."""
    if isinstance(layer, keras.Model):
        half = layer.from_config(layer.get_config() | _dtype_config(layer, policy))
    else:
        half = type(layer).from_config(layer.get_config() | {"dtype": policy})
    model = functional(half, [batch])
    half.set_weights(layer.get_weights())
    for part in half._flatten_layers(include_self=False):
        if not isinstance(part, keras.layers.InputLayer):
            path = part.path or part.name  # without weights a layer may have no path
            kept = any(re.search(pattern, path) for pattern in float32_layers)
            assert part.dtype_policy.name == ("float32" if kept else policy), path
    symbols = leaves(model.outputs)
    for symbol, y, reference in zip(
        symbols, leaves(predict(model, batch)), leaves(expected), strict=True
    ):
        assert symbol.dtype == str(y.dtype)
        y = np.asarray(y, "float32")
        assert np.isfinite(y).all()
        assert np.abs(y - reference).max() < 0.1 * np.abs(reference).max()


def _dtype_config(model, policy):
    """The part of a model's config that sets the policy of all its layers."""
    config = model.get_config()
    if "backbone" not in config:
        return {"dtype": policy}
    backbone = config["backbone"]
    return {"backbone": backbone | {"config": backbone["config"] | {"dtype": policy}}}


def free_inputs(batches):
    """Symbolic arguments with `None` for the batch and wherever `batches` differ."""
    dtypes = [str(x.dtype) for x in batches[0]]
    shapes = [common_shape(xs)[1:] for xs in zip(*batches, strict=True)]
    return [keras.Input(shape, dtype=d) for shape, d in zip(shapes, dtypes, strict=True)]


def common_shape(examples):
    """The shape of arrays, `None` along axes where they differ."""
    return tuple(
        sides[0] if len(set(sides)) == 1 else None
        for sides in zip(*(x.shape for x in examples), strict=True)
    )


def functional(layer, batches):
    """A model of one layer for inputs like `batches`; a model is its own."""
    if isinstance(layer, keras.Model):
        return layer
    inputs = free_inputs(batches)
    return keras.Model(inputs[0] if len(inputs) == 1 else inputs, layer(*inputs))


def predict(model, batch):
    """Outputs of a compiled model as NumPy arrays; no preprocessing by a task."""
    inputs = batch[0] if len(batch) == 1 else list(batch)
    return arrays(keras.Model.predict_on_batch(model, inputs))


def arrays(outputs):
    """A structure of tensors as one of NumPy arrays."""
    return keras.tree.map_structure(ops.convert_to_numpy, outputs)


def leaves(structure):
    """Tensors of a structure in a fixed order."""
    return keras.tree.flatten(structure)


def assert_close(actual, expected, tolerance):
    """Equal structures, shapes and dtypes; values within `tolerance` of the largest."""
    for a, b in zip(leaves(actual), leaves(expected), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(b).max()))


def differentiable(function):
    """A function of NumPy arrays to `(value, gradient)`, of one of tensors to a scalar.

    The gradient is by the first argument. Both are compiled where the backend is slow without.
    """
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        compiled = jax.jit(jax.value_and_grad(function))

        def evaluate(*args):
            value, gradient = compiled(*args)
            return float(value), np.asarray(gradient)

    elif backend == "torch":
        import torch

        def evaluate(x, *rest):
            x = torch.tensor(x, requires_grad=True)
            value = function(x, *map(torch.tensor, rest))
            return value.item(), torch.autograd.grad(value, x)[0].numpy()

    else:
        import tensorflow as tf

        def evaluate(x, *rest):
            x = tf.convert_to_tensor(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = function(x, *map(tf.convert_to_tensor, rest))
            return float(value), tf.convert_to_tensor(tape.gradient(value, x)).numpy()

    return evaluate


def weight_gradients(layer, loss, batch):
    """`{path: gradient}` of `loss(layer(*batch))` for every trainable weight."""
    variables = layer.trainable_variables
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        def loss_of(weights):
            state = [v.value for v in layer.non_trainable_variables]
            return loss(layer.stateless_call(weights, state, *batch)[0])

        gradients = jax.jit(jax.grad(loss_of))([v.value for v in variables])
    elif backend == "torch":
        layer.zero_grad()
        loss(layer(*map(ops.convert_to_tensor, batch))).backward()
        gradients = [v.value.grad for v in variables]
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = loss(layer(*map(ops.convert_to_tensor, batch)))
        gradients = tape.gradient(value, [v.value for v in variables])
    for variable, gradient in zip(variables, gradients, strict=True):
        assert gradient is not None, f"no gradient in {variable.path}"
    return {v.path: ops.convert_to_numpy(g) for v, g in zip(variables, gradients, strict=True)}
