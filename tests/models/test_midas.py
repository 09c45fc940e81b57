"""All that is done with a network, on each encoder of MiDaS 2.1, MiDaS 3.1 and DeiT."""

import gc

import keras
import numpy as np
import pytest
import tiny
from contracts import predict
from keras import ops

import keras_dpt
from keras_dpt import cli
from keras_dpt.errors import DataError, EvaluationError, ExportError
from keras_dpt.evaluation import attention_maps
from keras_dpt.export import export_model, load_exported
from keras_dpt.export.formats import FORMATS, PAIRS
from keras_dpt.export.parity import pictures, relative_error
from keras_dpt.training.adapters import adapter_values, adapters_apart, set_adapters

SQUARES = ("SwinEncoder", "Swin2Encoder")
DECODERS = {
    "ResNetEncoder": {"fusion_projection": False, "rectified_shortcut": True},
    "EfficientNetLiteEncoder": {"fusion_channels": (8, 16, 24, 32)},
}
ENCODERS = {"BEiTEncoder": {}, "ViTEncoder": {"distilled": True}}
ENCODERS |= dict.fromkeys(SQUARES, {"depths": (1, 2, 1, 1)})  # the second block has shifted windows
ENCODERS |= dict.fromkeys(DECODERS, {})
BACKEND = keras.backend.backend()


def network(name, dtype=None):
    more = {} if dtype is None else {"dtype": dtype}
    backbone = tiny.backbone(
        tiny.encoder(name, **ENCODERS[name], **more), **DECODERS.get(name, {}), **more
    )
    preprocessor = tiny.preprocessor((64, 64), keep_aspect_ratio=name not in SQUARES)
    aligned = name not in DECODERS
    return tiny.depth(backbone, preprocessor=preprocessor, head_align_corners=aligned)


def train(model, steps=1):
    """Steps on photos with depth that differs from place to place."""
    target = np.ones((2, 64, 64, 1), "float32")
    target[:, :32] += 1
    target[:, :, :16] += 1
    return [float(model.train_on_batch(tiny.photos(2), target)) for _ in range(steps)]


def values(variables):
    return {v.path: np.array(ops.convert_to_numpy(v)) for v in variables}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
def test_lora(name, tmp_path):
    model, x = network(name), (tiny.images(1),)
    before = predict(model, x)
    names = ["conv"] if name in tiny.CONVOLUTIONAL else None
    model.backbone.enable_lora(2, names)
    np.testing.assert_allclose(predict(model, x), before, atol=1e-5)
    model.compile(keras.optimizers.SGD(0.05), metrics=None)
    learning = values(model.trainable_variables)
    assert all("lora" in path or path.startswith("depth_head") for path in learning)
    frozen = values(model.non_trainable_variables)
    train(model, 2)
    for path, value in values(model.non_trainable_variables).items():
        np.testing.assert_array_equal(value, frozen[path], err_msg=path)
    moved = {
        path
        for path, value in values(model.trainable_variables).items()
        if np.any(value != learning[path])
    }
    # The loss is blind to shifts; ReLU6 shuts some of the tiny EfficientNet's channels.
    still = set(learning) - moved - {"depth_head/conv3/bias"}
    assert len(still) <= (2 if name == "EfficientNetLiteEncoder" else 0), still
    after = predict(model, x)
    assert np.abs(after - before).max() > 1e-4
    # The adapters on their own, in another network with the same weights.
    adapters = adapter_values(model)
    with adapters_apart(model):
        model.save_weights(tmp_path / "frozen.weights.h5")
    other = network(name)
    other.backbone.enable_lora(2, names)
    other.compile(keras.optimizers.SGD(0.05), metrics=None)
    other.load_weights(tmp_path / "frozen.weights.h5")
    set_adapters(other, adapters)
    np.testing.assert_allclose(predict(other, x), after, rtol=1e-5)
    # A saved network has them in its kernels.
    model.save_to_preset(str(tmp_path / "merged"))
    merged = keras_dpt.DPTDepth.from_preset(str(tmp_path / "merged"))
    assert not any("lora" in v.path for v in merged.variables)
    np.testing.assert_allclose(predict(merged, x), after, rtol=1e-4)


@pytest.mark.slow  # Keras collects garbage after each layer
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method implemented")
@pytest.mark.parametrize("name", [name for name in ENCODERS if name not in tiny.CONVOLUTIONAL])
def test_int8(name, tmp_path):
    model, x = network(name), (tiny.images(1),)
    before = predict(model, x)
    gc.freeze()
    model.quantize("int8")
    gc.unfreeze()
    rounded = [v.path for v in model.variables if v.dtype == "int8"]
    for layer in ("attention/qkv", "attention/projection", "mlp/dense1", "mlp/dense2"):
        assert any(f"{layer}/kernel" in path for path in rounded), layer
    after = predict(model, x)
    assert 0 < np.abs(after - before).mean() < 0.2 * before.std()
    model.save_to_preset(str(tmp_path))
    np.testing.assert_allclose(
        predict(keras_dpt.DPTDepth.from_preset(str(tmp_path)), x), after, rtol=1e-4
    )


@pytest.mark.compiles_long
@pytest.mark.parametrize("name", ENCODERS)
def test_a_frozen_encoder_stays(name):
    model = network(name)
    encoder = model.backbone.image_encoder
    encoder.trainable = False
    model.compile(keras.optimizers.SGD(0.01), metrics=None)
    before, decoder = values(encoder.variables), values(model.trainable_variables)
    train(model)
    for path, value in values(encoder.variables).items():
        np.testing.assert_array_equal(value, before[path], err_msg=path)
    assert any(
        np.any(value != decoder[path]) for path, value in values(model.trainable_variables).items()
    )


@pytest.mark.compiles_long
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", ENCODERS)
def test_mixed_precision_predicts_and_trains(name, policy):
    x = (tiny.images(1),)
    expected, model = predict(network(name), x), network(name, policy)
    assert np.abs(predict(model, x) - expected).max() < 0.1 * np.abs(expected).max()
    model.compile(keras.optimizers.SGD(0.01), metrics=None)
    assert np.isfinite(train(model)).all()


@pytest.mark.compiles_long
@pytest.mark.parametrize("name", SQUARES)
def test_photos_are_squashed(name):
    """As upstream: to the square whatever the photo's shape, and the depth stretched back."""
    model, photo = network(name), tiny.photos(1, 48, 80)[0]
    model.preprocessor.image_converter.resize = "bilinear"
    found = model.predict_image(photo).values
    import cv2

    square = cv2.resize(photo.astype("float32"), (64, 64), interpolation=cv2.INTER_LINEAR)
    output = predict(model, ((square[None] / 127.5 - 1).astype("float32"),))[0]
    np.testing.assert_allclose(found, model.postprocess(output, (48, 80)).values, rtol=1e-3)
    assert found.shape == (48, 80)
    model.preprocessor = None
    assert model.predict_image(photo).values.shape == (48, 80)


@pytest.mark.parametrize("name", SQUARES)
def test_other_sizes_are_refused(name, tmp_path):
    from types import SimpleNamespace

    from keras_dpt.evaluation import studies

    model = network(name)
    with pytest.raises(ValueError, match=r"expected shape=\(None, 64, 64, 3\), found .*64, 96"):
        model(tiny.images(1, 64, 96))
    batches = SimpleNamespace(target=model.learns, size=(64, 96))
    with pytest.raises(DataError, match=r"images of 64 x 64 .*Batches of \(64, 96\)"):
        model._check_batches(batches)
    with pytest.raises(EvaluationError, match="64 x 64 .* only. There is no other resolution"):
        studies.resolution_study(model, None, "nyuv2_val")
    for size in ((64, 96), (32, 32)):
        with pytest.raises(ExportError, match=r"64 x 64 .* only. Received: image_size=\("):
            export_model(model, tmp_path / "depth.onnx", "onnx", image_size=size)
    with pytest.raises(EvaluationError, match="whole image.*Received: Swin"):
        attention_maps(model, tiny.photos(1)[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
def test_the_command_with_a_saved_one(name, tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    model, photo = network(name), tiny.photos(1, 70, 100)[0]
    model.save_to_preset("mine")
    Image.fromarray(photo).save("photo.png")
    command = ["depth", "photo.png", "--preset", "mine", "--format", "npy", "-o"]
    assert cli.main([*command, "out"]) == 0
    depth = model.predict_image(photo)
    np.testing.assert_allclose(np.load("out/photo_depth.npy"), depth.values, rtol=1e-4)
    assert cli.main([*command, "windows", "--sliding-window", "64"]) == 0
    ends = [np.unravel_index(i, (70, 100)) for i in (depth.values.argmax(), depth.values.argmin())]
    known = []
    for (row, column), metres in zip(ends, (1, 3), strict=True):
        known += ["--known", str(row), str(column), str(metres)]
    points = ["points", "photo.png", "--preset", "mine", "--fov", "60", "-o", "p.ply"]
    assert cli.main([*points, *known]) == 0
    assert (tmp_path / "p.ply").read_bytes().startswith(b"ply")


@pytest.mark.slow
@pytest.mark.parametrize("form", [form for backend, form in PAIRS if backend == BACKEND])
@pytest.mark.parametrize("name", ENCODERS)
def test_files_for_other_runtimes(name, form, tmp_path):
    """Of the one size, or of free ones where the format has them, which is checked at two."""
    for package in (FORMATS[form].runtime, *PAIRS[BACKEND, form].packages):
        pytest.importorskip(package)
    model, path = network(name), tmp_path / f"network{FORMATS[form].suffix}"
    free = PAIRS[BACKEND, form].dynamic and name not in SQUARES
    about = export_model(
        model, path, form, image_size=None if free or name in SQUARES else (64, 96)
    )
    checks = about["parity"]["checks"]
    assert len({tuple(check["input_shape"]) for check in checks}) == (4 if free else 2)
    assert max(check["max_relative_error"] for check in checks) < 1e-5
    images = pictures((3, 64, 64 if free or name in SQUARES else 96, 3), seed=1)
    expected = ops.convert_to_numpy(model(ops.convert_to_tensor(images)))
    assert relative_error(np.asarray(load_exported(path, form)(images)), expected) < 1e-5
