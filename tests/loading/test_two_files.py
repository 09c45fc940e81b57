"""A preset whose encoder is a file of its own: DINOv2's depthers."""

import io
import json

import keras
import numpy as np
import pytest
from contracts import predict
from parity import dinov2 as reference

import keras_dpt
from keras_dpt import presets
from keras_dpt.errors import WeightsError
from keras_dpt.loading.cache import preset_directory
from keras_dpt.weights.originals import cache_directory

torch = pytest.importorskip("torch")

HEAD, ENCODER = "dinov2_tiny_nyu_dpt_head.pth", "dinov2_tiny_pretrain.pth"


def saved(tensors):
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def tensors():
    found = reference.tensors(reference.shapes(depther=True))
    last = "decode_head.conv_depth.head.4"

    def raw(x):
        return reference.Network(x, depther=(-1e9, 1e9), mistake="no clamp")

    return reference.calibrated(found, raw, last)


@pytest.fixture(scope="module")
def files(tensors):
    """`{file name: bytes}`: the encoder's names are bare, the head is a training checkpoint."""
    parts = {name: torch.from_numpy(x) for name, x in tensors.items()}
    head = {name: x for name, x in parts.items() if name.startswith("decode_head.")}
    encoder = {name.removeprefix("backbone."): x for name, x in parts.items() if name not in head}
    return {HEAD: saved({"state_dict": head, "meta": {}}), ENCODER: saved(encoder)}


@pytest.fixture
def depther(server, files, monkeypatch, tmp_path):
    """A preset called "tiny" whose two files are on the server; returns its name."""
    preset = presets.read_preset("dinov2_dpt_small_nyu")
    preset["architecture"]["encoder_config"] |= {
        "num_layers": reference.BLOCKS,
        "hidden_dim": reference.DIM,
        "num_heads": reference.HEADS,
        "mlp_dim": 4 * reference.DIM,
        "position_grid": [reference.GRID] * 2,
        "out_indices": list(reference.TAPS["v2"]),
    }
    preset["architecture"]["backbone_config"] |= {
        "reassemble_channels": list(reference.WIDTHS),
        "fusion_channels": reference.FUSED,
    }
    preset["architecture"]["task_config"] |= {
        "head_channels": [reference.FUSED // 2, 32],
        "head_projection_channels": reference.FUSED,
    }
    source = next(source for source in preset["sources"] if "encoder_url" in source)
    source |= {"url": f"{server.url}/{HEAD}", "encoder_url": f"{server.url}/{ENCODER}"}
    preset |= {"name": "tiny", "sources": [source]}
    folder = tmp_path / "presets_for_test"
    folder.mkdir()
    (folder / "tiny.json").write_text(json.dumps(preset))
    monkeypatch.setattr(presets, "_directory", lambda: folder)
    server.files |= {f"/{name}": content for name, content in files.items()}
    return "tiny"


def downloads():
    folder = cache_directory() / "downloads"
    return sorted(file.name for file in folder.rglob("*") if file.is_file())


def test_both_files_are_fetched_and_make_one_network(depther, tensors, server):
    model = keras_dpt.DPTDepth.from_preset(depther)
    assert sorted(server.gets()) == [f"GET /{HEAD}", f"GET /{ENCODER}"]
    assert downloads() == []  # they have served; what they became stays
    x = reference.picture(42, 70)
    expected = reference.Network(tensors, depther=(0.001, 10.0))(x)
    difference = (predict(model, (x,))[..., 0] - expected) / expected.std()
    assert np.abs(difference).max() < 5e-4
    server.requests.clear()
    keras.utils.clear_session()
    preset_directory(depther)
    assert server.requests == []


def test_a_file_put_there_by_hand_is_used_and_stays(depther, files, server):
    folder = cache_directory() / "downloads" / HEAD.removesuffix(".pth")
    folder.mkdir(parents=True)
    (folder / ENCODER).write_bytes(files[ENCODER])
    preset_directory(depther)
    assert server.gets() == [f"GET /{HEAD}"]
    assert ENCODER in downloads()


@pytest.mark.parametrize("missing", [HEAD, ENCODER])
def test_one_file_that_is_not_there(depther, server, missing):
    del server.files[f"/{missing}"]
    with pytest.raises(WeightsError, match=f"{missing} answers 404") as caught:
        preset_directory(depther)
    assert f"{server.url}/{ENCODER} in " in str(caught.value)
    assert not (cache_directory() / "presets").exists()


def test_offline_names_both_files(depther, server, monkeypatch):
    monkeypatch.setenv("KERAS_DPT_OFFLINE", "1")
    with pytest.raises(WeightsError, match="forbids the network") as caught:
        preset_directory(depther)
    for name in (HEAD, ENCODER):
        assert f"{server.url}/{name}" in str(caught.value)
    assert server.requests == []
