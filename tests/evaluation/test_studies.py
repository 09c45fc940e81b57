import copy
import json

import keras
import numpy as np
import pytest
import tiny
from PIL import Image

import keras_dpt
from keras_dpt import cli, presets
from keras_dpt.datasets import Source
from keras_dpt.errors import EvaluationError
from keras_dpt.evaluation import studies
from keras_dpt.maps.depth_map import DepthMap

SIZE = (32, 32)


def planes(count=4):
    images = tiny.photos(count, *SIZE)
    ramp = np.linspace(1, 3, SIZE[0] * SIZE[1]).reshape(SIZE).astype("float32")
    ids = [str(i) for i in range(count)]
    return Source("planes", ids, lambda i: (images[i], ramp * (1 + i)), "metric_depth")


def tiny_preset(encoder="ViTHybridEncoder"):
    """A preset whose network is that of the other tests."""
    preset = presets.read_preset("dpt_mini_nyuv2")
    architecture = preset["architecture"]
    config = {"num_layers": 4, "hidden_dim": 32, "num_heads": 2, "mlp_dim": 48}
    config |= {"position_grid": [2, 2]} | tiny.ENCODER_CONFIGS[encoder]
    widths = {"ViTHybridEncoder": [16, 24, 16, 20]}.get(encoder, [8, 12, 16, 20])
    architecture |= {"encoder": encoder, "encoder_config": config}
    architecture["backbone_config"] |= {"reassemble_channels": widths, "fusion_channels": 16}
    architecture["task_config"]["head_channels"] = [12, 8]
    preset["image"]["image_size"] = list(SIZE)
    return preset


class Sharper:
    """A model whose prediction is the better the larger the image: sizes are all it looks at."""

    kind = "relative_inverse_depth"
    weights = ()

    class backbone:
        size_multiple = 32
        input = keras.Input((None, None, 3))
        dtype_policy = keras.dtype_policies.DTypePolicy("float32")

    def __init__(self):
        self.preprocessor = keras_dpt.DPTImageConverter(SIZE)

    def converter_of_photos(self):
        return self.preprocessor

    def count_params(self):
        return 0

    def predict_images(self, images, batch_size):
        noise = np.random.default_rng(0).normal(0, 3 / self.preprocessor.image_size[0], SIZE)
        plane = 1 / np.linspace(1, 3, SIZE[0] * SIZE[1]).reshape(SIZE)
        return [DepthMap(plane + noise, self.kind) for _ in images]


def test_resolution(tmp_path):
    model = Sharper()
    study = studies.resolution_study(model, planes(2), "aligned_depth", factors=(1.0, 1.9))
    assert tuple(model.preprocessor.image_size) == SIZE
    first, second = study.rows
    assert (first["image"], second["image"]) == ("32x32", "64x64")
    assert first["change"] == 0
    expected = 100 * (second["abs_rel"] / first["abs_rel"] - 1)
    assert second["change"] == pytest.approx(expected) and expected < -20
    studies.plot(study, tmp_path / "study.png")
    with Image.open(tmp_path / "study.png") as picture:
        assert picture.size == (832, 520)


@pytest.mark.slow
def test_readouts_are_trained_and_measured(tmp_path):
    source, preset = planes(), tiny_preset()
    before = copy.deepcopy(preset)
    study = studies.training_study(
        "readout", preset, source, source, "aligned_depth", epochs=1, batch_size=2, verbose=0
    )
    assert preset == before
    assert [row["variant"] for row in study.rows] == ["ignore", "add", "project"]
    assert study.rows[0]["parameters"] == study.rows[1]["parameters"]
    # Two products of 32 x 32 and a bias, for each of the two taps with a class token.
    assert study.rows[2]["parameters"] - study.rows[0]["parameters"] == 2 * (2 * 32 * 32 + 32)
    assert all(np.isfinite(row["abs_rel"]) for row in study.rows)
    assert study.about["train_images"] == 4 and study.about["backend"] == keras.backend.backend()
    study.save(tmp_path / "study.json")
    assert json.loads((tmp_path / "study.json").read_text())["rows"] == study.rows
    studies.plot(study, tmp_path / "study.png")
    lines = study.markdown().splitlines()
    assert lines[0].startswith("| variant | parameters | abs_rel |") and len(lines) == 5


@pytest.mark.slow
@pytest.mark.parametrize("encoder", tiny.WITH_POSITIONS)
@pytest.mark.parametrize("study", [studies.taps_variants, studies.encoder_variants])
def test_variants_can_be_built(study, encoder):
    variants = study(tiny_preset(encoder))
    assert len(variants) >= (1 if encoder == "ViTEncoder" else 2)
    for preset in variants.values():
        model = keras_dpt.DPTDepth.from_architecture(preset)
        assert type(model.backbone.image_encoder).__name__ == preset["architecture"]["encoder"]


def test_taps_of_a_full_size_encoder():
    preset = presets.read_preset("dpt_base")
    assert list(studies.taps_variants(preset)) == [
        "blocks 3, 6, 9, 12",
        "blocks 9, 10, 11, 12",
        "blocks 8, 9, 10, 12",
    ]
    hybrid = list(studies.taps_variants(presets.read_preset("dpt_hybrid")))
    assert hybrid[-2:] == ["stages 1, 2, blocks 6, 12", "stages 1, 2, blocks 11, 12"]


@pytest.mark.slow
def test_cost():
    study = studies.cost_study(["dpt_mini_nyuv2"], image_size=(32, 32), repeats=2)
    (row,) = study.rows
    assert row["parameters"] == presets.read_preset("dpt_mini_nyuv2")["parameters"]
    assert 0 < row["fastest_ms"] <= row["median_ms"]


@pytest.mark.parametrize("place", ["Python", "command"])
def test_the_cost_of_a_network_at_a_size_that_it_does_not_take(
    place, tmp_path, capsys, monkeypatch
):
    preset = tiny_preset("Swin2Encoder")
    encoder = tiny.encoder("Swin2Encoder")
    widths = [tap.channels for tap in encoder.taps]
    backbone = {"reassemble_channels": widths, "readout": "ignore"}
    preset["architecture"]["backbone_config"] |= backbone
    preset["architecture"]["encoder_config"] = tiny.ENCODER_CONFIGS["Swin2Encoder"]
    monkeypatch.setattr(presets, "read_preset", lambda name: preset)
    message = (
        "dpt_swin2_tiny_256 takes images of 64 x 64 (height x width) only. Received: "
        "image_size=(96, 64). Compare it at its own size, or omit it."
    )
    if place == "Python":
        with pytest.raises(EvaluationError) as caught:
            studies.cost_study(["dpt_swin2_tiny_256"], image_size=(96, 64))
        assert str(caught.value) == message
        return
    command = ["study", "cost", "--preset", "dpt_swin2_tiny_256", "--image-size", "96", "64"]
    assert cli.main([*command, "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"keras-dpt: {message}\n"
    assert not (tmp_path / "out").exists()


def test_refusals():
    with pytest.raises(EvaluationError, match="readout, taps, encoders. Received: 'size'"):
        studies.training_study("size", "dpt_mini_nyuv2", None, None, "aligned_depth")
    for study, name in (
        (studies.taps_variants, "dpt_swin2_tiny_256"),
        (studies.encoder_variants, "dpt_beit_base_384"),
        (studies.readout_variants, "midas_v21"),
    ):
        with pytest.raises(EvaluationError, match=f"This study is for presets on .*{name}"):
            study(presets.read_preset(name))
