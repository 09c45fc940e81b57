"""Presets are the whole truth: each complete, each about a network that can be built."""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_dpt
from keras_dpt import presets
from keras_dpt.conversion.formats import FORMATS
from keras_dpt.encoders import ENCODERS
from keras_dpt.maps.depth_map import UNITS
from keras_dpt.presets import list_presets, preset_names, preset_path, read_preset, source_address

DEPTH_ANYTHING = [
    f"depth_anything_{version}{size}"
    for version in ("", "v2_", "v2_metric_indoor_", "v2_metric_outdoor_")
    for size in ("small", "base", "large")
]
DINOV2 = [f"dinov2_dpt_{s}_{data}" for s in ("small", "base", "large") for data in ("nyu", "kitti")]
OFFICIAL = ["dpt_base", "dpt_hybrid", "dpt_hybrid_kitti", "dpt_hybrid_nyu", "dpt_large"]
KEYS = {
    "name": str,
    "task": str,
    "description": str,
    "architecture": dict,
    "image": dict,
    "output": dict,
    "parameters": int,
    "weights": str,
    "sources": list,
    "weights_license": str,
    "license_evidence": str,
    "commercial_ok": bool | None,
    "training_data": str,
    "notes": list,
    "parity": dict,
}


def arguments(cls):
    """Names of a constructor's arguments, those first that have no default."""
    parameters = inspect.signature(cls.__init__).parameters.values()
    named = [p for p in parameters if p.name not in ("self", "kwargs", "dtype", "image_shape")]
    return {p.name for p in named if p.default is p.empty}, {p.name for p in named}


def test_the_official_ones_are_there():
    assert set(OFFICIAL) <= set(preset_names())
    depth = preset_names("depth")
    assert set(OFFICIAL) <= set(depth) <= set(preset_names()) and depth == sorted(depth)
    assert preset_names("cooking") == []


@pytest.mark.parametrize("name", preset_names())
def test_nothing_is_left_out(name):
    preset = read_preset(name)
    assert preset["name"] == name
    for key, kind in KEYS.items():
        assert isinstance(preset[key], kind), key
    assert preset["weights"] in ("complete", "encoder_only")
    kind = preset["output"]["kind"]
    assert kind == "labels" or preset["output"]["unit"] == UNITS[kind]
    image = preset["image"]
    assert all(side % image["multiple_of"] == 0 for side in image["image_size"] or ())
    patch_size = preset["architecture"]["encoder_config"].get("patch_size", 16)
    assert image["multiple_of"] % patch_size == 0
    assert preset["sources"] or preset_path(name), "neither fetched nor embedded"


@pytest.mark.parametrize("name", [name for name in preset_names() if preset_path(name)])
def test_bundled_files_are_as_the_preset_says(name):
    preset, task = read_preset(name), json.loads(Path(preset_path(name), "task.json").read_text())
    config = task["config"]
    assert preset["architecture"]["task_config"].items() <= config.items()
    encoder = config["backbone"]["config"]["image_encoder"]["config"]
    assert preset["architecture"]["encoder_config"].items() <= encoder.items()
    converter = json.loads(Path(preset_path(name), "image_converter.json").read_text())["config"]
    assert converter["image_size"] == preset["image"]["image_size"]


@pytest.mark.parametrize("name", preset_names("depth"))
def test_keys_are_constructor_arguments(name):
    preset = read_preset(name)
    architecture = preset["architecture"]
    for cls, config in (
        (ENCODERS[architecture["encoder"]], architecture["encoder_config"]),
        (keras_dpt.DPTBackbone, architecture["backbone_config"] | {"image_encoder": None}),
        (keras_dpt.DPTDepth, architecture["task_config"] | {"backbone": None}),
        (keras_dpt.DPTImageConverter, preset["image"]),
    ):
        needed, known = arguments(cls)
        assert needed <= set(config) <= known, cls


@pytest.mark.parametrize("name", OFFICIAL)
def test_an_official_preset_leaves_nothing_to_defaults(name):
    preset = read_preset(name)
    architecture = preset["architecture"]
    encoder = ENCODERS[architecture["encoder"]]
    assert set(architecture["encoder_config"]) == arguments(encoder)[1]
    backbone = {"readout", "reassemble_channels", "fusion_channels", "use_batch_norm"}
    assert set(architecture["backbone_config"]) == backbone
    assert preset["image"] == preset["image"] | {"resize": "bicubic", "keep_aspect_ratio": True}
    for source in preset["sources"]:
        assert source["format"] in FORMATS
        # Upstream's file names end with the first digits of their hash.
        if "url" in source:
            assert source["url"].endswith(f"-{source['sha256_prefix']}.pt")


@pytest.mark.parametrize("name", DEPTH_ANYTHING + DINOV2)
def test_presets_on_dinov2_leave_nothing_to_defaults(name):
    preset = read_preset(name)
    architecture = preset["architecture"]
    assert set(architecture["encoder_config"]) == arguments(ENCODERS["DINOv2Encoder"])[1]
    assert {"size_rule", "pad"} & set(preset["image"])
    assert "output_resize" in architecture["task_config"]
    assert {source["format"] for source in preset["sources"]} <= set(FORMATS)
    # Hashes, where known, are whole.
    hashes = [presets.source_sha256(source) for source in preset["sources"]]
    assert {len(known) for known in hashes if known} <= {64}


def test_versions_of_depth_anything_differ_in_taps_and_resizing():
    def told(name):
        architecture = read_preset(name)["architecture"]
        task = architecture["task_config"]
        taps = architecture["encoder_config"]["out_indices"]
        return taps, task["output_resize"], task.get("max_depth")

    assert told("depth_anything_small") == ([8, 9, 10, 11], "bilinear", None)
    assert told("depth_anything_large") == ([20, 21, 22, 23], "bilinear", None)
    assert told("depth_anything_v2_base") == ([2, 5, 8, 11], "bilinear_aligned", None)
    assert told("depth_anything_v2_large") == ([4, 11, 17, 23], "bilinear_aligned", None)
    assert told("depth_anything_v2_metric_indoor_small")[2] == 20
    assert told("depth_anything_v2_metric_outdoor_small")[2] == 80


def test_licences_of_depth_anything(capsys):
    allowed = {preset["name"] for preset in list_presets(commercial_ok=True)}
    mine = {name for name in allowed if name in DEPTH_ANYTHING + DINOV2}
    v1 = {name for name in DEPTH_ANYTHING if "v2" not in name}
    assert mine == v1 | {"depth_anything_v2_small"}
    assert read_preset("depth_anything_v2_base")["weights_license"] == "CC-BY-NC-4.0"
    for name in DEPTH_ANYTHING:
        assert ("metric" in name) == (read_preset(name)["weights_license"] == "unclear")
    capsys.readouterr()


def test_metric_presets_are_official():
    constants = {"dpt_hybrid_kitti": (0.00006016, 0.00579), "dpt_hybrid_nyu": (0.000305, 0.1378)}
    for name, (scale, shift) in constants.items():
        preset = read_preset(name)
        task = preset["architecture"]["task_config"]
        assert (task["kind"], task["scale"], task["shift"]) == ("metric_depth", scale, shift)
        assert preset["output"] == {"kind": "metric_depth", "unit": "m"}


def test_a_name_that_is_nearly_right():
    with pytest.raises(
        ValueError, match="no preset 'dpt_larg'. Did you mean 'dpt_large'.*dpt_base"
    ):
        read_preset("dpt_larg")
    with pytest.raises(ValueError, match="Did you mean 'dpt_large'"):
        read_preset("DPT_LARGE")
    for function in (read_preset, preset_path):
        with pytest.raises(ValueError, match="no preset '../dpt_large'. "):
            function("../dpt_large")
    with pytest.raises(ValueError, match="no preset 7"):
        read_preset(7)


def test_the_table(capsys):
    listed = list_presets()
    assert [preset["name"] for preset in listed] == preset_names()
    header, *lines = capsys.readouterr().out.splitlines()
    for word in ("name", "parameters", "kind", "unit", "input", "licence", "source"):
        assert word in header
    line = next(line for line in lines if line.startswith("dpt_hybrid_kitti"))
    cells = re.split(r"  +", line)
    assert cells[1:6] == ["121.2 M", "metric_depth", "m", "352 x 1216", "MIT"]
    assert "untrained" in next(line for line in lines if line.startswith("dpt_base"))
    assert len(lines) == len(listed)


def test_the_table_by_licence(capsys):
    allowed = {preset["name"] for preset in list_presets(commercial_ok=True)}
    others = {preset["name"] for preset in list_presets(commercial_ok=False)}
    assert "dpt_large" in allowed and "dpt_hybrid_kitti" in others  # KITTI: non-commercial
    assert allowed | others == set(preset_names()) and not allowed & others
    capsys.readouterr()


def test_addresses():
    large = read_preset("dpt_large")["sources"]
    assert source_address(large[0]) == "hf://Intel/dpt-large/model.safetensors"
    assert source_address(large[1]).startswith("https://github.com/")


def test_tasks_are_known():
    assert {p["name"] for p in list_presets("segmentation")} >= {"dpt_large_ade20k"}
    with pytest.raises(ValueError, match="depth, segmentation. Received: 'pose'"):
        list_presets("pose")


def test_reading_needs_neither_keras_nor_numpy(tmp_path):
    program = (
        "import importlib.util, sys\n"
        "sys.modules['keras'] = sys.modules['numpy'] = None\n"
        f"spec = importlib.util.spec_from_file_location('presets', {presets.__file__!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "assert 'dpt_large' in module.preset_names()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)


def test_a_folder_of_the_same_name_is_not_taken_for_ours(tmp_path, monkeypatch):
    """Beside an installed package "presets" may be anybody's; ours is `keras_dpt_presets`."""
    site = tmp_path / "site"
    for folder in ("keras_dpt", "presets", "keras_dpt_presets"):
        (site / folder).mkdir(parents=True)
    (site / "presets" / "stranger.json").write_text("{}")
    (site / "keras_dpt_presets" / "ours.json").write_text(json.dumps({"name": "ours"}))
    monkeypatch.setattr(presets, "__file__", str(site / "keras_dpt" / "presets.py"))
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "keras_dpt_presets", raising=False)
    assert preset_names() == ["ours"]
    assert Path(presets._directory()) == site / "keras_dpt_presets"
