"""`keras-dpt verify` against a server on loopback: tiny networks, and each kind of failure."""

import json
import re
import signal
import time

import numpy as np
import pytest
from parity import reference
from safetensors.numpy import save
from weights.server import Server

from keras_dpt import presets
from keras_dpt.cli import main
from keras_dpt.verification import original, verify, worker

from .checkout import HUB, NAME, RELEASE, Checkout, Place

pytest.importorskip("torch")
pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def network():
    return reference.make_reference("tiny")


@pytest.fixture
def place(tmp_path, network, server, hub, monkeypatch):
    """Everything in this process, workers included: importing Keras takes longer than the rest."""
    place = Place(tmp_path, server, network)
    monkeypatch.setattr(presets, "_directory", lambda: tmp_path / "presets")
    monkeypatch.setattr(verify, "run_worker", worker.main)
    return place


@pytest.fixture
def run(place, capsys, monkeypatch):
    """Exit code, standard output and standard error of `keras-dpt verify`."""
    monkeypatch.chdir(place.folder)

    def run(*arguments):
        code = main(["verify", *arguments, "--out", "out"])
        return code, *capsys.readouterr()

    return run


def row(out, file):
    """The cells of a file's line of the table."""
    line = next(x for x in out.splitlines() if x.startswith(NAME) and file in x)
    return re.split(r"\s{2,}", line)


@pytest.mark.compiles_long
def test_both_files_are_verified_once(place, run):
    server = place.server
    code, out, err = run("--all", "--update-presets")
    assert code == 0, out + err
    assert "2 files of 1 presets. To fetch: " in out and "stay in the hub's cache" in out
    assert "2 of 2 verified, 0 converted without comparison, 0 failed" in out
    for file, known in (("model.safetensors", "not known before"), (place.file, "start")):
        cells = row(out, file)
        assert cells[2].startswith(known) and cells[-1] == "verified"
        assert cells[3].startswith("0") and float(cells[4]) < 1e-4
    hub, release = place.results
    assert hub["reference"].startswith("transformers ") and release["reference"] == "tests/parity"
    assert hub["sizes"] == [[64, 64]] * 3 and release["sizes"][2] == [64, 64]
    assert 0 < release["difference"] < 1e-4 and release["peak_bytes"] > 1e8
    assert not list((place.folder / "cache" / "downloads").glob("*"))
    assert [x.name for x in (place.folder / "out").iterdir()] == ["verification.json"]
    # What was not known is in the presets now; nothing else has changed.
    text = (place.folder / "presets" / f"{NAME}.json").read_text()
    sources = json.loads(text)["sources"]
    assert [x["sha256"] for x in sources] == [
        *hub["sha256"].values(),
        *release["sha256"].values(),
    ]
    assert not any("sha256_prefix" in x for x in sources)

    # Again: nothing is fetched, nothing is done, also with a hash that became a whole one.
    server.requests.clear()
    code, out, _ = run("--all")
    assert code == 0 and "2 of 2 files were verified before" in out
    assert server.gets() == [] and "2 of 2 verified" in out


def test_failures_before_anything_is_converted(place, run):
    """A wrong hash, a file that is not there, one that is cut off; each is told by its name."""
    server = place.server
    good = server.files[RELEASE + place.file]

    def source(file, prefix):
        url = {"format": "isl_org", "url": server.url + RELEASE + file}
        return [url | {"sha256_prefix": prefix}]

    server.files[RELEASE + "other-00000000.pt"] = good
    hub = {"format": "hf_dpt", "repo": "user/tiny", "file": "gone.safetensors"}
    place.write("wrong_hash", sources=source("other-00000000.pt", "00000000"))
    place.write("gone", sources=source("gone.pt", None))
    place.write("gone_from_hub", sources=[hub | {"sha256_prefix": None}])
    code, out, err = run("wrong_hash", "gone", "gone_from_hub")
    assert code == 1, err
    messages = {x["preset"]: x["message"] for x in place.results}
    assert re.search(r"sent a file with sha256 [0-9a-f]{64}; it should start with 0{8}\. "
                     r"The file was deleted", messages["wrong_hash"])  # fmt: skip
    assert "answers 404" in messages["gone"]
    assert "gone.safetensors" in messages["gone_from_hub"]
    assert all(message in out for message in messages.values())
    assert "3 failed" in out and out.count("FAILED") >= 3
    assert not list((place.folder / "cache" / "downloads").glob("*.pt"))

    server.files[RELEASE + "short.pt"] = good
    place.write("short", sources=source("short.pt", None))
    server.faults = ["cut"] * 40
    code, out, _ = run("short")
    assert code == 1 and "short.pt: " in out and "the part received is kept" in out


def test_failures_of_conversion_are_told_by_tensor(place, run):
    tensors = dict(place.tensors)
    lost = "neck.reassemble_stage.layers.0.resize.bias"
    del tensors[lost]
    tensors["neck.something.weight"] = np.zeros(3, "float32")
    place.server.files[HUB + "lost.safetensors"] = save(tensors)
    hub = {"format": "hf_dpt", "repo": "user/tiny", "file": "lost.safetensors"}
    other = {"format": "isl_org", "repo": "user/tiny", "file": "model.safetensors"}
    place.write("lost", sources=[hub])
    place.write("other_format", sources=[other])
    code, out, _ = run("lost", "other_format")
    assert code == 1
    lost_row, other_row = place.results
    assert lost in lost_row["message"] and "neck.something.weight" in lost_row["message"]
    assert lost_row["leftover"] == 1
    assert "of the format 'hf_dpt'; the preset says 'isl_org'" in other_row["message"]


@pytest.mark.compiles_long
def test_wrong_numbers_are_noticed(place, run):
    """A network whose blocks are tapped one too early has all tensors in their place."""
    preset = place.write()
    config = preset["architecture"]["encoder_config"] | {"num_heads": 2}
    architecture = preset["architecture"] | {"encoder_config": config}
    hub = {"format": "hf_dpt", "repo": "user/tiny", "file": "model.safetensors"}
    place.write(sources=[hub], architecture=architecture)
    code, out, _ = run(NAME)
    (found,) = place.results
    assert code == 1 and found["difference"] > 1e-2
    assert re.search(r"differs from that of transformers [\d.]+ by \S+ of its standard", out)
    # Verified by a wider tolerance, it is not by the usual one.
    code, out, _ = run(NAME, "--tolerance", "1000")
    assert code == 0 and "1 of 1 verified" in out
    code, out, _ = run(NAME)
    assert code == 1 and "verified before" not in out


def test_without_references_and_wrong_use(place, run, monkeypatch):
    """As from a wheel: the file is converted, and the table says that nothing was compared."""
    monkeypatch.setattr(original, "_tests", lambda: None)
    url = {"format": "isl_org", "url": place.server.url + RELEASE + place.file}
    place.write(sources=[url])
    code, out, _ = run(NAME)
    assert code == 0 and "no reference here" in row(out, place.file)
    assert "0 of 1 verified, 1 converted without comparison" in out
    assert "tests/parity of a checkout, not in a wheel" in place.results[0]["message"]

    assert run()[0] == 2 and run(NAME, "--all")[0] == 2
    code, _, err = run("dpt_larg")
    assert code == 2 and "Did you mean 'dpt_large'?" in err
    place.write("bundled", sources=[])
    code, _, err = run("bundled")
    assert code == 2 and "come with the package" in err
    place.write("huge", sources=[url], parameters=10**16)
    code, _, err = run("huge")
    assert code == 2 and "GB free, and" in err


@pytest.mark.compiles_long
def test_fewer_images(place, run):
    """A result of one image is no result of three, but the other way round it is."""
    url = {"format": "isl_org", "url": place.server.url + RELEASE + place.file}
    place.write(sources=[url])
    code, out, _ = run(NAME, "--pictures", "1")
    (found,) = place.results
    assert code == 0 and found["pictures"] == 1 and found["sizes"] == [[64, 64]]
    assert "1 of 1 verified" in out and "1 of them compared on fewer than three images" in out
    code, out, _ = run(NAME)
    (found,) = place.results
    assert code == 0 and "verified before" not in out and "fewer than" not in out
    assert found["pictures"] == 3 and len(found["sizes"]) == 3
    code, out, _ = run(NAME, "--pictures", "1")
    assert code == 0 and "1 of 1 files were verified before" in out


def test_small_files_come_first(place, run):
    """What is wrong with a machine shows early; the table is in the order of the names."""
    url = {"format": "isl_org", "url": place.server.url + RELEASE + "gone.pt"}
    place.write("large", sources=[url], parameters=3_000_000)
    place.write("small", sources=[url | {"url": url["url"] + "2"}], parameters=200_000)
    code, out, _ = run("large", "small")
    assert code == 1
    assert re.findall(r"\[./2\] (\w+)", out) == ["small", "large"]
    assert re.findall(r"^(large|small) ", out, re.M) == ["large", "small"]
    with pytest.raises(ValueError, match="`pictures` must be 1 to 3. Received: 4"):
        verify.verify(["small"], place.folder / "out", pictures=4)


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path, network):
    """In processes of their own, as a user has it."""
    with Server().running() as server:
        _killed_and_run_again(Checkout(tmp_path, server, network))


def _killed_and_run_again(checkout):
    hub = {"format": "hf_dpt", "repo": "user/tiny", "file": "model.safetensors"}
    names = ["first", "second"]
    for name in names:
        checkout.write(name, sources=[hub])
    process = checkout.start(*names)
    for line in process.stdout:
        if line.startswith("[2/2]"):
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert [x["preset"] for x in checkout.results] == ["first"]
    time.sleep(1.5)  # its worker notices
    checkout.server.requests.clear()
    code, out, _ = checkout.verify(*names)
    assert code == 0 and "1 of 2 files were verified before" in out
    assert "[1/1] second" in out and "2 of 2 verified" in out
    assert [x.name for x in (checkout.folder / "out").iterdir()] == ["verification.json"]

    # Another content under the same address is another file.
    content = checkout.server.files[HUB + "model.safetensors"]
    checkout.server.files[HUB + "model.safetensors"] = content[:-4] + content[-8:-4]
    code, out, _ = checkout.verify("first")
    assert "verified before" not in out and "[1/1] first" in out
