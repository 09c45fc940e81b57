"""What `from_preset` takes becomes a local preset directory: once, or with one clear error."""

import gc
import hashlib
import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
from conversion.checkpoints import FakeNetwork, small_preset, small_tensors, write_hf_directory
from safetensors.numpy import save, save_file

import keras_dpt
from keras_dpt import presets
from keras_dpt.conversion import convert
from keras_dpt.conversion.convert import CARD
from keras_dpt.errors import WeightsError
from keras_dpt.loading import cache as loading_cache
from keras_dpt.loading.cache import preset_directory
from keras_dpt.weights import originals
from keras_dpt.weights.originals import cache_directory

AUTHORS = save(small_tensors())  # the authors' names; in safetensors, which need no torch
HUGGING_FACE = save(small_tensors("hf_base"))


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def quick_network(monkeypatch):
    monkeypatch.setattr(convert, "_build", FakeNetwork)
    monkeypatch.setattr(gc, "collect", lambda: None)  # nothing large here, and it takes a second


@pytest.fixture
def release(server):
    """A preset's source as on a release page, whose files are PyTorch's."""
    pytest.importorskip("torch")
    server.files["/1_0/small-12345678.safetensors"] = AUTHORS
    return {
        "format": "isl_org",
        "url": f"{server.url}/1_0/small-12345678.safetensors",
        "sha256_prefix": sha256(AUTHORS)[:8],
    }


@pytest.fixture
def on_hub(hub):
    hub("user/small", "model.safetensors", HUGGING_FACE)
    file = {"repo": "user/small", "file": "model.safetensors"}
    return {"format": "hf_dpt", "sha256_prefix": None} | file


@pytest.fixture
def add_preset(monkeypatch, tmp_path):
    """Presets of this test only: `add_preset([source, ...], name=...)`."""
    folder = tmp_path / "presets_for_test"
    folder.mkdir()
    monkeypatch.setattr(presets, "_directory", lambda: folder)

    def add(sources, name="small", **changes):
        preset = small_preset(name, sources) | changes
        (folder / f"{name}.json").write_text(json.dumps(preset))

    return add


def card_of(folder):
    return json.loads((Path(folder) / CARD).read_text())


def files_in(folder):
    """Files anywhere in a folder; locks aside, which hold nothing."""
    files = (file for file in Path(folder).rglob("*") if file.is_file())
    return sorted(str(file.relative_to(folder)) for file in files if file.suffix != ".lock")


# ---- presets by name ---------------------------------------------------------------------------


def test_where_the_cache_is(monkeypatch, cache):
    assert cache_directory() == cache
    monkeypatch.setenv("KERAS_DPT_CACHE", "~/elsewhere")
    assert cache_directory() == Path.home() / "elsewhere"
    monkeypatch.delenv("KERAS_DPT_CACHE")
    assert cache_directory() == Path.home() / ".cache" / "keras_dpt"


def test_from_the_release_page_once(release, add_preset, server, cache):
    add_preset([release])
    folder = preset_directory("small")
    assert Path(folder).parent == cache / "presets" and Path(folder).name.startswith("small-")
    assert card_of(folder)["source"] == {
        "address": release["url"],
        "format": "isl_org",
        "sha256": sha256(AUTHORS),
    }
    # The download has served; what it became stays.
    assert {file.split("/")[0] for file in files_in(cache)} == {"presets"}

    server.requests.clear()
    assert preset_directory("small") == folder
    assert server.requests == []


def test_from_the_hub_first_and_the_release_page_if_need_be(
    release, on_hub, add_preset, server, cache
):
    add_preset([on_hub, release], "both")
    source = card_of(preset_directory("both"))["source"]
    assert source["address"] == "hf://user/small/model.safetensors"
    assert source["sha256"] == sha256(HUGGING_FACE)
    assert not any("/1_0/" in request for request in server.requests)

    elsewhere = on_hub | {"repo": "user/gone"}
    add_preset([elsewhere, release], "fallback")
    assert card_of(preset_directory("fallback"))["source"]["address"] == release["url"]


@pytest.mark.parametrize("fault", [416, "bare 206", "length abc", "endless", "damage", OSError])
def test_the_next_source_is_tried_after_any_failure(
    fault, release, on_hub, add_preset, server, cache, monkeypatch
):
    if fault is OSError:

        def download(*_):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(originals, "download", download)
    monkeypatch.setattr(originals, "_SPARE", 10_000_000)
    server.faults = [fault] * (1 if fault in ("endless", "damage") else 4)
    add_preset([release, on_hub])
    source = card_of(preset_directory("small"))["source"]
    assert source["address"] == "hf://user/small/model.safetensors"
    assert not any("part" in file for file in files_in(cache))


def test_whole_hashes(release, on_hub, add_preset, cache):
    """Of release files and of hub files, where they are known; a start is less."""
    other = sha256(AUTHORS)[:8] + "0" * 56
    add_preset([release | {"sha256": other, "sha256_prefix": other[:8]}])
    with pytest.raises(WeightsError, match=f"should start with {other}"):
        preset_directory("small")
    add_preset([on_hub | {"sha256": "0" * 64}])
    with pytest.raises(WeightsError, match=f"has sha256 {sha256(HUGGING_FACE)}; it should"):
        preset_directory("small")
    add_preset([on_hub | {"sha256": "0" * 64}, release | {"sha256": sha256(AUTHORS)}])
    card = card_of(preset_directory("small"))
    assert card["source"]["sha256"] == sha256(AUTHORS) and card["preset"] == "small"


def test_two_conversions_of_one_name_at_once(release, add_preset, server, tmp_path, cache):
    """They must not write one file: each is whole, whoever is first."""
    add_preset([release])
    failures = []

    def run(number):
        try:
            convert.convert("small", tmp_path / f"out{number}", progress=False)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len({card_of(tmp_path / f"out{n}")["source"]["sha256"] for n in range(4)}) == 1
    assert files_in(cache) == []


def test_without_network(release, on_hub, add_preset, server, cache, monkeypatch):
    add_preset([release], "fetched")
    folder = preset_directory("fetched")
    server.requests.clear()
    monkeypatch.setenv("KERAS_DPT_OFFLINE", "1")
    assert preset_directory("fetched") == folder  # converted before

    add_preset([on_hub, release])
    with pytest.raises(WeightsError) as caught:
        preset_directory("small")
    message = str(caught.value)
    places = cache / "downloads"
    assert "KERAS_DPT_OFFLINE" in message
    assert f"{release['url']} at {places / 'small-12345678.safetensors'}" in message
    hub_file = "hf://user/small/model.safetensors"
    assert f"{hub_file} at {places / 'user--small--model.safetensors'}" in message
    assert server.requests == []

    places.mkdir(exist_ok=True)
    (places / "small-12345678.safetensors").write_bytes(AUTHORS)
    assert card_of(preset_directory("small"))["source"]["address"] == release["url"]
    assert (places / "small-12345678.safetensors").is_file()  # the user's, so not ours to delete
    assert server.requests == []


def test_a_file_put_there_with_another_content(release, add_preset, cache):
    add_preset([release])
    place = cache / "downloads" / "small-12345678.safetensors"
    place.parent.mkdir(parents=True)
    place.write_bytes(AUTHORS[:-1])
    with pytest.raises(WeightsError, match="downloads/small-12345678.safetensors has sha256") as e:
        preset_directory("small")
    assert f"should start with {release['sha256_prefix']}" in str(e.value)
    assert files_in(cache) == ["downloads/small-12345678.safetensors"]


def test_a_download_with_another_content(release, add_preset, server, cache):
    add_preset([release])
    server.faults = ["damage"]
    with pytest.raises(WeightsError, match=r"(?s)'small' are not in .*should start with"):
        preset_directory("small")
    assert files_in(cache) == []


def test_a_missing_file(release, add_preset, server, cache):
    add_preset([release])
    server.files.clear()
    with pytest.raises(WeightsError, match="answers 404 Not Found"):
        preset_directory("small")
    assert files_in(cache) == []


def test_a_bundled_preset_is_named_where_none_can_be_fetched(release, add_preset, server, tmp_path):
    add_preset([], name="at_hand")
    bundled = tmp_path / "presets_for_test" / "at_hand" / "config.json"
    bundled.parent.mkdir()
    bundled.touch()
    add_preset([release])
    server.files.clear()
    with pytest.raises(WeightsError, match="use a bundled preset: at_hand"):
        preset_directory("small")


def test_another_network_than_the_presets(release, add_preset, cache):
    changed = small_preset()["architecture"]
    changed["encoder_config"]["mlp_dim"] = 65
    add_preset([release], architecture=changed)
    with pytest.raises(WeightsError, match="mlp_dim: 64 in the checkpoint, 65 in the preset"):
        preset_directory("small")
    assert files_in(cache) == ["downloads/small-12345678.safetensors"]  # whole, to be tried again


def test_no_torch_is_said_before_anything_is_fetched(
    release, add_preset, server, cache, monkeypatch
):
    release["url"] = release["url"].replace(".safetensors", ".pt")
    add_preset([release])
    monkeypatch.setitem(sys.modules, "torch", None)  # makes its import fail
    with pytest.raises(WeightsError, match="pip install torch"):
        preset_directory("small")
    assert server.requests == [] and files_in(cache) == []


def test_a_changed_preset_is_converted_again(release, add_preset):
    add_preset([release])
    first = preset_directory("small")
    add_preset([release], description="other words")
    assert preset_directory("small") == first
    add_preset([release], image=small_preset()["image"] | {"resize": "bicubic_antialias"})
    assert preset_directory("small") != first


def test_embedded_weights_need_no_cache(add_preset, cache):
    add_preset([])
    folder = presets._directory() / "small"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert preset_directory("small") == str(folder) and not cache.exists()


def test_an_unknown_name(cache):
    with pytest.raises(ValueError, match="no preset 'dpt_lrage'. Did you mean 'dpt_large'"):
        preset_directory("dpt_lrage")
    assert not cache.exists()


def test_who_comes_second_waits(release, add_preset, server, monkeypatch):
    """Threads here, as they make a lock each; the locks are files, so processes wait too."""
    add_preset([release])
    saved = []
    save_to_preset = FakeNetwork.save_to_preset

    def counted(self, folder):
        saved.append(folder)
        save_to_preset(self, folder)

    monkeypatch.setattr(FakeNetwork, "save_to_preset", counted)
    folders = []
    threads = [
        threading.Thread(target=lambda: folders.append(preset_directory("small"))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(folders)) == 1 and len(folders) == 3
    assert len(saved) == 1 and len(server.gets()) == 1


def test_the_loser_of_a_race_takes_the_winners(release, add_preset, monkeypatch):
    """Where locks do not work, as on some network disks."""
    add_preset([release])
    once = loading_cache.convert

    def beaten(source, out, **options):
        once(source, out, **options)  # the winner
        return once(source, out, **options)

    monkeypatch.setattr(loading_cache, "convert", beaten)
    assert card_of(preset_directory("small"))["preset"] == "small"


def test_remains_of_a_killed_process_are_swept(release, add_preset, cache):
    add_preset([release])
    folder = Path(preset_directory("small"))
    remains = folder.with_name(f".{folder.name}.0a1b2c3d")
    folder.rename(remains)
    assert preset_directory("small") == str(folder) and not remains.exists()


# ---- files, directories, handles ---------------------------------------------------------------


def test_a_local_file(tmp_path, cache, caplog):
    file = tmp_path / "mine.safetensors"
    file.write_bytes(AUTHORS)
    folder = preset_directory(file)
    assert Path(folder).name.startswith("mine-") and "matches no known preset" in caplog.text
    caplog.clear()
    assert preset_directory(str(file)) == folder and not caplog.records
    save_file({name: x + 1 for name, x in small_tensors().items()}, file)
    assert preset_directory(file) != folder  # same name, other content


def test_a_hugging_face_directory(tmp_path):
    source = write_hf_directory(tmp_path / "hf")
    folder = preset_directory(source)
    assert card_of(folder)["source"]["format"] == "hf_dpt"
    (source / "preprocessor_config.json").write_text('{"size": 64}')
    assert preset_directory(source) != folder  # its images are other ones


def test_a_hugging_face_handle(hub, server, cache, monkeypatch):
    config = {"model_type": "dpt", "num_attention_heads": 4}
    hub("user/small", "config.json", json.dumps(config).encode())
    hub("user/small", "preprocessor_config.json", b'{"size": 64}')
    hub("user/small", "model.safetensors", HUGGING_FACE)
    folder = preset_directory("hf://user/small")
    assert Path(folder).name == "user--small-c0ffee0000000000"
    assert card_of(folder)["source"]["address"].startswith("hf://user/small@c0ffee")
    server.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert preset_directory("hf://user/small") == folder and server.requests == []


def test_a_relative_is_named_before_its_weights_are_fetched(hub, server, cache):
    hub("user/zoe", "config.json", b'{"model_type": "zoedepth"}')
    hub("user/zoe", "model.safetensors", HUGGING_FACE)
    with pytest.raises(WeightsError, match="This is ZoeDepth, which is not supported"):
        preset_directory("hf://user/zoe")
    assert not any("safetensors" in request for request in server.requests)
    assert files_in(cache) == []


def test_a_handle_of_shards(hub, server):
    tensors = small_tensors("hf_base")
    names = sorted(tensors)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in halves.items():
        hub("user/small", file, save({name: tensors[name] for name in part}))
    weight_map = {name: file for file, part in halves.items() for name in part}
    index = json.dumps({"weight_map": weight_map}).encode()
    hub("user/small", "model.safetensors.index.json", index)
    hub("user/small", "config.json", b'{"model_type": "dpt", "num_attention_heads": 4}')
    folder = preset_directory("hf://user/small")
    written = np.load(Path(folder) / "fake.npz")
    expected = tensors["dpt.encoder.layer.1.layernorm_before.bias"]
    np.testing.assert_array_equal(written["block_1/norm1/beta"], expected)


def test_keras_hub_presets_pass_through(hub, tmp_path, cache, monkeypatch):
    keras_config = json.dumps({"registered_name": "keras_dpt>DPTBackbone"})
    (tmp_path / "config.json").write_text(keras_config)
    hub("user/keras", "config.json", keras_config.encode())
    for preset in (str(tmp_path), "hf://user/keras", "kaggle://user/dpt/keras/large"):
        assert preset_directory(preset) == preset
    # Another library's model: keras-hub says what it makes of it.
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert preset_directory(tmp_path) == str(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="config.json is damaged"):
        preset_directory(tmp_path)
    # Offline, keras-hub must not ask the hub; what is in the hub's cache is a directory.
    monkeypatch.setenv("KERAS_DPT_OFFLINE", "1")
    assert (Path(preset_directory("hf://user/keras")) / "config.json").read_text() == keras_config
    for address in ("kaggle://user/dpt/keras/large", "gs://bucket/dpt", "modelscope://user/dpt"):
        for load in (preset_directory, keras_dpt.DPTDepth.from_preset):
            with pytest.raises(WeightsError, match=f"forbids the network.*{address}"):
                load(address)
    with pytest.raises(WeightsError, match="hf://user/unknown.*forbids the network"):
        keras_dpt.DPTBackbone.from_preset("hf://user/unknown")
    assert not cache.exists()


def test_paths_that_are_not_there(tmp_path, cache):
    for path in (tmp_path / "no.pt", "no.safetensors", "./dpt_large"):
        with pytest.raises(WeightsError, match="no file or directory"):
            preset_directory(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="holds no weights"):
        preset_directory(tmp_path / "empty")
    assert files_in(tmp_path) == []


# ---- as a user would ---------------------------------------------------------------------------


def test_hub_endpoint_variable_in_a_new_process(hub, server, tmp_path):
    """`huggingface_hub` reads HF_ENDPOINT when it is imported; nothing is patched here."""
    config = {"model_type": "dpt", "num_attention_heads": 4}
    hub("user/small", "config.json", json.dumps(config).encode())
    hub("user/small", "model.safetensors", HUGGING_FACE)
    program = """
        import keras, keras_dpt, numpy as np
        model = keras_dpt.DPTDepth.from_preset("hf://user/small")
        weights = {v.path: keras.ops.convert_to_numpy(v) for v in model.weights}
        np.save("bias.npy", weights["block_1/norm1/beta"])
    """
    environment = os.environ | {
        "KERAS_BACKEND": keras.config.backend(),
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(tmp_path / "hf_home"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, cwd=tmp_path, check=True
    )
    expected = small_tensors("hf_base")["dpt.encoder.layer.1.layernorm_before.bias"]
    np.testing.assert_array_equal(np.load(tmp_path / "bias.npy"), expected)
    assert any((tmp_path / "hf_home").rglob("model.safetensors"))
