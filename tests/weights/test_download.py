"""Downloads over HTTP: whole, checked and resumed, or one clear error and nothing left behind."""

import errno
import hashlib
import inspect
import re
import socket
import time

import huggingface_hub
import pytest

from keras_dpt import space
from keras_dpt.errors import WeightsError
from keras_dpt.space import check_space
from keras_dpt.weights import bounds
from keras_dpt.weights import download as module
from keras_dpt.weights.download import download, download_from_hub, sha256_of

CONTENT = bytes(range(256)) * 20_000  # 5 MB: several pieces
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def url(server):
    server.files["/weights.pt"] = CONTENT
    return server.url + "/weights.pt"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "folder" / "weights.pt"


def remains(path):
    """What lies in the file's folder."""
    return sorted(file.name for file in path.parent.iterdir()) if path.parent.exists() else []


def test_fetches_and_checks(url, path):
    assert download(url, path, SHA256[:8]) == path
    assert path.read_bytes() == CONTENT and remains(path) == ["weights.pt"]
    assert sha256_of(path) == SHA256


def test_shows_progress(url, path, capfd):
    download(url, path)
    assert "weights.pt" in capfd.readouterr().err
    download(url, path, progress=False)
    assert capfd.readouterr().err == ""


def test_wrong_content_is_deleted(url, path, server):
    server.faults = ["damage"]
    with pytest.raises(WeightsError, match=f"should start with {SHA256[:8]}.*was deleted"):
        download(url, path, SHA256[:8])
    assert remains(path) == []


def test_goes_on_where_it_was_cut(url, path, server):
    server.faults = ["cut", "cut"]
    download(url, path, SHA256)
    assert path.read_bytes() == CONTENT and remains(path) == ["weights.pt"]
    assert server.gets()[0] == "GET /weights.pt"
    starts = [int(re.search(r"bytes=(\d+)-", request)[1]) for request in server.gets()[1:]]
    assert len(CONTENT) * 0.3 < starts[0] <= len(CONTENT) / 2 < starts[1]


def test_goes_on_after_an_interruption(url, path, server):
    path.parent.mkdir(parents=True)
    part = path.with_name("weights.pt.part")
    part.write_bytes(CONTENT[:1000])
    download(url, path, SHA256)
    assert server.gets() == ["GET /weights.pt bytes=1000-"]
    assert path.read_bytes() == CONTENT and not part.exists()


def test_an_old_part_of_another_file(url, path):
    path.parent.mkdir(parents=True)
    part = path.with_name("weights.pt.part")
    part.write_bytes(b"x" * 1000)
    with pytest.raises(WeightsError, match="was deleted. Try again"):
        download(url, path, SHA256)
    assert remains(path) == []
    # Without a hash nobody could tell, so nothing is taken over.
    part.write_bytes(b"x" * 1000)
    assert download(url, path).read_bytes() == CONTENT


@pytest.mark.parametrize("length", [len(CONTENT), len(CONTENT) + 1])
def test_a_part_that_is_whole_or_longer(url, path, length):
    path.parent.mkdir(parents=True)
    path.with_name("weights.pt.part").write_bytes((CONTENT + b"x")[:length])
    assert download(url, path, SHA256).read_bytes() == CONTENT


def test_a_server_that_cannot_go_on(url, path, server):
    server.faults = ["cut", "ignore range"]
    assert download(url, path, SHA256).read_bytes() == CONTENT
    assert len(server.gets()) == 2


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_trouble(url, path, server, status):
    server.faults = [status, status]
    assert download(url, path, SHA256).read_bytes() == CONTENT
    assert len(server.gets()) == 3


def test_lasting_trouble(url, path, server):
    server.faults = [500] * 100
    with pytest.raises(WeightsError, match=r"Can't fetch http.*weights\.pt: 500.*put the file at"):
        download(url, path, SHA256)
    assert len(server.gets()) == module.ATTEMPTS and remains(path) == []


def test_pauses_between_attempts_double(url, path, server, monkeypatch):
    pauses = []
    monkeypatch.setattr(module, "PAUSE", 0.5)
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    server.faults = [500] * 3
    download(url, path, SHA256)
    assert pauses == [0.5, 1.0, 2.0]


def test_data_are_asked_for_as_they_are(url, path, monkeypatch):
    """Compressed on the way, they would not have the length that is announced."""
    import requests

    asked, get = [], requests.get

    def noted(url, headers, **options):
        asked.append(headers | options)
        return get(url, headers=headers, **options)

    monkeypatch.setattr(requests, "get", noted)
    download(url, path, SHA256)
    assert asked == [{"Accept-Encoding": "identity", "stream": True, "timeout": module.TIMEOUT}]


def test_a_client_that_does_not_notice_a_cut(url, path, server, monkeypatch):
    """As urllib3 before its version 2."""
    pieces, calls = module._pieces, []

    def cut(response):
        calls.append(response)
        read = pieces(response)
        return [next(read)] if len(calls) == 1 else read

    monkeypatch.setattr(module, "_pieces", cut)
    download(url, path, SHA256)
    assert path.read_bytes() == CONTENT and len(server.gets()) == 2


def test_pieces_of_an_older_client():
    """Of urllib3 1, whose answers have no `read1`."""
    asked = []

    class Response:
        raw = object()

        def iter_content(self, size):
            asked.append(size)
            return iter([b"one", b"two"])

    assert list(module._pieces(Response())) == [b"one", b"two"] and asked == [16384]


def test_trouble_halfway(url, path, server):
    server.faults = ["cut"] + [500] * 100
    with pytest.raises(WeightsError, match="the part received is kept"):
        download(url, path, SHA256)
    assert remains(path) == ["weights.pt.part"]  # for the next attempt; never under its own name


@pytest.mark.parametrize(
    "fault, words",
    [
        (416, "answers 416, Content-Range missing, when asked to send the whole file"),
        ("bare 206", "answers 206, Content-Range missing"),
        ("length abc", "Content-Length: 'abc'"),
        ("length -5", "Content-Length: '-5'"),
        (204, "answers 204, which is no file"),
    ],
)
def test_a_server_that_makes_no_sense(url, path, server, fault, words):
    server.faults = [fault] * 100
    with pytest.raises(WeightsError, match=f"Can't fetch http.*{words}.*put the file at"):
        download(url, path, SHA256)
    assert len(server.gets()) == module.ATTEMPTS and remains(path) == []
    server.faults = [fault]  # which passes
    assert download(url, path, SHA256).read_bytes() == CONTENT


@pytest.mark.parametrize("fault", ["endless", f"length {10**13}"])
def test_a_server_that_sends_too_much(url, path, server, fault):
    server.faults = [fault] * 100
    with pytest.raises(WeightsError, match="should have 8 MB at most. It was not kept"):
        download(url, path, SHA256, max_size=8_000_000)
    assert len(server.gets()) == 1 and remains(path) == []


@pytest.mark.parametrize(
    "fault, words",
    [("silent", "Can't fetch .*put the file at")]
    + [
        ("trickle", r"/weights\.pt sends .* is too slow.* The part received is kept"),
    ],
)
def test_a_server_that_is_slow(url, path, server, monkeypatch, fault, words):
    monkeypatch.setattr(module, "TIMEOUT", (10, 0.2))
    monkeypatch.setattr(bounds, "PATIENCE", 0.3)
    server.faults = [fault] * 100
    with pytest.raises(WeightsError, match=words):
        download(url, path, SHA256)
    assert remains(path) in ([], ["weights.pt.part"])
    server.faults = ["cut"]
    assert bounds.PATIENCE < 1 and path.parent.is_dir()
    path.with_name("weights.pt.part").unlink(missing_ok=True)
    assert download(url, path, SHA256).read_bytes() == CONTENT  # quick enough


def test_not_found(path, server):
    with pytest.raises(WeightsError, match=r"answers 404 Not Found.*put the file at .*weights\.pt"):
        download(server.url + "/weights.pt", path, SHA256)
    assert remains(path) == [] and len(server.gets()) == 1


def test_no_connection(path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(WeightsError, match="Can't fetch.*put the file at") as caught:
        download(f"http://127.0.0.1:{port}/weights.pt", path, SHA256)
    assert remains(path) == []
    message = str(caught.value)  # the cause alone, not what three libraries wrapped it in
    assert "refused" in message and message.count("weights.pt") == 2
    assert "Max retries" not in message and "HTTPConnection" not in message


@pytest.mark.parametrize("variable", ["KERAS_DPT_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline(url, path, server, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    with pytest.raises(WeightsError, match=f"forbids the network. Fetch {url} .* at {path}"):
        download(url, path, SHA256)
    with pytest.raises(WeightsError, match="hf://Intel/dpt-large/model.safetensors: .*forbids"):
        download_from_hub("Intel/dpt-large", "model.safetensors")
    assert server.requests == []
    monkeypatch.setenv(variable, "0")
    assert download(url, path, SHA256) == path


def test_too_small_a_disk(url, path, monkeypatch):
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr(space.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(WeightsError, match=r"5\.1 MB are needed and 1 MB free.*KERAS_DPT_CACHE"):
        download(url, path, SHA256)
    assert remains(path) == []
    check_space(path.parent, 1_000_000)  # just fits


def test_a_disk_that_fills_up(url, path, monkeypatch):
    class FullDisk:
        def __init__(self, *args, **kwargs):
            pass

        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda self, *args: None  # noqa: E731

        def update(self, size):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "tqdm", FullDisk)
    with pytest.raises(WeightsError, match="too full.*KERAS_DPT_CACHE"):
        download(url, path, SHA256)
    assert remains(path) == []


# ---- the hub -----------------------------------------------------------------------------------


def test_hub_file_goes_to_the_hubs_cache(hub, server, tmp_path):
    hub("user/repo", "model.safetensors", CONTENT)
    path = download_from_hub("user/repo", "model.safetensors")
    assert path.read_bytes() == CONTENT and tmp_path / "hub" in path.parents
    before = len(server.gets())
    assert download_from_hub("user/repo", "model.safetensors") == path
    assert len(server.gets()) == before


def test_hub_file_from_its_cache_without_network(hub, server, monkeypatch):
    hub("user/repo", "model.safetensors", CONTENT)
    path = download_from_hub("user/repo", "model.safetensors")
    server.requests.clear()
    monkeypatch.setenv("KERAS_DPT_OFFLINE", "1")
    assert download_from_hub("user/repo", "model.safetensors") == path
    assert server.requests == []


def test_hub_damage_is_noticed(hub, server, tmp_path):
    hub("user/repo", "model.safetensors", CONTENT)
    server.faults = ["damage"]
    with pytest.raises(WeightsError, match="arrived damaged.*deleted"):
        download_from_hub("user/repo", "model.safetensors")
    assert not any(file.name == "model.safetensors" for file in tmp_path.rglob("*"))
    assert not any(file.stat().st_size == len(CONTENT) for file in tmp_path.rglob("*"))
    assert download_from_hub("user/repo", "model.safetensors").read_bytes() == CONTENT


def test_hub_file_that_was_replaced(hub):
    """The hub vouches for what it has now, not for what it had."""
    hub("user/repo", "model.safetensors", CONTENT)
    assert download_from_hub("user/repo", "model.safetensors", sha256=SHA256)
    assert download_from_hub("user/repo", "model.safetensors", sha256=SHA256[:8])
    with pytest.raises(WeightsError, match=f"has sha256 {SHA256}; it should start with 0000"):
        download_from_hub("user/repo", "model.safetensors", sha256="0" * 64)


def test_hub_without_the_file(hub, monkeypatch):
    with pytest.raises(WeightsError, match="hf://user/repo/no.bin: there is no such file"):
        download_from_hub("user/repo", "no.bin")
    assert download_from_hub("user/repo", "no.bin", optional=True) is None
    # The hub's cache remembers; what it never asked for is unknown, not absent.
    monkeypatch.setenv("KERAS_DPT_OFFLINE", "1")
    assert download_from_hub("user/repo", "no.bin", optional=True) is None
    with pytest.raises(WeightsError, match="cache does not have it"):
        download_from_hub("user/repo", "other.bin", optional=True)


def test_hub_in_trouble(hub, server):
    hub("user/repo", "model.safetensors", CONTENT)
    server.faults = [500] * 100
    with pytest.raises(WeightsError, match="Can't fetch hf://user/repo/model.safetensors: "):
        download_from_hub("user/repo", "model.safetensors")
    with pytest.raises(WeightsError, match="Can't fetch hf://not a name/x: "):
        download_from_hub("not a name", "x")


@pytest.mark.parametrize(
    ("error", "reason"),
    [(TimeoutError(), "TimeoutError"), (ValueError("A sentence.\nAnother."), "A sentence")],
)
def test_the_reason_of_an_error_of_the_hubs_client(error, reason, monkeypatch):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fails)
    with pytest.raises(WeightsError, match=f"Can't fetch hf://user/repo/x: {reason}\\.$"):
        download_from_hub("user/repo", "x")


def test_hub_that_does_not_answer(monkeypatch):
    from huggingface_hub import constants

    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the hub's client tries for 20 s
    with pytest.raises(WeightsError, match=r"the hub does not answer \((?!None).+\), and the hub"):
        download_from_hub("user/repo", "model.safetensors")


needs_bars = pytest.mark.skipif(
    "tqdm_class" not in inspect.signature(huggingface_hub.hf_hub_download).parameters,
    reason="an older client, whose downloads cannot be counted",
)


def hub_remains(folder):
    """Files in the hub's cache that have something in them."""
    return [path.name for path in folder.rglob("*") if path.is_file() and path.stat().st_size]


@needs_bars
@pytest.mark.parametrize("fault", ["endless", None])
def test_hub_that_sends_too_much(hub, server, tmp_path, fault):
    hub("user/repo", "model.safetensors", CONTENT)
    server.faults = [fault] if fault else []
    limit = len(CONTENT) + 1000 if fault else len(CONTENT) - 1
    with pytest.raises(WeightsError, match="hf://user/repo/model.safetensors sends more than it"):
        download_from_hub("user/repo", "model.safetensors", max_size=limit)
    assert not [name for name in hub_remains(tmp_path) if name.endswith(".incomplete")]
    limit = len(CONTENT)
    path = download_from_hub("user/repo", "model.safetensors", max_size=limit)
    assert path.read_bytes() == CONTENT


@needs_bars
def test_hub_that_never_ends(hub, server, monkeypatch, tmp_path):
    """More than it announced, though less than a file may have."""
    monkeypatch.setattr(bounds, "_MORE", 1000)
    hub("user/repo", "config.json", b"{}")
    server.faults = ["endless"]
    with pytest.raises(WeightsError, match="hf://user/repo/config.json sends more than it"):
        download_from_hub("user/repo", "config.json")


@needs_bars
@pytest.mark.parametrize(
    ("total", "most"), [(50, 50 + bounds._MORE), (None, 99_000_000), (98_000_000, 99_000_000)]
)
def test_a_bar_of_the_hub_counts(total, most, tmp_path):
    """What was there before, too; the part kept is deleted, smaller files of others are not."""
    files = {"ours.incomplete": most, "others.incomplete": 10, "whole": most}
    for name, size in files.items():
        with open(tmp_path / name, "wb") as file:
            file.truncate(size)
    bar = bounds.HubBounds("hf://a/b", 99_000_000, tmp_path)._bar()
    bar = bar(total=total, initial=20, disable=True)
    bar.update(most - 20)
    assert hub_remains(tmp_path) and len(list(tmp_path.iterdir())) == 3
    with pytest.raises(WeightsError, match="hf://a/b sends more than it .*, or than 99 MB"):
        bar.update(1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["others.incomplete", "whole"]


@needs_bars
def test_a_hub_that_announces_too_much(tmp_path):
    (tmp_path / "ours.incomplete").write_bytes(b"x")
    bar = bounds.HubBounds("hf://a/b", 100, tmp_path)._bar()
    bar(total=100, disable=True)
    with pytest.raises(WeightsError, match="sends more"):
        bar(total=101, disable=True)
    assert (tmp_path / "ours.incomplete").exists()  # which was not received from it


@pytest.mark.parametrize(
    ("file", "options", "expected"),
    [
        ("model.safetensors", {}, 32 * 1024**3),
        ("config.json", {}, 64 * 1024**2),
        ("config.json", {"max_size": 5}, 5),
    ],
)
def test_what_bounds_a_file_of_the_hub(file, options, expected, hub, tmp_path, monkeypatch):
    made = []

    class Noted(bounds.HubBounds):
        def __init__(self, *arguments):
            made.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(module, "HubBounds", Noted)
    hub("user/repo", file, b"{}")
    path = download_from_hub("user/repo", file, **options)
    blobs = tmp_path / "hub" / "models--user--repo" / "blobs"
    assert made == [(f"hf://user/repo/{file}", expected, blobs)]
    assert path.resolve().parent == blobs.resolve()


@pytest.mark.parametrize("fault", ["silent", "trickle"])
def test_hub_that_is_slow(hub, server, monkeypatch, fault):
    from huggingface_hub import constants, file_download

    hub("user/repo", "model.safetensors", CONTENT)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    monkeypatch.setattr(file_download.time, "sleep", lambda _: None)
    monkeypatch.setattr(bounds, "HUB_PATIENCE", 1.0)
    server.faults = [fault] * 100
    began = time.monotonic()
    with pytest.raises(WeightsError, match="hf://user/repo/model.safetensors"):
        download_from_hub("user/repo", "model.safetensors")
    assert time.monotonic() - began < 20
