"""MiDaS 2.1 and its small version against float64 references; a ResNet against torchvision's."""

import keras
import numpy as np
import pytest
from contracts import predict
from safetensors.numpy import save_file

import keras_dpt
from keras_dpt.ops import grouped

from . import midas_v21 as reference
from .midas import picture
from .test_midas import MAX, RMS, build, errors

pytest.importorskip("torch")

SIZES = [(64, 64), (96, 160), (128, 32)]


@pytest.fixture(scope="module")
def cases():
    """`(tensors, model)` by kind, each made once."""
    made = {}

    def case(kind):
        if kind not in made:
            found = reference.tensors(reference.shapes(kind))
            found = reference.calibrated(kind, found, picture(64, 96, seed=9))
            made[kind] = found, build(found, {})
        return made[kind]

    return case


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", reference.MISTAKES)
def test_parity(cases, kind, size):
    found, model = cases(kind)
    x = picture(*size)
    output, expected = predict(model, (x,))[..., 0], reference.Network(kind, found)(x)
    assert output.shape == expected.shape == (2, *size)
    assert expected.std() > 0.1
    largest, rms = errors(output, expected)
    assert largest < MAX and rms < RMS


@pytest.mark.compiles_long
@pytest.mark.parametrize(
    ("kind", "mistake"), [(k, m) for k, all_of in reference.MISTAKES.items() for m in all_of]
)
def test_mistakes_would_be_noticed(cases, kind, mistake):
    found, model = cases(kind)
    x = picture(*SIZES[1])
    wrong = reference.Network(kind, found, mistake)(x)
    largest, rms = errors(predict(model, (x,))[..., 0], wrong)
    assert largest > 2 * MAX or rms > 2 * RMS


@pytest.mark.compiles_long
def test_a_classifier_is_a_start(cases, tmp_path):
    """The same encoder with torchvision's names; decoder and head are fresh."""
    found, model = cases("v21")
    names = {
        "pretrained.layer1.0.": "conv1.",
        "pretrained.layer1.1.": "bn1.",
        "pretrained.layer1.4.": "layer1.",
        "pretrained.": "",
    }
    tensors = {"fc.weight": np.zeros((10, reference.WIDTHS[-1]), "float32")}
    for name, value in found.items():
        for theirs, ours in names.items():
            if name.startswith(theirs):
                tensors[name.replace(theirs, ours)] = value
                break
    save_file(tensors, tmp_path / "resnet.safetensors")
    start = keras_dpt.DPTDepth.from_preset(str(tmp_path / "resnet.safetensors"))
    x = picture(64, 96)
    expected = predict(model.backbone.image_encoder, (x,))
    output = predict(start.backbone.image_encoder, (x,))
    for name, value in expected.items():
        np.testing.assert_allclose(output[name], value, rtol=1e-4, atol=1e-4)
    assert not start.backbone.get_config()["fusion_projection"]


@pytest.mark.parametrize("strides", [1, 2])
def test_a_convolution_in_groups_is_a_sum_of_products(strides):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 9, 11, 12)).astype("float32")
    conv = keras.layers.Conv2D(8, 3, strides=strides, groups=4, use_bias=False)
    expected = keras.ops.convert_to_numpy(conv(x))
    kernel = keras.ops.convert_to_tensor(conv.kernel)
    ours = grouped.convolve_in_groups(keras.ops.convert_to_tensor(x), kernel, 4, strides)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(ours), expected, atol=1e-5)
