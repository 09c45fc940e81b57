"""An ImageNet classifier's stages arrive where they belong, beside plain NumPy on its own names."""

import json

import keras
import numpy as np
import pytest
import tiny
from contracts import predict
from layers.reference import conv_same, depthwise_same
from safetensors.numpy import save_file

import keras_dpt
from keras_dpt.conversion.convert import CARD
from keras_dpt.conversion.formats import format_of
from keras_dpt.errors import WeightsError
from keras_dpt.weights.readers import Spec

# Kernel, stride, expansion and width of each block: seven stages, of which the third has two.
BLOCKS = [
    (3, 1, 1, 6),
    (3, 2, 6, 8),
    (5, 2, 6, 10),
    (5, 1, 6, 10),
    (3, 2, 6, 12),
    (5, 1, 6, 14),
    (5, 2, 6, 16),
    (3, 1, 6, 18),
]


@pytest.fixture
def classifier():
    """`{tensor name: array}` of a small EfficientNet-Lite of five classes."""
    rng = np.random.default_rng(0)
    tensors = {}

    def conv(name, outputs, inputs, size):
        shape = (outputs, inputs, size, size)
        tensors[f"{name}.weight"] = rng.normal(0, (inputs * size * size) ** -0.5, shape)

    def norm(name, width):
        for leaf, low, high in (
            ("weight", 0.6, 1.4),
            ("bias", 0, 0.5),
            ("running_mean", -0.2, 0.2),
            ("running_var", 0.6, 1.4),
        ):
            tensors[f"{name}.{leaf}"] = rng.uniform(low, high, width)
        tensors[f"{name}.num_batches_tracked"] = np.zeros((1,))

    conv("_conv_stem", 4, 3, 3)
    norm("_bn0", 4)
    width = 4
    for i, (size, _, expansion, channels) in enumerate(BLOCKS):
        inner = width * expansion
        if expansion > 1:
            conv(f"_blocks.{i}._expand_conv", inner, width, 1)
            norm(f"_blocks.{i}._bn0", inner)
        conv(f"_blocks.{i}._depthwise_conv", inner, 1, size)
        norm(f"_blocks.{i}._bn1", inner)
        conv(f"_blocks.{i}._project_conv", channels, inner, 1)
        norm(f"_blocks.{i}._bn2", channels)
        width = channels
    conv("_conv_head", 20, width, 1)
    norm("_bn1", 20)
    tensors["_fc.weight"], tensors["_fc.bias"] = rng.normal(size=(5, 20)), rng.normal(size=5)
    return {name: x.astype("float32") for name, x in tensors.items()}


def maps_of(tensors, x):
    """The output of each block up to stride 16, of which this network is the classifier's."""

    def layer(x, conv, norm, strides=1, activate=True):
        kernel = tensors[f"{conv}.weight"]
        if kernel.shape[1] == 1:
            x = depthwise_same(x, kernel.transpose(2, 3, 0, 1), strides)
        else:
            x = conv_same(x, kernel.transpose(2, 3, 1, 0), strides=strides)
        weight, bias, mean, variance = (
            tensors[f"{norm}.{leaf}"] for leaf in ("weight", "bias", "running_mean", "running_var")
        )
        x = (x - mean) / np.sqrt(variance + 1e-3) * weight + bias
        return np.clip(x, 0, 6) if activate else x

    x = layer(x, "_conv_stem", "_bn0", 2)
    maps = []
    for i, (_, strides, expansion, _) in enumerate(BLOCKS[:6]):
        y, name = x, f"_blocks.{i}"
        if expansion > 1:
            y = layer(y, f"{name}._expand_conv", f"{name}._bn0")
        y = layer(y, f"{name}._depthwise_conv", f"{name}._bn1", strides)
        y = layer(y, f"{name}._project_conv", f"{name}._bn2", activate=False)
        x = y + x if y.shape == x.shape else y
        maps.append(x)
    return maps


def test_stages_compute_what_the_classifier_does(classifier, tmp_path, caplog):
    save_file(classifier, tmp_path / "lite.safetensors")
    out = keras_dpt.convert(tmp_path / "lite.safetensors", tmp_path / "start")
    assert "has an encoder only: the decoder is untrained" in caplog.text
    card = json.loads((out / CARD).read_text())
    assert card["weights"] == "encoder_only" and card["source"]["format"] == "efficientnet_lite"

    model = keras_dpt.DPTDepth.from_preset(str(out))
    encoder = model.backbone.image_encoder
    assert encoder.stage_depths == (1, 1, 2, 1, 1, 1, 1)
    assert encoder.stage_channels == (6, 8, 10, 12, 14, 16, 18)
    blocks = [encoder.get_layer(f"mbconv_{i}").output for i in range(6)]
    x = tiny.images(1, 64, 96)
    outputs = predict(keras.Model(encoder.input, blocks), (x,))
    for ours, theirs in zip(outputs, maps_of(classifier, x), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * max(1, theirs.std()))


def test_the_official_classifier_starts_the_embedded_preset():
    preset = keras_dpt.presets.read_preset("dpt_mini_nyuv2")
    widths, depths = (16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1)
    blocks = [width for width, depth in zip(widths, depths, strict=True) for _ in range(depth)]
    specs = {
        f"_blocks.{i}._project_conv.weight": Spec((width, 1, 1, 1), "float32")
        for i, width in enumerate(blocks)
    } | {"_conv_stem.weight": Spec((32, 3, 3, 3), "float32")}
    source = format_of(specs)
    assert source.config_from(specs) == preset["architecture"]
    assert source.image_from(preset["architecture"]) == preset["image"]


@pytest.mark.parametrize(
    "name", ["_blocks.3._depthwise_conv.weight", "_blocks.0._bn2.running_var", "_bn0.bias"]
)
def test_a_missing_tensor_is_named(classifier, tmp_path, name):
    del classifier[name]
    save_file(classifier, tmp_path / "lite.safetensors")
    with pytest.raises(WeightsError, match=name):
        keras_dpt.convert(tmp_path / "lite.safetensors", tmp_path / "start")
    assert not (tmp_path / "start").exists()


def test_a_tensor_too_many_is_named(classifier, tmp_path):
    save_file(classifier | {"_blocks.3._se_reduce.bias": np.zeros(3)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="_blocks.3._se_reduce.bias"):
        keras_dpt.convert(tmp_path / "x.safetensors", tmp_path / "start")
