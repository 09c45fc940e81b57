"""Official files of presets: where they are looked for, what is fetched, and what stays."""

import hashlib
import json
import sys
from pathlib import Path

import pytest

from keras_dpt import presets
from keras_dpt.errors import WeightsError
from keras_dpt.weights import originals
from keras_dpt.weights.originals import cache_directory, is_here, located, located_source

CONTENT = b"weights of a network" * 100
PRESET = {"task": "depth", "parameters": 1000}


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def files_in(folder):
    """Files anywhere in a folder; locks aside, which hold nothing."""
    files = (file for file in Path(folder).rglob("*") if file.is_file())
    return sorted(file.relative_to(folder).as_posix() for file in files if file.suffix != ".lock")


@pytest.fixture
def release(server):
    """A source on a release page, whose files are PyTorch's."""
    pytest.importorskip("torch")
    server.files["/1_0/large.v2.pt"] = CONTENT
    return {"url": f"{server.url}/1_0/large.v2.pt", "sha256_prefix": sha256(CONTENT)[:8]}


@pytest.fixture
def pair(server):
    """A source of two files: the encoder's is the longer one."""
    pytest.importorskip("torch")
    server.files |= {"/head.v1.pth": b"head", "/encoder.pth": CONTENT}
    return {
        "url": f"{server.url}/head.v1.pth",
        "encoder_url": f"{server.url}/encoder.pth",
        "sha256": sha256(b"head"),
        "encoder_sha256": sha256(CONTENT),
    }


@pytest.fixture
def on_hub(hub):
    hub("user/large", "sub/model.safetensors", CONTENT)
    return {"repo": "user/large", "file": "sub/model.safetensors", "sha256": sha256(CONTENT)}


@pytest.fixture
def add_preset(monkeypatch, tmp_path):
    """Presets of this test only: `add_preset(source, ...)` makes the preset "large"."""
    folder = tmp_path / "presets_for_test"
    folder.mkdir()
    monkeypatch.setattr(presets, "_directory", lambda: folder)

    def add(*sources):
        preset = {"name": "large", "sources": sources} | PRESET
        (folder / "large.json").write_text(json.dumps(preset))

    return add


def put(place, content):
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)


# ---- places -------------------------------------------------------------------------------------


def test_a_file_fetched_for_a_preset_is_gone_afterwards(add_preset, release, cache):
    add_preset(release)
    with located("large", progress=False) as (path, address, name):
        assert path == cache / "downloads" / "large.v2.pt" and path.read_bytes() == CONTENT
        assert (address, name) == (release["url"], "large")
    assert files_in(cache) == []


def test_a_file_fetched_for_a_preset_stays_where_the_rest_fails(add_preset, release, cache):
    add_preset(release)
    with pytest.raises(KeyError), located("large"):
        raise KeyError
    assert files_in(cache) == ["downloads/large.v2.pt"]


def test_a_file_put_there_serves_a_later_source_too(add_preset, release, on_hub, server, cache):
    put(cache / "downloads" / "large.v2.pt", CONTENT)
    add_preset(on_hub, release)
    with located("large") as (path, address, name):
        assert (path.name, address, name) == ("large.v2.pt", release["url"], "large")
    assert server.requests == [] and files_in(cache) == ["downloads/large.v2.pt"]


def test_a_hub_file_put_there_by_hand(on_hub, server, cache):
    place = cache / "downloads" / "user--large--sub--model.safetensors"
    assert not is_here(on_hub)
    put(place, CONTENT)
    assert is_here(on_hub)
    with located_source(PRESET, on_hub) as path:
        assert path == place
    assert place.is_file() and server.requests == []


def test_a_file_in_the_hubs_cache_stays(on_hub, tmp_path, cache):
    with located_source(PRESET, on_hub) as path:
        assert path.read_bytes() == CONTENT and tmp_path / "hub" in path.parents
    assert path.is_file() and is_here(on_hub) and files_in(cache) == []


def test_a_file_known_to_be_missing_from_the_hub_is_not_here(hub, on_hub):
    absent = on_hub | {"file": "absent.safetensors"}
    with pytest.raises(WeightsError, match="there is no such file"), located_source(PRESET, absent):
        pass
    assert not is_here(absent)


def test_one_source_alone(release, cache):
    assert not is_here(release)
    with located_source(PRESET, release, progress=False) as path:
        assert path.read_bytes() == CONTENT and is_here(release)
    assert files_in(cache) == []


def test_a_path_and_its_name(monkeypatch, tmp_path):
    with located(tmp_path / "mine.pt") as found:
        assert found == (tmp_path / "mine.pt", "mine.pt", None)
    with located("~/mine.pt") as found:
        assert found == (Path.home() / "mine.pt", "mine.pt", None)
    with pytest.raises(WeightsError, match="has no home"), located("~no_such_user_here/mine.pt"):
        pass


def test_where_the_cache_is(monkeypatch, cache):
    assert cache_directory() == cache
    for value in ("", None):
        if value is None:
            monkeypatch.delenv("KERAS_DPT_CACHE")
        else:
            monkeypatch.setenv("KERAS_DPT_CACHE", value)
        assert cache_directory() == Path.home() / ".cache" / "keras_dpt"


@pytest.mark.parametrize("progress", [True, False])
@pytest.mark.parametrize("kind", ["release", "pair"])
def test_progress_is_shown(kind, progress, request, capfd):
    with located_source(PRESET, request.getfixturevalue(kind), progress) as path:
        names = [path.name] if path.is_file() else [file.name for file in path.iterdir()]
    shown = capfd.readouterr().err
    assert shown if progress else shown == ""
    assert all(name in shown for name in names) == progress


# ---- what is rejected -------------------------------------------------------------------------


@pytest.mark.parametrize("get", ["preset", "source"])
def test_another_file_in_its_place(add_preset, release, cache, get):
    place = cache / "downloads" / "large.v2.pt"
    put(place, b"something else")
    add_preset(release)
    message = f"{place.name} has sha256 {sha256(b'something else')}.*from {release['url']}"
    context = located("large") if get == "preset" else located_source(PRESET, release)
    with pytest.raises(WeightsError, match=message), context:
        pass
    assert place.read_bytes() == b"something else"


def test_a_file_whose_hash_is_not_known(release, cache):
    release["sha256_prefix"] = None
    put(cache / "downloads" / "large.v2.pt", b"anything")
    with located_source(PRESET, release) as path:
        assert path.read_bytes() == b"anything"


@pytest.mark.parametrize("kind", ["release", "on_hub"])
def test_the_wrong_content(kind, request, server):
    source = request.getfixturevalue(kind) | {"sha256": sha256(b"something else")}
    with (
        pytest.raises(WeightsError, match=f"should start with {source['sha256']}"),
        located_source(PRESET, source),
    ):
        pass


@pytest.mark.parametrize("kind", ["release", "pair", "on_hub"])
def test_a_file_larger_than_its_network(kind, request, monkeypatch, cache):
    """8 bytes a parameter, and some to spare."""
    source = request.getfixturevalue(kind)
    monkeypatch.setattr(originals, "_SPARE", 1000)
    parameters = (len(CONTENT) - 1000) // 8
    too_small = PRESET | {"parameters": parameters - 1}
    with pytest.raises(WeightsError, match="sends"), located_source(too_small, source):
        pass
    assert "downloads/large.v2.pt" not in files_in(cache)
    with located_source(PRESET | {"parameters": parameters}, source) as path:
        assert path.exists()


def test_no_torch_is_noticed_before_a_download(release, on_hub, server, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # makes its import fail
    with (
        pytest.raises(WeightsError, match=f"{release['url']} was made by PyTorch"),
        located_source(PRESET, release),
    ):
        pass
    assert server.requests == []
    with located_source(PRESET, on_hub) as path:  # which needs none
        assert path.is_file()


# ---- two files of one network -----------------------------------------------------------------


def test_two_files_in_one_folder(pair, cache):
    with located_source(PRESET, pair) as folder:
        assert folder == cache / "downloads" / "head"
        assert files_in(folder) == ["encoder.pth", "head.v1.pth"]
        assert (folder / "encoder.pth").read_bytes() == CONTENT and is_here(pair)
    assert files_in(cache) == [] and not is_here(pair)


@pytest.mark.parametrize("present", ["head.v1.pth", "encoder.pth"])
def test_one_of_two_files_was_put_there(pair, present, server, cache):
    put(cache / "downloads" / "head" / present, server.files[f"/{present}"])
    assert not is_here(pair)
    with located_source(PRESET, pair):
        assert len(server.gets()) == 1 and is_here(pair)
    assert files_in(cache) == ["downloads/head/encoder.pth", "downloads/head/head.v1.pth"]


@pytest.mark.parametrize("key", ["sha256", "encoder_sha256"])
def test_each_of_two_files_is_checked(pair, key, cache):
    expected = {"sha256": ("head.v1.pth", "url"), "encoder_sha256": ("encoder.pth", "encoder_url")}
    file, address = expected[key]
    wrong = pair | {key: "0" * 64}
    with pytest.raises(WeightsError, match=f"{file} sent.*0{{64}}"), located_source(PRESET, wrong):
        pass
    with located_source(PRESET, pair) as folder:
        message = f"{file} has sha256.*it should start with 0{{64}}.*from {pair[address]}"
        with pytest.raises(WeightsError, match=message), located_source(PRESET, wrong):
            pass
        assert folder.is_dir()


def test_two_files_of_a_preset(add_preset, pair, cache):
    add_preset(pair)
    with located("large") as (path, address, name):
        assert (path.name, address, name) == ("head", pair["url"], "large")
    assert files_in(cache) == [] and not path.exists()


# ---- none can be had --------------------------------------------------------------------------


def test_every_source_and_place_is_named(add_preset, release, on_hub, pair, cache, monkeypatch):
    monkeypatch.setenv("KERAS_DPT_OFFLINE", "1")
    add_preset(on_hub, release, pair)
    with pytest.raises(WeightsError, match="'large' are not in") as caught, located("large"):
        pass
    failures, _, places = str(caught.value).partition("\nTo work offline, put\n")
    assert failures.count("\n") == 3 and failures.count("forbids the network") == 3
    downloads = cache / "downloads"
    assert places.splitlines() == [
        f"  hf://user/large/sub/model.safetensors at "
        f"{downloads / 'user--large--sub--model.safetensors'}",
        f"  or {release['url']} at {downloads / 'large.v2.pt'}",
        f"  or {pair['url']} at {downloads / 'head'}",
        f"  or {pair['encoder_url']} in {downloads / 'head'} too",
    ]
    assert not (cache / "locks").exists()  # nothing is written without the network


def test_an_error_without_words_is_named_by_its_kind(add_preset, release, monkeypatch):
    def download(*_):
        raise TimeoutError

    monkeypatch.setattr(originals, "download", download)
    add_preset(release)
    message = f"Can't fetch {release['url']}: TimeoutError"
    with pytest.raises(WeightsError, match=message), located("large"):
        pass


def test_others_wait_while_a_file_is_fetched_and_used(release, cache):
    from filelock import FileLock, Timeout

    with located_source(PRESET, release):
        lock = FileLock(cache / "locks" / "large.v2.pt.lock")
        with pytest.raises(Timeout):
            lock.acquire(timeout=0)
    lock.acquire(timeout=0)
    lock.release()


# ---- a repository -----------------------------------------------------------------------------


def repository(hub, **files):
    hub("user/large", "config.json", b'{"model_type": "dpt"}')
    for name, content in files.items():
        hub("user/large", name, content)


@pytest.mark.parametrize("described", [False, True])
def test_a_repository(hub, described):
    repository(hub, **{"model.safetensors": CONTENT, "pytorch_model.bin": b"twice the same"})
    if described:
        hub("user/large", "preprocessor_config.json", b"{}")
    with located("hf://user/large") as (folder, address, name):
        assert address == f"hf://user/large@{folder.name}" and name is None
        found = ["config.json", "model.safetensors"]
        assert files_in(folder) == found + ["preprocessor_config.json"] * described
    assert (folder / "model.safetensors").is_file()


def test_a_repository_of_shards(hub):
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    shards = {"one.safetensors": b"1" * 9, "two.safetensors": b"2" * 9}
    repository(hub, **shards, **{"model.safetensors.index.json": json.dumps(index).encode()})
    with located("hf://user/large") as (folder, _, _):
        assert set(shards) < set(files_in(folder))


def test_a_repository_of_older_weights(hub):
    repository(hub, **{"pytorch_model.bin": CONTENT})
    with located("hf://user/large") as (folder, _, _):
        assert files_in(folder) == ["config.json", "pytorch_model.bin"]


def test_repositories_that_lack_something(hub):
    with (
        pytest.raises(WeightsError, match="large/config.json: there is"),
        located("hf://user/large"),
    ):
        pass
    repository(hub)
    message = r"hf://user/large has none of model\.safetensors, .*pytorch_model\.bin"
    with pytest.raises(WeightsError, match=message), located("hf://user/large"):
        pass
