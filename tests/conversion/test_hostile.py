"""Checkpoints and Hugging Face directories that make no sense: one message, and nothing is made."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_dpt import conversion
from keras_dpt.conversion.convert import convert
from keras_dpt.errors import WeightsError

from .checkpoints import FakeNetwork, small_tensors, write_hf_directory

NAN = float("nan")


@pytest.fixture
def fake_network(monkeypatch):
    monkeypatch.setattr(conversion.convert, "_build", FakeNetwork)


def error_of(source, folder):
    before = sorted(folder.rglob("*"))
    with pytest.raises(WeightsError) as caught:
        convert(source, folder / "out", progress=False)
    assert sorted(folder.rglob("*")) == before
    return str(caught.value)


CONFIGS = [
    ("num_attention_heads", 0),
    ("num_attention_heads", -4),
    ("num_attention_heads", "many"),
    ("num_attention_heads", 10**12),
    ("layer_norm_eps", "small"),
    ("layer_norm_eps", NAN),
    ("layer_norm_eps", -1),
    ("readout_type", 7),
    ("backbone_out_indices", [0, 1, 2, -3]),
    ("backbone_out_indices", "all"),
    ("neck_ignore_stages", 3),
    ("backbone_config", []),
    ("id2label", ["a", "b"]),
]
IMAGES = [
    ("size", -64),
    ("size", 10**12),
    ("size", {"height": 64}),
    ("size", {"height": 64, "width": 0}),
    ("size", "large"),
    ("image_std", 0),
    ("image_std", [0.5, 0, 0.5]),
    ("image_std", [0.5, 0.5]),
    ("image_mean", NAN),
    ("image_mean", "grey"),
    ("ensure_multiple_of", -32),
    ("keep_aspect_ratio", "yes"),
    ("resample", "bicubic"),
    ("do_normalize", "yes"),
]


@pytest.mark.parametrize("field, value", CONFIGS)
def test_a_config_that_makes_no_sense(tmp_path, fake_network, field, value):
    folder = write_hf_directory(tmp_path / "hf", config={field: value})
    message = error_of(folder, tmp_path)
    assert "config.json" in message and field in message and "Received: " in message


@pytest.mark.parametrize("field, value", IMAGES)
def test_an_image_geometry_that_makes_no_sense(tmp_path, fake_network, field, value):
    folder = write_hf_directory(tmp_path / "hf", image={field: value})
    message = error_of(folder, tmp_path)
    assert "preprocessor_config.json" in message and field in message and "Received: " in message


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("content", ["[]", "7", "", "{", "[" * 100_000], ids=lambda text: text[:9])
def test_descriptions_that_are_something_else(tmp_path, fake_network, name, content):
    folder = write_hf_directory(tmp_path / "hf")
    (folder / name).write_text(content)
    assert name in error_of(folder, tmp_path)


@pytest.mark.parametrize("where", ["../outside.safetensors", "absolute", "sub/x.safetensors", 7])
def test_an_index_stays_in_its_folder(tmp_path, fake_network, where):
    folder = write_hf_directory(tmp_path / "hf")
    (folder / "sub").mkdir()
    for path in (tmp_path / "outside.safetensors", folder / "sub/x.safetensors"):
        path.write_bytes((folder / "model.safetensors").read_bytes())
    (folder / "model.safetensors").unlink()
    where = str(tmp_path / "outside.safetensors") if where == "absolute" else where
    index = {"weight_map": {name: where for name in small_tensors("hf_base")}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "name of a file in the same folder" in error_of(folder, tmp_path)


@pytest.mark.parametrize("value", [NAN, np.inf])
def test_weights_are_numbers(tmp_path, fake_network, value):
    tensors = small_tensors()
    name = "pretrained.model.blocks.1.mlp.fc1.weight"
    tensors[name][3, 2] = value
    save_file(tensors, tmp_path / "bad.safetensors")
    message = error_of(tmp_path / "bad.safetensors", tmp_path)
    assert name in message and "NaN or infinite" in message


@pytest.mark.parametrize("rank", [0, 1, 5])
def test_tensors_of_another_rank(tmp_path, fake_network, rank):
    for name in ("pretrained.model.patch_embed.proj.weight", "pretrained.model.pos_embed"):
        tensors = small_tensors() | {name: np.ones((1,) * rank, "float32")}
        save_file(tensors, tmp_path / "rank.safetensors")
        message = error_of(tmp_path / "rank.safetensors", tmp_path)
        assert name in message or "rank.safetensors" in message


def test_all_tensors_of_no_rank(tmp_path, fake_network):
    save_file(
        {name: np.array(1, "float32") for name in small_tensors()}, tmp_path / "none.safetensors"
    )
    error_of(tmp_path / "none.safetensors", tmp_path)


def test_a_small_file_cannot_ask_for_a_large_network(tmp_path):
    # Biases and norms of a width whose matrices would be terabytes.
    tensors = {}
    for name, tensor in small_tensors().items():
        wide = tensor.ndim == 1 and "norm" in name
        tensors[name] = np.zeros(1_000_000 if wide else tensor.shape, "float32")
    tensors = {name: x for name, x in tensors.items() if "norm" in name or x.ndim > 1}
    for name in [name for name, x in tensors.items() if x.ndim == 2 and "blocks" in name]:
        del tensors[name]
    save_file(tensors, tmp_path / "wide.safetensors")
    message = error_of(tmp_path / "wide.safetensors", tmp_path)
    assert "network of at least" in message or "no tensor makes" in message
