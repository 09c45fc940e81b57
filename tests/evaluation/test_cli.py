"""`keras-dpt evaluate`, `tabulate` and `study` on a folder of files, with a tiny network."""

import json
import signal

import cv2
import numpy as np
import pytest
import tiny
from PIL import Image

from keras_dpt import cli
from keras_dpt.cli import evaluate, study
from keras_dpt.evaluation import Evaluation


@pytest.fixture(autouse=True)
def commands(monkeypatch):
    monkeypatch.setattr(cli, "COMMANDS", (evaluate, study))


@pytest.fixture(scope="module")
def model():
    return tiny.depth(preprocessor=tiny.preprocessor((32, 32), keep_aspect_ratio=False))


@pytest.fixture(scope="module")
def preset(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("preset") / "tiny"
    model.save_to_preset(str(folder))
    return str(folder)


@pytest.fixture
def loaded(model, monkeypatch):
    """The model is there already: loading it takes as long as all the rest."""
    monkeypatch.setattr(evaluate, "load_model", lambda args, protocol=None: model)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four photos of 24 x 32 with depth in millimetres, 0 in a corner."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "rgb").mkdir()
    (folder / "depth").mkdir()
    depth = np.linspace(1000, 3000, 24 * 32).reshape(24, 32).astype("uint16")
    depth[:5, :5] = 0
    for i, photo in enumerate(tiny.photos(4, 24, 32)):
        Image.fromarray(photo).save(folder / f"rgb/{i}.png")
        cv2.imwrite(str(folder / f"depth/{i}.png"), depth * (i + 1))
    return str(folder)


def test_evaluate(preset, data, tmp_path, capsys):
    out = tmp_path / "out"
    argv = ["evaluate", "--preset", preset, "--protocol", "aligned_depth", "--data", data]
    argv += ["-o", str(out), "--batch-size", "1"]
    assert cli.main(argv) == 0
    printed = capsys.readouterr().out
    assert "aligned_depth" in printed and "AbsRel" in printed
    result = json.loads((out / "tiny_aligned_depth.json").read_text())
    assert result["name"] == "aligned_depth" and result["provenance"]["preset"] == "tiny"
    assert [image["pixels"] for image in result["images"]] == [24 * 32 - 25] * 4
    assert (out / "tiny_aligned_depth.html").read_text().startswith("<!doctype html>")


def test_runs_again(loaded, preset, data, tmp_path, monkeypatch):
    """A run that was cut off goes on, unless --fresh; a complete one does not."""
    out = tmp_path / "out"
    argv = ["evaluate", "--preset", preset, "--protocol", "aligned_depth", "--data", data]
    argv += ["-o", str(out), "--batch-size", "1", "--no-report", "--limit", "1"]
    # A shell that starts the tests in the background has interrupts ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for more, cut, resumed in (([], 0, 0), ([], 0, 0), ([], 1, 1), (["--fresh"], 1, 0)):
        if cut:  # after the image was measured
            with monkeypatch.context() as patched:
                patched.setattr(Evaluation, "save", lambda *_: signal.raise_signal(signal.SIGINT))
                assert cli.main(argv) == 130
        assert cli.main([*argv, *more]) == 0
        result = json.loads((out / "tiny_aligned_depth.json").read_text())
        assert result["provenance"]["images_resumed"] == resumed
        assert result["name"] is None and result["deviations"] == ["1 of 4 images"]
    assert not list(out.glob("*.html"))


def test_tabulate(loaded, preset, data, tmp_path, capsys):
    out = tmp_path / "out"
    argv = ["evaluate", "--preset", preset, "--protocol", "aligned_depth", "--data", data]
    assert cli.main([*argv, "-o", str(out), "--batch-size", "1", "--no-report"]) == 0
    readme = tmp_path / "README.md"
    begin, end = "<!-- evaluations: begin -->\n", "<!-- evaluations: end -->\n"
    readme.write_text(f"# Title\n{begin}old\n{end}more\n")
    table = ["tabulate", str(out / "tiny_aligned_depth.json"), "--into", str(readme)]
    capsys.readouterr()
    assert cli.main(table) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("| model | protocol | images |")
    assert readme.read_text() == f"# Title\n{begin}{printed}{end}more\n"
    readme.write_text("# Title\n")
    assert cli.main(table) == 2
    assert "lacks the lines" in capsys.readouterr().err
    assert readme.read_text() == "# Title\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--protocol", "zero_shot_nyu"], "means 654 images"),
        (["--protocol", "nyu_eigen"], "compares metres"),
        (["--protocol", "nyu"], "There is no protocol 'nyu'"),
        (["--protocol", "labels"], "the model predicts relative_inverse_depth"),
    ],
)
def test_refusals(loaded, preset, data, tmp_path, capsys, arguments, message, monkeypatch):
    from keras_dpt.evaluation import sources

    monkeypatch.setattr(sources, "open_source", lambda *args: _folder(data))
    argv = ["evaluate", "--preset", preset, "--data", data, "-o", str(tmp_path / "out")]
    assert cli.main([*argv, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json*"))


def _folder(data):
    from keras_dpt import datasets

    return datasets.folder(f"{data}/rgb", f"{data}/depth", "metric_depth", unit="mm")


HOSTILE_RESULTS = {
    "list": "[]",
    "nothing": "{}",
    "nested": "[" * 100_000,
    "no metrics": ("summary", "metrics", {}),
    "metric is text": ("summary", "metrics", {"abs_rel": "good"}),
    "count is text": ("summary", "counted", "all"),
    "excluded is a list": ("summary", "excluded", []),
    "protocol without metrics": ("protocol", "metrics", []),
    "protocol of numbers": ("protocol", "name", 7),
    "groups of numbers": ("protocol", "groups", [1, 2]),
    "preset is a list": ("provenance", "preset", []),
}


@pytest.mark.parametrize("kind", HOSTILE_RESULTS)
def test_tabulate_of_other_files(loaded, preset, data, tmp_path, capsys, kind):
    out = tmp_path / "out"
    command = ["evaluate", "--preset", preset, "--protocol", "aligned_depth", "--data", data]
    if isinstance(content := HOSTILE_RESULTS[kind], tuple):
        command += ["--unnamed", "--no-report", "-o", str(out)]
        assert cli.main(command) == 0
        (file,) = out.glob("*.json")
        part, field, value = content
        result = json.loads(file.read_text())
        result[part][field] = value
        file.write_text(json.dumps(result))
    else:
        file = tmp_path / "result.json"
        file.write_text(content)
    capsys.readouterr()
    assert cli.main(["tabulate", str(file)]) == 2
    message = capsys.readouterr().err
    assert file.name in message and message.count("\n") == 1


@pytest.mark.parametrize("size", ["0", "-1"])
def test_batches_of_nothing(loaded, preset, data, tmp_path, capsys, size):
    command = ["evaluate", "--preset", preset, "--protocol", "aligned_depth", "--data", data]
    command += ["--unnamed", "-o", str(tmp_path), "--batch-size", size]
    assert cli.main(command) == 2
    assert "`batch_size` must be at least 1" in capsys.readouterr().err


def test_missing_data(loaded, preset, tmp_path, capsys):
    argv = ["evaluate", "--preset", preset, "--protocol", "aligned_depth"]
    assert cli.main(argv) == 2
    assert "--data DIR is missing: where any images" in capsys.readouterr().err
    assert cli.main([*argv, "--data", str(tmp_path)]) == 2
    assert "Expected one of the folders rgb, images" in capsys.readouterr().err


def test_list_of_protocols(capsys):
    assert cli.main(["evaluate", "--protocol", "list"]) == 0
    assert "nyu_eigen " in capsys.readouterr().out


@pytest.mark.slow
def test_study(preset, data, tmp_path, capsys):
    argv = ["study", "resolution", "--preset", preset, "--protocol", "aligned_depth"]
    argv += ["--data", data, "--factors", "1", "2", "--limit", "1", "-o", str(tmp_path)]
    assert cli.main(argv) == 0
    assert "Figure 4" in capsys.readouterr().out
    rows = json.loads((tmp_path / "resolution.json").read_text())["rows"]
    assert [row["image"] for row in rows] == ["32x32", "64x64"]
    photo = f"{data}/rgb/0.png"
    argv = ["study", "attention", photo, "--preset", preset, "-o", str(tmp_path)]
    assert cli.main([*argv, "--point", "0.5", "0.5"]) == 0
    assert (tmp_path / "0_attention.png").stat().st_size > 1000
    assert "0_attention.png" in capsys.readouterr().out


@pytest.mark.slow
def test_training_study(data, tmp_path):
    argv = ["study", "readout", "--preset", "dpt_mini_nyuv2", "--protocol", "aligned_depth"]
    root, name = data.rsplit("/", 1)
    argv += ["--data", root, "--split", name, "--train-split", name, "--train-limit", "2"]
    argv += ["--epochs", "1", "--image-size", "32", "32", "--limit", "1", "-o", str(tmp_path)]
    assert cli.main(argv) == 0
    assert len(json.loads((tmp_path / "readout.json").read_text())["rows"]) == 3
