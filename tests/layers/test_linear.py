import keras
import numpy as np
import pytest
from contracts import differentiable, weight_gradients
from keras import ops

from keras_dpt.layers import linear
from keras_dpt.ops import convolution, torch_linear
from keras_dpt.ops import processor as cpu
from keras_dpt.ops.convolution import learns_slowly

CONVOLUTIONS = [
    {"kernel_size": 3, "padding": "same"},
    {"kernel_size": 1, "activation": "relu"},
    {"kernel_size": 3, "strides": 2},
    {"kernel_size": 7, "strides": 2, "padding": "same", "use_bias": False},
    {"kernel_size": (1, 3), "padding": "same", "dilation_rate": 2},
    {"kernel_size": 3, "groups": 2},
    {"kernel_size": 2, "padding": "same"},
    {"kernel_size": 1, "strides": 2, "padding": "same"},
]


def maps(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def assert_equal_twins(ours, keras_layer, x, **options):
    """The two layers have the same outputs and gradients from the same weights."""
    results = []
    for layer in (ours, keras_layer):
        layer.build(x.shape)
        for seed, variable in enumerate(layer.variables, 1):
            variable.assign(np.random.default_rng(seed).normal(size=variable.shape))

        if layer is keras_layer:
            options = {}

        def total(*inputs, layer=layer, options=options):
            x, *weights = inputs
            outputs, _ = layer.stateless_call(weights, [], x, **options)
            return ops.sum(ops.sin(outputs))

        weights = [ops.convert_to_numpy(variable) for variable in layer.variables]
        outputs = ops.convert_to_numpy(layer(x, **options))
        results.append((outputs, *differentiable(total)(x, *weights)))
    for mine, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_convolution_is_that_of_keras(options):
    assert_equal_twins(
        linear.Conv2D(6, **options), keras.layers.Conv2D(6, **options), maps(2, 9, 11, 4)
    )


@pytest.mark.parametrize("size", [3, 5, (1, 3), (7, 1)])
@pytest.mark.parametrize("shape", [(1, 9, 11, 4), (2, 17, 6, 3), (9, 5, 8, 2)])
def test_training_has_the_gradients_of_keras(size, shape, monkeypatch):
    calls = []

    def convolve_to_learn(*args):
        calls.append(args)
        return convolution.convolve_to_learn(*args)

    monkeypatch.setattr(linear, "learns_slowly", lambda inputs: True)
    monkeypatch.setattr(linear, "convolve_to_learn", convolve_to_learn)
    options = {"filters": 6, "kernel_size": size, "padding": "same"}
    for training in (False, True):
        ours, theirs = linear.Conv2D(**options), keras.layers.Conv2D(**options)
        assert_equal_twins(ours, theirs, maps(*shape), training=training)
        assert bool(calls) == training


@pytest.mark.parametrize("size", [(3, 3), (5, 3), (1, 3), (7, 1)])
@pytest.mark.parametrize("shape", [(1, 9, 11, 4), (2, 17, 6, 3), (9, 5, 8, 2)])
def test_bands_of_rows_make_the_same_convolution(size, shape, monkeypatch):
    monkeypatch.setattr(convolution, "_PIXELS", 40)  # several bands, the last one cut
    x, kernel = (ops.convert_to_tensor(maps(*s)) for s in (shape, (*size, shape[-1], 6)))
    mine = convolution.convolve_in_bands(x, kernel)
    theirs = ops.conv(x, kernel, strides=1, padding="same", data_format="channels_last")
    np.testing.assert_allclose(*map(ops.convert_to_numpy, (mine, theirs)), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("instructions", ["avx2 avx512f", "avx512f avx512_bf16"])
def test_bands_are_for_jax_in_bfloat16_with_its_instructions(dtype, instructions, monkeypatch):
    calls = []

    def convolve_in_bands(*args):
        calls.append(args)
        return bands(*args)

    bands = convolution.convolve_in_bands
    monkeypatch.setattr(convolution, "convolve_in_bands", convolve_in_bands)
    monkeypatch.setattr(cpu, "description", lambda: instructions)
    x = maps(1, 20, 12, 128)
    layer, small = (linear.Conv2D(n, 3, padding="same", dtype=dtype) for n in (128, 8))
    exact = linear.Conv2D(128, 3, padding="same")
    for each in (layer, small, exact):
        each.build(x.shape)
    exact.set_weights(layer.get_weights())
    small(x)
    assert not calls
    half = ops.convert_to_numpy(ops.cast(layer(x), "float32"))
    expected = dtype == "bfloat16" and "bf16" in instructions and keras.config.backend() == "jax"
    assert bool(calls) == expected
    exact = ops.convert_to_numpy(exact(x))
    assert np.std(half - exact) < 2**-7 * np.std(exact)


@pytest.mark.parametrize(
    "options",
    [{"kernel_size": 4}, {"kernel_size": (2, 3), "use_bias": False, "activation": "relu"}],
    ids=str,
)
def test_transposed_convolution_is_that_of_keras(options):
    options = options | {"filters": 5, "strides": options["kernel_size"]}
    assert_equal_twins(
        linear.Conv2DTranspose(**options), keras.layers.Conv2DTranspose(**options), maps(2, 5, 7, 4)
    )


@pytest.mark.parametrize(
    ("processor", "slow"),
    [("AuthenticAMD avx2", True), ("GenuineIntel avx2 avx512f", False), ("Apple M4", False)],
)
def test_where_the_gradient_of_a_kernel_is_slow(processor, slow, monkeypatch):
    monkeypatch.setattr(cpu, "description", lambda: processor)
    x = ops.convert_to_tensor(maps(1, 2))
    assert learns_slowly(x) == (slow or keras.config.backend() == "jax")
    in_half = learns_slowly(ops.cast(x, "bfloat16"))
    assert in_half == (keras.config.backend() == "jax")


DEPTHWISE = [
    {"kernel_size": 3},
    {"kernel_size": 5, "strides": 2, "use_bias": False},
    {"kernel_size": 3, "strides": 2, "activation": "relu"},
    {"kernel_size": 5, "dilation_rate": 2},
    {"kernel_size": (1, 3)},
]


@pytest.mark.parametrize("options", DEPTHWISE, ids=str)
@pytest.mark.parametrize("sides", [(9, 12), (8, 10)])
def test_depthwise_convolution_is_that_of_keras(options, sides):
    options = {"padding": "same"} | options
    assert_equal_twins(
        linear.DepthwiseConv2D(**options),
        keras.layers.DepthwiseConv2D(**options),
        maps(2, *sides, 4),
    )


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_depthwise_convolution_rounds_once(dtype):
    x = maps(2, 17, 18, 32)
    layers = [linear.DepthwiseConv2D(5, padding="same", dtype=d) for d in (dtype, "float32")]
    for layer in layers:
        layer.build(x.shape)
        layer.set_weights(layers[0].get_weights())
    half, exact = (ops.convert_to_numpy(ops.cast(layer(x), "float32")) for layer in layers)
    # Kernel, input and output are rounded, each by a relative half step at most.
    step = 2**-8 if dtype == "mixed_bfloat16" else 2**-11
    assert np.std(half - exact) < 2 * step * np.std(exact)


@pytest.mark.parametrize("slow", [True, False])
@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 4), (2, 3, 5, 4)])
def test_dense_is_that_of_keras(shape, slow, monkeypatch):
    if keras.config.backend() != "torch" and slow:
        pytest.skip("only PyTorch's depends on the processor")
    monkeypatch.setattr(torch_linear, "_mkl_is_slow", lambda: slow)
    options = {"units": 3, "activation": "tanh"}
    assert_equal_twins(linear.Dense(**options), keras.layers.Dense(**options), maps(*shape))


def twins(*layers, shape):
    """Layers with the same weights."""
    for layer in layers:
        layer.build(shape)
        layer.set_weights(layers[0].get_weights())
    return layers


def sum_of_squares(x):
    return ops.sum(ops.square(ops.cast(x, "float32")))


@pytest.mark.parametrize("slow", [True, False])
def test_dense_has_the_weight_gradients_of_keras(slow, monkeypatch):
    monkeypatch.setattr(torch_linear, "_mkl_is_slow", lambda: slow)
    x = maps(2, 5, 4)
    layers = twins(linear.Dense(3), keras.layers.Dense(3), shape=x.shape)
    found, expected = (weight_gradients(layer, sum_of_squares, [x]) for layer in layers)
    for mine, theirs in zip(found.values(), expected.values(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("slow", [True, False])
@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16", "float16"])
def test_dense_in_half_precision(dtype, slow, monkeypatch):
    monkeypatch.setattr(torch_linear, "_mkl_is_slow", lambda: slow)
    monkeypatch.setattr(cpu, "description", lambda: "avx512_bf16" if slow else "")
    x = maps(2, 5, 64)
    layers = twins(*(linear.Dense(48, dtype=d) for d in (dtype, "float32")), shape=x.shape)
    step = 2**-11 if dtype == "float16" else 2**-8
    half, exact = (ops.convert_to_numpy(ops.cast(layer(x), "float32")) for layer in layers)
    assert np.std(half - exact) < 2 * step * np.std(exact)
    gradients = [weight_gradients(layer, sum_of_squares, [x]) for layer in layers]
    for mine, theirs in zip(*(each.values() for each in gradients), strict=True):
        assert np.std(mine.astype("float32") - theirs) < 4 * step * np.std(theirs)


def test_dense_can_be_quantized():
    layer = linear.Dense(16)
    x = maps(8, 32)
    layer.build(x.shape)
    expected = ops.convert_to_numpy(layer(x))
    layer.quantize("int8")
    assert keras.backend.standardize_dtype(layer._kernel.dtype) == "int8"
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, atol=0.1)
    assert not np.allclose(ops.convert_to_numpy(layer(x)), expected, atol=1e-5)


def test_half_precision():
    layer = linear.Dense(8, dtype="bfloat16")
    assert keras.backend.standardize_dtype(layer(maps(2, 3, 4)).dtype) == "bfloat16"


@pytest.mark.skipif(keras.config.backend() != "torch", reason="memory order is PyTorch's")
def test_kernels_stay_in_the_order_of_torch():
    layer = linear.Conv2D(6, 3)
    layer.build((1, 8, 8, 4))
    layer.set_weights([np.ones((3, 3, 4, 6)), np.ones(6)])
    import torch

    kernel = layer._kernel.value
    assert tuple(kernel.shape) == (3, 3, 4, 6)
    assert kernel.permute(3, 2, 0, 1).is_contiguous(memory_format=torch.channels_last)
