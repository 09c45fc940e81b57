"""A server, a cache of its own for every test, and no pauses between attempts."""

import pytest

from keras_dpt.weights import download

from .server import Server


@pytest.fixture
def server():
    with Server().running() as server:
        yield server


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Our cache; the hub's is beside it. Nothing of this machine's is touched."""
    from huggingface_hub import constants

    monkeypatch.setenv("KERAS_DPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KERAS_DPT_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(download, "PAUSE", 0.0)
    return tmp_path / "cache"


@pytest.fixture
def hub(server, monkeypatch):
    """The server as the hub, in this process; `test_hub_endpoint` does it as a user would."""
    from huggingface_hub import constants, file_download

    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    # Before its version 1 it kept a copy there.
    monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)

    def add(repo, file, content):
        server.files[f"/{repo}/resolve/main/{file}"] = content

    return add
