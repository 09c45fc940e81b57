"""`examples/predict_with_ray.py` on two local workers, of which one is killed."""

import csv
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import keras_dpt

pytestmark = pytest.mark.slow
pytest.importorskip("ray")
psutil = pytest.importorskip("psutil")

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "predict_with_ray.py"
COUNT = 12


@pytest.fixture(scope="module")
def pictures():
    """Encoded PNG files by name."""
    rng = np.random.default_rng(0)
    files = {}
    for i in range(COUNT):
        pixels = np.kron(rng.integers(0, 256, (8, 10, 3)), np.ones((16, 16, 1))).astype("uint8")
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        # The same stem in two folders, and twice in one.
        files[f"{'ab'[i % 2]}/{i // 2}.{'png' if i % 3 else 'jpg'}"] = file.getvalue()
    return files


@pytest.fixture
def folder(tmp_path, pictures):
    for name, content in pictures.items():
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "photos"


def start(*arguments, path=""):
    paths = [str(path), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, str(EXAMPLE), *map(str, arguments)],
        # Ray's workers wait for whatever else runs here, unless they are told not to.
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "RAY_worker_niceness": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments, path=""):
    process = start(*arguments, path=path)
    output, errors = process.communicate(timeout=400)
    return process.returncode, output, errors


def report(out):
    with open(out / "report.csv", newline="", encoding="utf-8") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def results(out):
    return {
        path.relative_to(out).as_posix().removesuffix(".depth.png"): path
        for path in out.rglob("*.depth.png")
    }


def workers(process):
    """The processes of the example that hold a model."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "Predictor" in " ".join(child.cmdline())]


def test_a_killed_worker_loses_no_image(folder, tmp_path, pictures):
    (folder / "broken.jpg").write_text("no picture")
    out = tmp_path / "maps"
    process = start(folder, "--out", out, "--workers", 2, "--batch-size", 1)
    end = time.monotonic() + 300
    while not results(out) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    victims = workers(process)
    assert victims, "no worker is left to kill"
    done_before = len(results(out))
    os.kill(victims[0].pid, signal.SIGKILL)
    output, errors = process.communicate(timeout=300)
    assert done_before < COUNT, "killed too late to show anything"
    assert process.returncode == 1, errors
    assert f"{COUNT} of {COUNT + 1} images written" in output
    assert results(out).keys() == pictures.keys()
    rows = report(out)
    assert rows.keys() == pictures.keys() | {"broken.jpg"}
    assert [name for name, row in rows.items() if row["error"]] == ["broken.jpg"]
    model = keras_dpt.DPTDepth.from_preset("dpt_mini_nyuv2")
    for name, path in list(results(out).items())[:3]:
        depth = keras_dpt.DepthMap.load(path).values
        expected = model.predict_image(Image.open(io.BytesIO(pictures[name]))).values
        assert np.abs(depth - expected).max() < 1e-3 * np.ptp(expected)


CRASHING = """
import os
from PIL import Image

def opened(file, *arguments, open=Image.open, **options):
    content = open_bytes(file)
    if content == b"CRASH":
        os.abort()
    return open(file, *arguments, **options)

def open_bytes(file):
    if hasattr(file, "read"):
        content = file.read(6)
        file.seek(0)
        return content
    with open(file, "rb") as stream:
        return stream.read(6)

Image.open = opened
"""


def test_a_file_that_crashes_the_decoder_is_named(folder, tmp_path, pictures):
    """Its worker dies, as a bug in a decoder would have it; all other photos come out."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(CRASHING)
    (folder / "crash.png").write_bytes(b"CRASH")
    out = tmp_path / "maps"
    code, output, errors = run(folder, "--out", out, "--batch-size", 4, path=tmp_path / "site")
    assert code == 1 and f"{COUNT} of {COUNT + 1} images written" in output, errors
    assert results(out).keys() == pictures.keys()
    failed = {name: row["error"] for name, row in report(out).items() if row["error"]}
    assert failed == {"crash.png": "reading it ended 2 workers"}
    assert not list(out.glob(".*"))


def test_a_second_run_does_nothing_again(folder, tmp_path):
    out = tmp_path / "maps"
    few = folder / "a"
    assert run(few, "--out", out)[0] == 0
    times = {path: path.stat().st_mtime_ns for path in results(out).values()}
    missing = next(iter(times))
    missing.unlink()
    code, output, _ = run(few, "--out", out)
    assert code == 0 and "6 of 6" in output
    assert [p for p in times if p.stat().st_mtime_ns != times[p]] == [missing]


@pytest.mark.parametrize("form", ["bytes", "hugging face"])
def test_parquet(tmp_path, pictures, form):
    import pyarrow as pa
    import pyarrow.parquet as pq

    names, contents = list(pictures)[:4], list(pictures.values())[:4]
    contents[1] = b"no picture"
    table = tmp_path / "photos.parquet"
    if form == "bytes":
        pq.write_table(pa.table({"jpeg": contents, "file": names}), table)
        columns = ["--image-column", "jpeg", "--name-column", "file"]
    else:
        images = [{"bytes": x, "path": n} for x, n in zip(contents, names, strict=True)]
        pq.write_table(pa.table({"image": images}), table)
        columns = []
    code, output, errors = run(table, "--out", tmp_path / "maps", *columns)
    assert code == 1 and "3 of 4" in output, errors
    assert results(tmp_path / "maps").keys() == set(names) - {names[1]}
    assert "no image that Pillow knows" in report(tmp_path / "maps")[names[1]]["error"]


def test_errors_come_before_ray(tmp_path, folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = tmp_path / "photos.parquet"
    pq.write_table(pa.table({"image": [b"x", b"y"], "name": ["../x", "same"]}), table)
    (tmp_path / "empty").mkdir()
    out = ("--out", tmp_path / "maps")
    for arguments, words in (
        ((tmp_path / "absent", *out), "no such file or folder"),
        ((tmp_path / "empty", *out), "holds no image"),
        ((table, *out), "--name-column is needed"),
        ((table, *out, "--name-column", "title"), "no column 'title'"),
        ((table, *out, "--name-column", "name"), "outside the output"),
        ((folder, *out, "--preset", "dpt_tiny"), "dpt_tiny"),
    ):
        code, _, errors = run(*arguments)
        assert code == 1 and words in errors, errors
        assert "Traceback" not in errors
        assert not (tmp_path / "maps").exists()
