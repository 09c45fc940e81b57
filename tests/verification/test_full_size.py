"""What `full_size.py` serves: names and shapes of every preset's files; made when asked for."""

import copy
import json
import subprocess

import numpy as np
import pytest
import requests
from parity import dinov2, midas, midas_v21, reference
from parity.test_originals import MODULES

from keras_dpt.conversion.engine import translate
from keras_dpt.conversion.formats import format_of
from keras_dpt.weights.readers import Spec

from . import authors_files, full_size, hub_files, made_files, midas_files, resnet_files

PRESETS = {
    name: json.loads((full_size.ROOT / "presets" / f"{name}.json").read_text())
    for name in full_size.preset_names()
}
MAKERS = (authors_files, midas_files, resnet_files)
# Made by transformers at full size, which takes seconds and gigabytes.
BY_TRANSFORMERS = ("isl_org", "isl_org_segmentation")


@pytest.fixture
def nothing_is_drawn(monkeypatch):
    """Shapes alone; sizes that makers set in the references are put back."""
    sizes = {midas: ("WIDTHS", "FUSED"), midas_v21: ("STEM", "INNER", "WIDTHS", "FUSED")}
    sizes[dinov2] = ("DIM", "BLOCKS", "GRID", "WIDTHS", "FUSED")
    for module, names in sizes.items():
        for name in (*names, *MODULES[module]):
            value = getattr(module, name)
            monkeypatch.setattr(module, name, value.copy() if isinstance(value, dict) else value)
        monkeypatch.setattr(
            module,
            "tensors",
            lambda found, seed=0: {n: np.broadcast_to(np.float32(1), s) for n, s in found.items()},
        )
    for module in MAKERS:
        monkeypatch.setattr(module, "calibrated", lambda found, *_, **__: found)
    monkeypatch.setattr(resnet_files, "tempered", lambda found, kind: found)


# Not to be read from tensors: presets know them, files do not.
UNTOLD = ("out_indices", "image_size", "window_size", "pretrained_window_sizes")


def _plain(config, keys=None):
    keys = config if keys is None else keys
    return json.loads(json.dumps({k: config[k] for k in keys if k not in UNTOLD}))


def distinct():
    """`(preset, number)` of the sources that are made here, one of those of equal sizes."""
    found = {}
    for name, preset in PRESETS.items():
        for number, source in enumerate(preset["sources"]):
            if source["format"] in (*hub_files.FORMATS, *BY_TRANSFORMERS):
                continue
            encoder, backbone = (
                preset["architecture"][f"{x}_config"] for x in ("encoder", "backbone")
            )
            sizes = [source["format"], _plain(encoder), backbone]
            found.setdefault(json.dumps(sizes), (name, number))
    return found.values()


@pytest.mark.parametrize(("name", "number"), distinct())
def test_files_are_those_that_the_converter_knows(name, number, nothing_is_drawn):
    preset = PRESETS[name]
    source = preset["sources"][number]
    contents = authors_files.files_of(preset, source, 0)
    assert len(contents) == len(made_files.names_of(source))
    tensors = {}
    for content in contents:
        tensors |= content.get("model", content.get("state_dict", content))
    specs = {n: Spec(np.shape(x), str(np.asarray(x).dtype)) for n, x in tensors.items()}
    layout = format_of(specs)
    assert layout.name == source["format"]
    _, problems = translate(layout.rules, layout.ignore, specs)
    assert problems == []
    found = layout.config_from(specs)
    for part in ("encoder_config", "backbone_config"):
        wanted = preset["architecture"][part]
        same = [key for key in found[part] if key in wanted]
        assert _plain(found[part], same) == _plain(wanted, same)


def test_one_file_each_brings_up_every_format():
    presets = [copy.deepcopy(preset) for preset in PRESETS.values()]
    full_size.one_each(presets)
    kept = [preset["sources"] for preset in presets]
    assert all(len(sources) == 1 for sources in kept)
    every = {source["format"] for preset in PRESETS.values() for source in preset["sources"]}
    assert {sources[0]["format"] for sources in kept} == every


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_served_from_loopback(name):
    url = "http://127.0.0.1:1"
    preset, every = full_size.served(PRESETS[name], url)
    for source, paths in zip(preset["sources"], every, strict=True):
        assert not any(key.endswith("sha256") for key in source)
        addresses = [x for key, x in source.items() if key.endswith("url")]
        assert all(x.startswith(url) for x in addresses)
        assert {url + path for path in paths if "/release/" in path} == set(addresses)
        assert all("repo" not in source or source["repo"] in path for path in paths)
    assert json.loads((full_size.ROOT / "presets" / f"{name}.json").read_text()) == PRESETS[name]


def test_widths_of_the_2021_networks():
    """The sizes that transformers is told are the presets'."""
    for name, preset in PRESETS.items():
        formats = {source["format"] for source in preset["sources"]}
        if not formats & {*BY_TRANSFORMERS, "hf_dpt", "hf_dpt_segmentation"}:
            continue
        encoder, backbone = (preset["architecture"][f"{x}_config"] for x in ("encoder", "backbone"))
        kind = "hybrid" if "stage_depths" in encoder else "large"
        sizes = reference.KINDS[kind]
        for key in ("hidden_dim", "num_layers", "num_heads", "mlp_dim"):
            assert getattr(sizes, key) == encoder[key], name
        assert list(sizes.reassemble_channels) == backbone["reassemble_channels"]
        assert sizes.fusion_channels == backbone["fusion_channels"]


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A `MadeFiles` of two sources whose files are their names."""
    runs = []

    def run(command, **_):
        *_, preset, number, folder = command
        runs.append(number)
        for name in ("config.json", f"{number}.bin"):
            (made_files.Path(folder) / name).write_bytes(f"{number} {name} {runs[-1]}".encode())
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(made_files.subprocess, "run", run)
    files = made_files.MadeFiles(tmp_path / "files")
    files.clear()
    for number in (0, 1):
        paths = {f"/user/{number}/resolve/main/{x}": x for x in ("config.json", f"{number}.bin")}
        files.add(tmp_path / "some.json", number, paths)
    files.runs = runs
    return files


def test_files_are_made_when_asked_for(made):
    first, second = (f"/user/{n}/resolve/main/{n}.bin" for n in (0, 1))
    with made_files.MadeServer().running() as server:
        server.files = made
        asked = requests.head(server.url + first)
        assert asked.status_code == 200 and "ETag" not in asked.headers and made.runs == []
        asked = requests.head(server.url + first)
        assert asked.headers["Content-Length"] == "9" and made.runs == ["0"]
        assert requests.get(server.url + first).content == b"0 0.bin 0"
        assert requests.head(server.url + "/user/0/resolve/main/config.json").ok
        assert made.runs == ["0"]
        assert requests.get(server.url + second).content == b"1 1.bin 1"
        assert {x.name for x in made.folder.rglob("*.*")} >= {"1.bin"} and made.runs == ["0", "1"]
        assert not list(made.folder.rglob("0.bin"))
        # What was made is announced, and not made again for that.
        digest = requests.head(server.url + first).headers["ETag"]
        assert len(digest) == 66 and made.runs == ["0", "1"]
        assert requests.get(server.url + "/no").status_code == 404
    again = made_files.MadeFiles(made.folder)
    assert again.index == made.index


def test_the_cache_of_the_hub_holds_one_repository(made, tmp_path):
    """That of a file being fetched stays: its name and place are known before it is made."""
    for name in ("models--user--0", "models--user--1"):
        (tmp_path / name / "blobs").mkdir(parents=True)
    made.make_room = lambda path: full_size.forget_others(tmp_path, path)
    assert bytes(made["/user/1/resolve/main/1.bin"])
    assert [x.name for x in tmp_path.glob("models--*")] == ["models--user--1"]


def test_another_content_is_noticed(made):
    path = "/user/0/resolve/main/0.bin"
    assert bytes(made[path]) == b"0 0.bin 0"
    made.clear()
    made.index[path]["sha256"] = "0" * 64
    with pytest.raises(RuntimeError, match="was made again and is not what it was"):
        made[path]


def test_spreads_are_rounded():
    """So that a file is the same whatever the order of sums was."""
    from .calibration import calibrated

    found = {"x.weight": np.ones(3, "float32"), "x.bias": np.zeros(1, "float32")}
    output = np.random.default_rng(0).normal(100, 3, 1000)
    one, other = (calibrated(found, "x", lambda _, y=y: y) for y in (output, output * (1 + 1e-9)))
    assert all((one[name] == other[name]).all() for name in found)
    assert one["x.weight"][0] == pytest.approx(1 / 3, rel=0.05)
