"""Depth Anything V2 at full size: against float64 and transformers. `make parity`.

One size after another, so that at most one large reference is in memory.
"""

import gc

import keras
import pytest
from contracts import predict

from keras_dpt.presets import read_preset

from . import dinov2 as reference
from . import report
from .dinov2_hub import hub_names
from .test_dinov2 import MAX, RMS, build, errors

pytest.importorskip("torch")
pytestmark = pytest.mark.parity

# Grids 37 x 37 (the stored one), 23 x 31 and 29 x 37 (odd), and 18 x 26 (even).
SIZES = ((518, 518), (322, 434), (406, 518), (252, 364))
SHAPES = {
    "small": (384, 6, 12, (48, 96, 192, 384), 64),
    "base": (768, 12, 12, (96, 192, 384, 768), 128),
}
TAPS = (2, 5, 8, 11)
LAST = "depth_head.scratch.output_conv2.2"


def tensors(size_name, monkeypatch):
    """Random tensors of the authors' names and shapes; the output is spread around a ReLU."""
    width, heads, blocks, widths, fused = SHAPES[size_name]
    for name, value in [
        ("DIM", width),
        ("BLOCKS", blocks),
        ("GRID", 37),
        ("WIDTHS", widths),
        ("FUSED", fused),
    ]:
        monkeypatch.setattr(reference, name, value)
    found = reference.tensors(reference.shapes())
    return reference.calibrated(
        found,
        lambda x: reference.Network(x, heads=heads, taps=TAPS, mistake="no last ReLU"),
        LAST,
    )


def preset_config(size_name, **more):
    return read_preset(f"depth_anything_v2_{size_name}")["architecture"]["encoder_config"] | more


def compare(column, network, size, output, expected):
    found = errors(output, expected)
    report.record(network, size, keras.config.backend(), {column: found})
    print(f"{network} {size} {keras.config.backend()} {column}: {found[0]:.1e} / {found[1]:.1e}")
    assert found[0] < MAX and found[1] < RMS, size


@pytest.mark.parametrize("size_name", SHAPES)
def test_against_float64(size_name, monkeypatch):
    found = tensors(size_name, monkeypatch)
    heads = SHAPES[size_name][1]
    model = build(found, encoder_config=preset_config(size_name))
    for size in SIZES if size_name == "small" else SIZES[:1]:
        x = reference.picture(*size)
        expected = reference.Network(found, heads=heads, taps=TAPS)(x)
        assert expected.std() > 0.1
        output = predict(model, (x,))[..., 0]
        compare("ours - float64", f"depth_anything_v2_{size_name}", size, output, expected)
        gc.collect()


def test_against_transformers(monkeypatch, tmp_path):
    """At the hub's offset of 0, in float64."""
    import json

    import torch
    from safetensors.numpy import save_file

    transformers = pytest.importorskip("transformers")
    width, heads, blocks, widths, fused = SHAPES["small"]
    found = tensors("small", monkeypatch)
    backbone = {
        "model_type": "dinov2",
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_hidden_layers": blocks,
        "image_size": 518,
        "patch_size": 14,
        "out_indices": [tap + 1 for tap in TAPS],
        "reshape_hidden_states": False,
    }
    config = {
        "model_type": "depth_anything",
        "architectures": ["DepthAnythingForDepthEstimation"],
        "backbone_config": backbone,
        "reassemble_hidden_size": width,
        "neck_hidden_sizes": list(widths),
        "fusion_hidden_size": fused,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(hub_names(found), tmp_path / "model.safetensors", metadata={"format": "pt"})
    theirs = transformers.DepthAnythingForDepthEstimation.from_pretrained(tmp_path).double().eval()
    model = build(found, encoder_config=preset_config("small", position_offset=0.0))
    for size in SIZES:
        x = reference.picture(*size)
        with torch.no_grad():
            y = torch.from_numpy(x.transpose(0, 3, 1, 2).astype("float64"))
            expected = theirs(y).predicted_depth.numpy()
        output = predict(model, (x,))[..., 0]
        compare("ours - transformers", "depth_anything_v2_small", size, output, expected)
        gc.collect()
