"""`keras-dpt publish`, against a server on loopback that takes uploads as the hub does."""

import base64
import contextlib
import hashlib
import json
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import keras_dpt
from keras_dpt.cli import main
from keras_dpt.errors import WeightsError
from keras_dpt.presets import preset_path, read_preset
from keras_dpt.publish import staged

COMMIT = "c0ffee" + "0" * 34
# huggingface-hub's own, of its HTTP client.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
NAME = "dpt_mini_camvid"


class Hub:
    """Takes repositories, large files and commits, and serves what it took.

    Attributes: url. repositories: `{id: {path: bytes}}`. requests: "POST /path" as they came.
    """

    def __init__(self):
        self.repositories, self.blobs, self.requests, self.visibility = {}, {}, [], {}
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    @contextlib.contextmanager
    def running(self):
        thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            thread.join()
            self._http.server_close()

    def create(self, asked):
        repo = f"{asked['organization']}/{asked['name']}"
        self.repositories.setdefault(repo, {})
        self.visibility.setdefault(repo, asked.get("visibility"))
        return {"url": f"{self.url}/{repo}", "id": repo}

    def preupload(self, asked):
        def mode(file):
            return "lfs" if file["path"].endswith(".h5") else "regular"

        found = [{"path": x["path"], "uploadMode": mode(x)} for x in asked["files"]]
        return {"files": [x | {"shouldIgnore": False} for x in found]}

    def batch(self, asked):
        def upload(blob):
            return {"upload": {"href": f"{self.url}/lfs/{blob['oid']}"}}

        return {"objects": [blob | {"actions": upload(blob)} for blob in asked["objects"]]}

    def commit(self, repo, lines):
        for line in map(json.loads, lines):
            value = line["value"]
            if line["key"] == "file":
                self.repositories[repo][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.repositories[repo][value["path"]] = self.blobs[value["oid"]]
        return {"commitUrl": f"{self.url}/{repo}/commit/{COMMIT}", "commitOid": COMMIT}


def _handler(hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def reply(self, status, content=b"", **headers):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def received(self):
            hub.requests.append(f"{self.command} {self.path}")
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

        def do_GET(self):
            self.received()
            found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", self.path.split("?")[0])
            files = hub.repositories.get(found[1]) if found else None
            content = (files or {}).get(found[2]) if found else None
            if content is None:
                missing = "EntryNotFound" if files is not None else "RepoNotFound"
                return self.reply(404, X_Error_Code=missing, X_Repo_Commit=COMMIT)
            digest = hashlib.sha256(content).hexdigest()
            self.reply(200, content, X_Repo_Commit=COMMIT, ETag=f'"{digest}"')

        do_HEAD = do_GET

        def do_PUT(self):
            content, oid = self.received(), self.path.rpartition("/")[2]
            if hashlib.sha256(content).hexdigest() != oid:
                return self.reply(400)
            hub.blobs[oid] = content
            self.reply(200)

        def do_POST(self):
            body = self.received()
            if "Bearer hf_test" not in self.headers.get("Authorization", ""):
                return self.reply(401, X_Error_Message="Invalid credentials")
            path = self.path.split("?")[0]
            if path == "/api/repos/create":
                answer = hub.create(json.loads(body))
            elif path == "/api/validate-yaml":  # of the card's front matter
                answer = {"errors": [], "warnings": []}
            elif found := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
                answer = hub.preupload(json.loads(body))
            elif found := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
                answer = hub.batch(json.loads(body))
            elif found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
                answer = hub.commit(found[1], body.splitlines())
            else:
                return self.reply(404)
            self.reply(200, json.dumps(answer).encode(), Content_Type="application/json")

    return Handler


@pytest.fixture
def hub(monkeypatch, tmp_path):
    from huggingface_hub import constants, hf_api

    with Hub().running() as hub:
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(hf_api.api, "endpoint", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        monkeypatch.setenv("KERAS_DPT_CACHE", str(tmp_path / "cache"))
        for name in ("KERAS_DPT_OFFLINE", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        yield hub


@pytest.fixture
def folder(tmp_path):
    """A converted preset, as `keras-dpt convert` leaves it."""
    folder = tmp_path / "converted"
    shutil.copytree(preset_path(NAME), folder)
    card = {"preset": NAME, "task": "segmentation", "source": {"address": "a.pt"}}
    card |= {key: read_preset(NAME)[key] for key in ("weights_license", "training_data", "notes")}
    (folder / "keras_dpt.json").write_text(json.dumps(card))
    return folder


def test_a_dry_run_sends_nothing(hub, capsys):
    assert main(["publish", NAME, "--to", "hf://user/street"]) == 0
    out = capsys.readouterr().out
    assert hub.requests == []
    assert re.search(r"model\.weights\.h5 +7,565,608 bytes", out)
    preset = read_preset(NAME)
    for text in ("README.md:", "license: ", preset["training_data"], "pass --yes"):
        assert text in out


def test_what_is_uploaded_can_be_loaded(hub, folder, capsys):
    address = "hf://user/street"
    assert main(["publish", str(folder), "--to", address, "--yes", "--private"]) == 0
    files = hub.repositories["user/street"]
    assert sorted(files) == sorted([x.name for x in folder.iterdir()] + ["README.md"])
    assert hub.visibility["user/street"] == "private"
    for file in folder.iterdir():
        assert files[file.name] == file.read_bytes()
    card = files["README.md"].decode()
    assert f'from_preset("{address}")' in card and "`a.pt`" in card
    assert 'license: "cc-by-nc-4.0"' in card
    model = keras_dpt.DPTSegmentation.from_preset(address)
    assert list(model.class_names) == read_preset(NAME)["output"]["class_names"]

    # The next upload replaces the card, and leaves the folder as it is.
    files["README.md"] = b"old"
    assert main(["publish", str(folder), "--to", address, "--yes"]) == 0
    assert files["README.md"].decode() == card and not (folder / "README.md").exists()
    assert not [x for x in folder.parent.iterdir() if x.name.startswith(".keras_dpt")]
    assert f"uploaded to {address}" in capsys.readouterr().out


def test_what_no_licence_allows_is_refused_before_it_is_fetched(hub, folder, capsys):
    name = "depth_anything_v2_metric_indoor_small"
    assert main(["publish", name, "--to", "hf://user/a", "--yes"]) == 2
    assert "'unclear', which allows no redistribution" in capsys.readouterr().err
    card = json.loads((folder / "keras_dpt.json").read_text())
    card |= {"preset": None, "weights_license": None}
    (folder / "keras_dpt.json").write_text(json.dumps(card))
    assert main(["publish", str(folder), "--to", "hf://user/a", "--yes"]) == 2
    assert "licence of these weights is not known" in capsys.readouterr().err
    assert hub.requests == []


@pytest.mark.parametrize(
    "address",
    ["user/a", "hf://a", "hf://user/a/b", "kaggle://user/a", "gs://bucket/a", "hf://user/"],
)
def test_addresses(address, folder):
    with pytest.raises(ValueError, match="must be hf://USER/REPOSITORY or kaggle://"):
        staged(folder, address).__enter__()


def test_folders_that_are_none(hub, folder, tmp_path, capsys):
    (folder / "task.weights.h5").unlink()
    assert main(["publish", str(folder), "--to", "hf://user/a", "--yes"]) == 2
    assert "has no task.weights.h5" in capsys.readouterr().err
    (folder / "keras_dpt.json").unlink()
    assert main(["publish", str(folder), "--to", "hf://user/a", "--yes"]) == 2
    assert "has no keras_dpt.json" in capsys.readouterr().err
    assert main(["publish", "dpt_larg", "--to", "hf://user/a"]) == 2
    assert "Did you mean 'dpt_large'" in capsys.readouterr().err
    assert hub.requests == []


def test_without_a_token(hub, folder, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert main(["publish", str(folder), "--to", "hf://user/a", "--yes"]) == 2
    err = capsys.readouterr().err
    assert "hf://user/a does not take the preset" in err and "hf auth login" in err
    assert hub.repositories == {}


def test_kaggle_gets_the_same_folder(folder, monkeypatch):
    """Kaggle's service is not imitated here: what its client is handed is."""
    kagglehub = pytest.importorskip("kagglehub")
    taken = []

    def model_upload(handle, path):
        taken.append((handle, sorted(file.name for file in Path(path).iterdir())))

    monkeypatch.setattr(kagglehub, "model_upload", model_upload)
    arguments = ["publish", str(folder), "--to", "kaggle://user/street/keras/mini", "--yes"]
    assert main(arguments) == 0
    names = sorted([x.name for x in folder.iterdir()] + ["README.md"])
    assert taken == [("user/street/keras/mini", names)]


def test_staged_without_a_licence(folder):
    (folder / "keras_dpt.json").write_text("{}")
    with pytest.raises(WeightsError, match="is not known"):
        staged(folder, "hf://user/a").__enter__()
