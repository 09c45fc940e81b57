"""`export_model` around a writer that writes nothing real: checks, description, all or nothing."""

import json
import runpy
from pathlib import Path

import keras
import numpy as np
import pytest
import tiny
from PIL import Image

import keras_dpt
from keras_dpt.errors import ExportError
from keras_dpt.export import export_model, exporter
from keras_dpt.export.description import describe_preprocessing
from keras_dpt.export.formats import FORMATS, Pair

EXAMPLE = Path(__file__).parents[2] / "examples" / "run_exported.py"


@pytest.fixture(scope="module")
def model():
    network = tiny.depth()
    network.preprocessor = tiny.preprocessor((64, 96), resize="bicubic_antialias")
    return network


@pytest.fixture
def pretended(monkeypatch):
    """Every backend exports everything, in no time; returns what the writer was told."""
    told = []

    def write(model, form, path, shape):
        told.append(shape)
        if form.suffix:
            path.write_bytes(b"network")
            return
        path.mkdir()
        (path / "saved_model.pb").write_bytes(b"network")

    pair = {(keras.backend.backend(), form): Pair() for form in FORMATS}
    monkeypatch.setattr("keras_dpt.export.formats.PAIRS", pair)
    monkeypatch.setattr(exporter, "PAIRS", pair)
    monkeypatch.setattr(exporter, "check_packages", lambda *_: None)
    monkeypatch.setattr(exporter.writers, "write", write)
    monkeypatch.setattr(exporter, "load_exported", lambda path, form: None)
    monkeypatch.setattr("keras_dpt.export.description.version", lambda package: "1.0")
    monkeypatch.setattr(exporter.parity, "compare", lambda model, run, shapes, tolerance: [])
    return told


def test_the_description_is_beside_the_file(model, pretended, tmp_path):
    path = tmp_path / "depth.onnx"
    about = export_model(model, path, "onnx", origin={"preset": "tiny"})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["depth.onnx", "depth.onnx.json"]
    assert json.loads((tmp_path / "depth.onnx.json").read_text(encoding="utf-8")) == about
    assert pretended == [(None, None, None, 3)]
    assert about["keras_dpt"] == keras_dpt.__version__
    assert about["origin"] == {"preset": "tiny"}
    assert about["input"]["shape"] == [None, None, None, 3]
    assert about["input"]["layout"] == "NHWC"
    assert about["output"]["shape"] == [None, None, None, 1]
    assert about["output"]["kind"] == "relative_inverse_depth" and about["output"]["unit"] is None
    steps = about["preprocessing"]
    assert steps["image_size"] == [64, 96] and steps["keep_aspect_ratio"]
    assert steps["value_range"] == [-1, 1]
    assert len(about["weights_sha256"]) == 64


def test_a_fixed_file_takes_photos_of_any_shape(model, pretended, tmp_path):
    about = export_model(model, tmp_path / "d.onnx", "onnx", image_size=(32, 64), batch_size=3)
    assert pretended == [(3, 32, 64, 3)]
    assert about["input"]["shape"] == [3, 32, 64, 3] and about["output"]["shape"] == [3, 32, 64, 1]
    assert about["preprocessing"]["image_size"] == [32, 64]
    assert about["preprocessing"]["keep_aspect_ratio"] is False


@pytest.mark.parametrize("image_size", [None, (64, 64)])
@pytest.mark.parametrize("resize", ["bicubic", "bicubic_antialias"])
def test_the_described_steps_are_those_of_the_converter(image_size, resize):
    pytest.importorskip("onnxruntime")
    prepare = runpy.run_path(str(EXAMPLE))["prepare"]
    converter = tiny.preprocessor((64, 96), resize=resize, std=(0.2, 0.3, 0.4)).image_converter
    about = describe_preprocessing(converter, image_size or (None, None))
    about = json.loads(json.dumps(about))
    photo = Image.fromarray(tiny.photos(1, 50, 120)[0])
    expected = converter
    if image_size is not None:
        config = converter.get_config() | {"image_size": image_size, "keep_aspect_ratio": False}
        expected = type(converter).from_config(config)
    inputs = prepare(photo, about)
    assert inputs.shape[1:3] == (image_size or (32, 96))
    np.testing.assert_allclose(inputs[0], expected.convert(np.asarray(photo)), atol=1e-6)


def test_labels_come_with_names(pretended, tmp_path):
    network = keras_dpt.DPTSegmentation(
        tiny.backbone(), 2, class_names=("road", "sky"), auxiliary=False
    )
    about = export_model(network, tmp_path / "labels", "tf_saved_model")
    assert (tmp_path / "labels" / "saved_model.pb").is_file()
    assert about["output"]["kind"] == "logits" and about["output"]["shape"][-1] == 2
    assert about["output"]["class_names"] == ["road", "sky"]
    assert np.shape(about["output"]["palette"]) == (2, 3)


def test_a_failed_check_leaves_nothing_and_keeps_what_was_there(
    model, pretended, tmp_path, monkeypatch
):
    def fail(*_):
        raise ExportError("not the same network")

    path = tmp_path / "depth.onnx"
    path.write_text("earlier")
    monkeypatch.setattr(exporter.parity, "compare", fail)
    with pytest.raises(ExportError, match="not the same"):
        export_model(model, path, "onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["depth.onnx"]
    assert path.read_text() == "earlier"


@pytest.mark.parametrize("form, name", [("onnx", "depth.onnx"), ("tf_saved_model", "depth")])
def test_an_earlier_export_is_replaced(form, name, model, pretended, tmp_path):
    for _ in range(2):
        export_model(model, tmp_path / name, form)
    assert sorted(file.name for file in tmp_path.iterdir()) == [name, f"{name}.json"]


@pytest.mark.parametrize("part", ["write", "load"])
def test_what_a_converter_says_is_quoted(part, model, pretended, tmp_path, monkeypatch):
    def fail(*_):
        raise KeyError("op Erfc")

    if part == "write":
        monkeypatch.setattr(exporter.writers, "write", fail)
    else:
        monkeypatch.setattr(exporter, "load_exported", fail)
    with pytest.raises(ExportError, match="op Erfc"):
        export_model(model, tmp_path / "depth.onnx", "onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"image_size": (100, 160)}, "multiples of 32. Received: 100x160.*Try 96x160"),
        ({"image_size": 384}, "height, width"),
        ({"image_size": (0, 32)}, "height, width"),
        ({"batch_size": 0}, "number from 1"),
        ({"format": "coreml"}, "'coreml'"),
    ],
)
def test_wrong_arguments_stop_before_any_work(arguments, message, model, pretended, tmp_path):
    with pytest.raises(ExportError, match=message):
        export_model(model, tmp_path / "d.onnx", **{"format": "onnx"} | arguments)
    assert not pretended and not list(tmp_path.iterdir())


def test_other_models_are_refused(model, pretended, tmp_path):
    with pytest.raises(ExportError, match="DPTSegmentation or another task. Received: DPTBackbone"):
        export_model(model.backbone, tmp_path / "d.onnx", "onnx")
    half = keras_dpt.DPTDepth(tiny.backbone(tiny.encoder(dtype="mixed_bfloat16")))
    with pytest.raises(ExportError, match="float32; parts of this model are mixed_bfloat16"):
        export_model(half, tmp_path / "d.onnx", "onnx")
    assert not pretended
