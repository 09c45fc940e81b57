"""`keras-dpt export`: what it refuses, before weights are read; what it passes on and prints."""

import keras
import pytest

from keras_dpt import cli
from keras_dpt.cli import export
from keras_dpt.export.formats import FORMATS, PAIRS
from keras_dpt.models import tasks


@pytest.fixture
def no_model(monkeypatch):
    def load(preset):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(tasks, "load_task", load)


def test_unsupported_pairs_are_refused_before_weights_are_read(no_model, tmp_path, capsys):
    backend = keras.backend.backend()
    for form in FORMATS.values():
        if (backend, form.name) not in PAIRS:
            path = str(tmp_path / f"network{form.suffix}")
            assert cli.main(["export", "--format", form.name, "-o", path]) == 2
            assert "KERAS_BACKEND=tensorflow" in capsys.readouterr().err


@pytest.mark.parametrize("backend", ["tensorflow", "torch"])
def test_sizes_are_refused_before_weights_are_read(
    backend, no_model, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    command = ["export", "--format", "onnx", "--output", str(tmp_path / "d.onnx")]
    assert cli.main([*command, "--image-size", "100x100"]) == 2
    assert "Try 96x96" in capsys.readouterr().err
    assert cli.main([*command, "--image-size", "96x96", "--batch", "0"]) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options, message",
    [
        (["--format", "onnx"], "-o/--output"),
        (["--format", "tensorrt", "-o", "x"], "invalid choice"),
        (["--format", "onnx", "-o", "x.onnx", "--image-size", "384"], "HEIGHTxWIDTH"),
        (
            ["--format", "onnx", "-o", "x.onnx", "--image-size", "32x32", "--dynamic"],
            "not allowed with",
        ),
    ],
)
def test_what_cannot_be_parsed(options, message, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["export", *options])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_network_of_one_size_is_exported_at_it(tmp_path, monkeypatch):
    asked = []

    def export_model(model, path, form, size, *args, **options):
        asked.append(size)
        raise ValueError("enough")

    monkeypatch.setattr(tasks, "load_task", lambda preset: None)
    monkeypatch.setattr("keras_dpt.export.exporter.check_request", lambda *_: None)
    monkeypatch.setattr("keras_dpt.export.export_model", export_model)
    for preset in ("dpt_swin2_tiny_256", "dpt_hybrid"):
        command = ["export", "--preset", preset, "--format", "onnx"]
        assert cli.main([*command, "--out", str(tmp_path / "d.onnx")]) == 2
    assert asked == [(256, 256), None]


def test_a_preset_travels_with_its_licence_and_a_folder_without_its_path(tmp_path):
    origin = export._origin("dpt_mini_nyuv2")
    assert origin["preset"] == "dpt_mini_nyuv2"
    assert origin["weights_license"] == "CC-BY-NC-4.0" and "NYU" in origin["training_data"]
    (tmp_path / "mine").mkdir()
    assert export._origin(str(tmp_path / "mine")) == {"preset": "mine"}
    assert export._origin("hf://somebody/depth") == {"preset": "hf://somebody/depth"}


def test_the_command_prints_what_was_measured(tmp_path, monkeypatch, capsys):
    path = tmp_path / "d.onnx"
    asked = []

    def export_model(model, path, *args, origin):
        asked.append((model, *args, origin["preset"]))
        path.write_bytes(bytes(2_000_000))
        checks = [
            {"input_shape": [1, 64, 96, 3], "max_relative_error": 1e-7},
            {"input_shape": [2, 64, 96, 3], "max_relative_error": 3e-7},
        ]
        runtime = {"package": "onnxruntime", "checked_with": "1.0"}
        return {"runtime": runtime, "parity": {"checks": checks}}

    monkeypatch.setattr(tasks, "load_task", lambda preset: f"model of {preset}")
    monkeypatch.setattr("keras_dpt.export.exporter.check_request", lambda *_: None)
    monkeypatch.setattr("keras_dpt.export.export_model", export_model)
    command = ["export", "--preset", "dpt_mini_camvid", "--format", "onnx", "--out", str(path)]
    assert cli.main([*command, "--image-size", "64x96", "--batch", "2"]) == 0
    model = "model of dpt_mini_camvid"
    assert asked == [(model, "onnx", (64, 96), 2, "dpt_mini_camvid")]
    out = capsys.readouterr().out
    assert "2.0 MB" in out and "3.0e-07" in out and "1x64x96x3, 2x64x96x3" in out
    assert f"{path}.json" in out
