"""Checkpoints become preset directories, whole or not at all."""

import errno
import json
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_dpt
from keras_dpt import conversion, presets, space
from keras_dpt.conversion.convert import CARD, convert
from keras_dpt.errors import WeightsError
from keras_dpt.weights.download import sha256_of

from .checkpoints import FakeNetwork, small_preset, small_tensors, write_hf_directory

PRESET_FILES = {
    "config.json",
    "image_converter.json",
    "metadata.json",
    "model.weights.h5",
    "preprocessor.json",
    "task.json",
    "task.weights.h5",
    CARD,
}


@pytest.fixture
def fake_network(monkeypatch):
    """Conversion without Keras: `converted(folder)` reads what it wrote."""
    monkeypatch.setattr(conversion.convert, "_build", FakeNetwork)


def converted(folder):
    return dict(np.load(Path(folder) / "fake.npz"))


@pytest.fixture
def small_presets(monkeypatch, tmp_path):
    """Instead of ours, presets given as dicts."""
    folder = tmp_path / "presets_for_test"
    folder.mkdir()
    monkeypatch.setattr(presets, "_directory", lambda: folder)

    def add(preset):
        (folder / f"{preset['name']}.json").write_text(json.dumps(preset))

    return add


@pytest.fixture
def authors_file(tmp_path):
    """The names of the authors' files; in safetensors, which need no torch."""
    save_file(small_tensors(), tmp_path / "authors.safetensors")
    return tmp_path / "authors.safetensors"


def values(model):
    return {v.path: keras.ops.convert_to_numpy(v) for v in model.weights}


# ---- with the real network ---------------------------------------------------------------------


def test_authors_file_to_a_working_preset(authors_file, tmp_path, caplog):
    out = convert(authors_file, tmp_path / "made" / "here")
    assert {file.name for file in out.iterdir()} == PRESET_FILES
    assert list(out.parent.iterdir()) == [out]
    assert f"authors.safetensors (sha256 {sha256_of(authors_file)})" in caplog.text

    # A class of keras-hub finds ours in it.
    model = keras_hub.models.DepthEstimator.from_preset(str(out))
    assert type(model) is keras_dpt.DPTDepth and model.kind == "relative_inverse_depth"
    x, ours = small_tensors(), values(model)

    def same(path, expected):
        np.testing.assert_array_equal(ours[path], expected, err_msg=path)

    block = "pretrained.model.blocks.3"
    same("position_embedding/position_embedding", x["pretrained.model.pos_embed"])
    same("block_3/attention/qkv/kernel", x[f"{block}.attn.qkv.weight"].T)
    same("block_3/norm2/beta", x[f"{block}.norm2.bias"])
    kernel = x["pretrained.model.patch_embed.proj.weight"]
    same("patch_embedding/projection/kernel", np.einsum("oihw->hwio", kernel))
    readout = x["pretrained.act_postprocess2.0.project.0.weight"]
    same("read_2/token/kernel", readout[:, :64].T)
    same("read_2/readout/kernel", readout[:, 64:].T)
    transposed = x["pretrained.act_postprocess1.4.weight"]
    same("reassemble_1/resize/kernel", np.einsum("iohw->hwoi", transposed))
    same("fusion_4/projection/bias", x["scratch.refinenet4.out_conv.bias"])
    unit = x["scratch.refinenet2.resConfUnit1.conv2.weight"]
    same("fusion_2/residual_unit1/conv2/kernel", np.einsum("oihw->hwio", unit))
    same("depth_head/conv3/bias", x["scratch.output_conv.4.bias"])

    card = json.loads((out / CARD).read_text())
    assert card["source"] == {
        "address": "authors.safetensors",
        "format": "isl_org",
        "sha256": sha256_of(authors_file),
    }
    assert card["output"] == {"kind": "relative_inverse_depth", "unit": None}
    assert card["parameters"] == sum(x.size for x in ours.values())


def test_hugging_face_directory_with_its_config(tmp_path, caplog):
    image = {"size": {"height": 64, "width": 96}, "image_mean": [0.4] * 3}
    config = {"backbone_out_indices": [0, 1, 2, 3], "layer_norm_eps": 1e-7}
    source = write_hf_directory(tmp_path / "hf", config=config, image=image)
    model = keras_dpt.DPTDepth.from_preset(convert(source, tmp_path / "out"))
    assert not caplog.records  # its config says what the file is
    x, ours = small_tensors("hf_base"), values(model)
    attention = "dpt.encoder.layer.2.attention.attention"
    thirds = [x[f"{attention}.{third}.weight"].T for third in ("query", "key", "value")]
    np.testing.assert_array_equal(ours["block_2/attention/qkv/kernel"], np.hstack(thirds))
    for n in (1, 2, 3, 4):
        bias = x[f"neck.fusion_stage.layers.{4 - n}.projection.bias"]
        np.testing.assert_array_equal(ours[f"fusion_{n}/projection/bias"], bias)
        kernel = x[f"neck.convs.{n - 1}.weight"]
        np.testing.assert_array_equal(
            ours[f"fusion_input_{n}/kernel"], np.einsum("oihw->hwio", kernel)
        )
    encoder, converter = model.backbone.image_encoder, model.preprocessor.image_converter
    assert (encoder.num_heads, encoder.layer_norm_epsilon) == (4, 1e-7)
    assert tuple(converter.image_size) == (64, 96) and not converter.keep_aspect_ratio
    assert (converter.resize, converter.mean, converter.std) == ("bicubic_antialias", 0.4, 0.5)


@pytest.mark.compiles_long
@pytest.mark.parametrize("kind", ["isl_large_ade20k", "hf_large_ade20k"])
def test_segmentation_with_its_auxiliary_head(kind, tmp_path, caplog):
    x = small_tensors(kind)
    if kind.startswith("hf"):
        names = {str(i): name for i, name in enumerate(("wall", "door", "sky"))}
        source = write_hf_directory(tmp_path / "hf", x, {"id2label": names})
        heads = {"segmentation_head": "head.head", "auxiliary_head": "auxiliary_head.head"}
    else:
        source = tmp_path / "authors.safetensors"
        save_file(x, source)
        heads = {"segmentation_head": "scratch.output_conv", "auxiliary_head": "auxlayer"}
    out = convert(source, tmp_path / "out")
    model = keras_hub.models.ImageSegmenter.from_preset(str(out))
    assert type(model) is keras_dpt.DPTSegmentation and model.num_classes == 3
    if kind.startswith("hf"):
        assert model.class_names == ("wall", "door", "sky") and not caplog.records
    else:
        assert model.class_names[0] == "class 0" and "Its classes get no names" in caplog.text
    ours = values(model)
    for layer, module in heads.items():
        kernel = np.einsum("oihw->hwio", x[f"{module}.0.weight"])
        np.testing.assert_array_equal(ours[f"{layer}/conv1/kernel"], kernel)
        variance = x[f"{module}.1.running_var"]
        np.testing.assert_array_equal(ours[f"{layer}/norm/moving_variance"], variance)
        np.testing.assert_array_equal(ours[f"{layer}/conv2/bias"], x[f"{module}.4.bias"])
    card = json.loads((out / CARD).read_text())
    assert card["task"] == "segmentation" and card["output"]["kind"] == "labels"
    # Not wanted: the rest is the same.
    without = keras_dpt.DPTSegmentation.from_preset(str(out), auxiliary=False)
    for path, value in values(without).items():
        np.testing.assert_array_equal(value, ours[path])
    assert not [path for path in values(without) if "auxiliary" in path]
    # Another task takes the backbone and says so.
    depth = keras_dpt.DPTDepth.from_preset(str(out))
    assert "made for DPTSegmentation" in caplog.text
    for path, value in values(depth.backbone).items():
        np.testing.assert_array_equal(value, ours[path])


def test_a_classifier_fills_the_encoder_in_float32(tmp_path, caplog):
    names = small_tensors().items()
    prefix = "pretrained.model."
    tensors = {name[len(prefix) :]: x for name, x in names if name.startswith(prefix)}
    save_file(tensors, tmp_path / "vit.safetensors")
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("bfloat16")  # would round what is converted
    try:
        out = convert(tmp_path / "vit.safetensors", tmp_path / "out")
    finally:
        keras.config.set_dtype_policy(policy)
    assert "the decoder is untrained" in caplog.text
    ours = values(keras_dpt.DPTDepth.from_preset(str(out)))
    np.testing.assert_array_equal(
        ours["block_0/mlp/dense1/kernel"], tensors["blocks.0.mlp.fc1.weight"].T
    )
    assert ours["fusion_1/projection/kernel"].std() > 0  # drawn, not zero
    card = json.loads((out / CARD).read_text())
    assert card["weights"] == "encoder_only" and card["source"]["format"] == "timm_vit"


# ---- the rest with a stand-in ------------------------------------------------------------------


def test_a_named_preset_settles_what_tensors_do_not_tell(
    authors_file, tmp_path, caplog, monkeypatch, small_presets
):
    metric = small_preset("metric", scale=0.5, shift=2.0)
    metric["architecture"]["encoder_config"] |= {"out_indices": [0, 1, 2, 3], "num_heads": 2}
    small_presets(metric)
    networks = []

    def build(preset):
        networks.append(FakeNetwork(preset))
        return networks[0]

    monkeypatch.setattr(conversion.convert, "_build", build)
    out = convert(authors_file, tmp_path / "out", preset="metric")
    assert networks[0].preset == metric and not caplog.records
    card = json.loads((out / CARD).read_text())
    assert card["preset"] == "metric" and card["weights_license"] == "MIT"
    assert card["output"] == {"kind": "metric_depth", "unit": "m"}


def test_an_official_file_is_known_by_its_hash(
    authors_file, tmp_path, caplog, fake_network, small_presets
):
    prefix = sha256_of(authors_file)[:8]
    official = {"format": "isl_org", "url": "http://x/y.pt", "sha256_prefix": prefix}
    small_presets(small_preset("other"))
    small_presets(small_preset("metric", [official], scale=0.5, shift=2.0))
    out = convert(authors_file, tmp_path / "out")
    assert json.loads((out / CARD).read_text())["preset"] == "metric" and not caplog.records


def test_an_official_hash_is_compared_with_its_preset(authors_file, tmp_path, small_presets):
    hashed = {"format": "isl_org", "url": "http://x/y.pt"}
    hashed["sha256_prefix"] = sha256_of(authors_file)[:8]
    other = small_preset("deeper", [hashed])
    other["architecture"]["encoder_config"]["num_layers"] = 5
    small_presets(other)
    with pytest.raises(WeightsError, match="is not of preset 'deeper'"):
        convert(authors_file, tmp_path / "out")


def test_another_network_than_the_named_presets(authors_file, tmp_path, fake_network):
    with pytest.raises(WeightsError, match="authors.safetensors is not of preset 'dpt_large'") as e:
        convert(authors_file, tmp_path / "out", preset="dpt_large")
    assert "encoder_config.num_layers: 4 in the checkpoint, 24 in the preset" in str(e.value)
    assert "backbone_config.fusion_channels: 64 in the checkpoint, 256" in str(e.value)
    assert list(tmp_path.iterdir()) == [authors_file]


def test_an_unknown_preset(authors_file, tmp_path):
    with pytest.raises(ValueError, match="no preset 'dpt_lrage'.*Did you mean 'dpt_large'"):
        convert(authors_file, tmp_path / "out", preset="dpt_lrage")


def test_blocks_after_the_last_tap_are_left_out(tmp_path, fake_network):
    tensors = small_tensors("hf_base", blocks=6)
    config = {"backbone_out_indices": [0, 1, 2, 3]}
    source = write_hf_directory(tmp_path / "hf", tensors, config)
    paths = converted(convert(source, tmp_path / "out"))
    assert "block_3/norm1/gamma" in paths and "block_4/norm1/gamma" not in paths


@pytest.mark.parametrize("in_use", ["file", "directory"])
def test_an_output_in_use_is_refused(authors_file, tmp_path, in_use):
    out = tmp_path / "out"
    if in_use == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "mine").touch()
    with pytest.raises(WeightsError, match="out exists and is not an empty directory"):
        convert(authors_file, out)


def test_an_empty_output_directory_is_used(authors_file, tmp_path, fake_network):
    (tmp_path / "out").mkdir()
    assert (convert(authors_file, tmp_path / "out") / CARD).is_file()


def test_the_card_says_what_was_converted(authors_file, tmp_path, fake_network):
    folder = convert(authors_file, tmp_path / "out")
    card = json.loads((folder / CARD).read_text("utf-8"))
    assert card == {
        "preset": None,
        "task": "depth",
        "output": {"kind": "relative_inverse_depth", "unit": None},
        "parameters": sum(x.size for x in converted(folder).values()),
        "weights": "complete",
        "source": {
            "address": "authors.safetensors",
            "format": "isl_org",
            "sha256": sha256_of(authors_file),
        },
        "converted_by": f"keras_dpt {keras_dpt.__version__}",
        # Nobody knows, without a preset.
        **dict.fromkeys(("weights_license", "license_evidence", "training_data", "notes")),
    }


@pytest.mark.parametrize("progress", [True, False])
def test_progress_is_shown_if_wanted(authors_file, tmp_path, fake_network, capfd, progress):
    convert(authors_file, tmp_path / "out", progress=progress)
    assert ("Converting" in capfd.readouterr().err) == progress


class Interruption(BaseException):
    """As Ctrl-C."""


@pytest.mark.parametrize(
    ("moment", "error", "expected"),
    [
        ("save_to_preset", OSError(errno.ENOSPC, "No space left on device"), WeightsError),
        ("save_to_preset", OSError("Can't write data (errno = 28, error message)"), WeightsError),
        ("save_to_preset", Interruption(), Interruption),
        ("count_params", ValueError("anything"), WeightsError),
    ],
)
def test_nothing_half_written_stays(
    authors_file, tmp_path, fake_network, monkeypatch, moment, error, expected
):
    def fail(self, *folder):
        for path in folder:
            (Path(path) / "half").touch()
        raise error

    monkeypatch.setattr(FakeNetwork, moment, fail)
    with pytest.raises(expected) as caught:
        convert(authors_file, tmp_path / "out")
    if isinstance(error, ValueError):
        assert "authors.safetensors cannot be converted: anything" in str(caught.value)
    elif expected is WeightsError:
        assert "too full" in str(caught.value) and "KERAS_DPT_CACHE" in str(caught.value)
    assert list(tmp_path.iterdir()) == [authors_file]


def test_too_small_a_disk_is_known_before_writing(
    authors_file, tmp_path, fake_network, monkeypatch
):
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr(space.shutil, "disk_usage", lambda folder: usage)
    monkeypatch.setattr(FakeNetwork, "save_to_preset", lambda *_: pytest.fail("wrote"))
    with pytest.raises(WeightsError, match=r"\d MB are needed and 1 MB free"):
        convert(authors_file, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [authors_file]


def test_a_bent_tensor_leaves_nothing(tmp_path, fake_network):
    tensors = small_tensors()
    tensors["scratch.layer2_rn.weight"] = np.zeros((64, 65, 3, 3), "float32")
    save_file(tensors, tmp_path / "bent.safetensors")
    with pytest.raises(WeightsError, match=r"scratch\.layer2_rn\.weight \(64, 65, 3, 3\)"):
        convert(tmp_path / "bent.safetensors", tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["bent.safetensors"]


def test_variables_of_one_path(authors_file, tmp_path, monkeypatch):
    network = FakeNetwork(small_preset())
    network.weights.append(network.weights[0])
    monkeypatch.setattr(conversion.convert, "_build", lambda preset: network)
    with pytest.raises(WeightsError, match="one path"):
        convert(authors_file, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [authors_file]


def test_a_network_that_cannot_be_built(tmp_path):
    source = write_hf_directory(tmp_path / "hf", config={"backbone_out_indices": [0, 1, 2, 9]})
    with pytest.raises(WeightsError, match="Cannot build a model.*: .*out_indices"):
        convert(source, tmp_path / "out")
