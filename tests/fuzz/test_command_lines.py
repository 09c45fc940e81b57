"""Command lines of all kinds: an exit code and a message; no traceback, nothing half-written."""

import contextlib
import io
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tiny
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_dpt import cli

from .tally import attempt

VALUES = ["", "-", "0", "-1", "1", "7", "1.5", "nan", "inf", "-inf", "1e9", "99999999999999999999"]
VALUES += ["a" * 300, "../x", "~nobody/x", "photo.jpg", "broken.jpg", "depth.png", "empty"]
VALUES += [
    "map.npy",
    "out.glb",
    "*.jpg",
    "[",
    "png",
    "onnx",
    "32x32",
    "0x0",
    "x",
    "ü€\udc80",
    "a\nb",
]
VALUES += [
    "mixed_bfloat16",
    "float99",
    "hf://",
    "kaggle://a/b",
    "hf://../..",
    "preset",
    "task.json",
]
COMMANDS = {
    "depth": (
        ["photo.jpg", "-o", "out", "--preset", "preset"],
        ["--format", "--colormap", "--sliding-window", "--batch-size", "--align", "--max-frames"],
    ),
    "points": (
        ["photo.jpg", "-o", "out.ply", "--preset", "preset", "--fov", "60"],
        ["--depth", "--known", "--focal", "--intrinsics", "--max-depth", "--max-points"],
    ),
    "evaluate": (
        ["--preset", "preset", "--protocol", "metric_depth", "--data", "data", "--no-report"],
        ["--image-size", "--dtype", "--split", "--unit", "--limit", "--batch-size", "-o"],
    ),
    "study": (["attention", "photo.jpg", "--preset", "preset"], ["--point", "--blocks", "-o"]),
    "tabulate": (["result.json"], ["--into"]),
    "convert": (["preset", "out"], ["--preset"]),
    "presets": ([], ["--commercial-ok"]),
    "export": (
        ["--preset", "preset", "--format", "onnx", "-o", "out.onnx", "--image-size", "0x0"],
        ["--batch", "--dynamic"],
    ),
}
# None of other folders: what one of these commands may do well must not be done there.
NO_PATHS = st.text(st.characters(exclude_characters="/\0", exclude_categories=()), max_size=12)
VISIBLE = {"out", "out.ply", "out.glb", "evaluations", "studies"}


@st.composite
def command_lines(draw):
    """A command line that works, with words of it left out, replaced, added or repeated."""
    name = draw(st.sampled_from(sorted(COMMANDS)))
    words, options = COMMANDS[name]
    words = list(words)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(words) - 1, 0)))
        kind = draw(st.sampled_from(["drop", "replace", "option", "repeat", "option"]))
        value = draw(st.sampled_from(VALUES) | NO_PATHS)
        if kind == "option":
            count = draw(st.integers(0, 3))
            words += [draw(st.sampled_from(options)), *[value] * count]
        elif words and kind == "drop":
            del words[at]
        elif words and kind == "replace":
            words[at] = value
        elif words:
            words.insert(at, words[at])
    return [name, *words]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), "uint8")
    model = tiny.depth(preprocessor=tiny.preprocessor((32, 32)))
    model.save_to_preset(str(folder / "preset"))
    Image.fromarray(pixels).save(folder / "photo.jpg")
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "empty").mkdir()
    np.save(folder / "map.npy", np.ones((40, 48), "float32"))
    (folder / "result.json").write_text("{}")
    return folder


def listing(folder):
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*")}


def run(words):
    """Exit code, and all that was printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            code = cli.main(words)
        except SystemExit as end:  # argparse's own: usage, --help, --version
            code = end.code
    return code, printed.getvalue()


@pytest.mark.compiles_long
def test_command_lines(folder, monkeypatch):
    monkeypatch.setenv("KERAS_DPT_OFFLINE", "1")
    monkeypatch.setenv("KERAS_DPT_CACHE", str(folder.parent / "cache"))

    codes, before = set(), listing(folder)

    @settings(max_examples=max(10, settings().max_examples))
    @given(command_lines())
    @example(["depth", *COMMANDS["depth"][0]])  # works: few others of few do
    @example(["depth", "photo.jpg", "-o", "preset"])  # into a folder that is there
    def check(words):
        with attempt("command lines") as tried:
            with tempfile.TemporaryDirectory(dir=folder.parent) as place:
                # A copy: some of these commands may well write into a folder of it.
                shutil.copytree(folder, place, dirs_exist_ok=True)
                with contextlib.chdir(place):
                    code, printed = run(words)
                after = listing(place)
            codes.add(code)
            tried.refused = code == 2
            assert code in (0, 1, 2), (words, code, printed)
            assert "Traceback" not in printed
            assert code != 2 or printed.strip(), words
            with tried.looking_for_remains():
                assert not before - after, words
                new = after - before
                assert not any(Path(name).name.startswith(".") for name in new), (words, new)
                visible = VISIBLE - ({"out"} if words[0] == "depth" else set())
                assert code != 2 or {Path(name).parts[0] for name in new} <= visible, (words, new)

    check()
    assert {0, 2} <= codes
