"""Commands that are killed or told to end anywhere: the next run makes what one run makes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from .driver import POINTS, names, spread

FILES = ("keras_dpt/files.py", "cli/photos.py", "maps/depth_map.py", "cli/evaluate.py")
FILES += ("evaluation/journal.py", "evaluation/evaluate.py", "evaluation/result.py")
FILES += ("conversion/convert.py", "models/from_preset.py", "saving_lib.py:__setitem__")
MOVES = ("files.py:folder_renewed", "files.py:temporary_folder")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A preset, photos and their depths."""
    place = tmp_path_factory.mktemp("place")
    tiny.depth(preprocessor=tiny.preprocessor((32, 32))).save_to_preset(str(place / "tiny"))
    depth = np.linspace(1000, 3000, 24 * 32).reshape(24, 32).astype("uint16")
    for folder in ("data/rgb", "data/depth"):
        (place / folder).mkdir(parents=True)
    for i, photo in enumerate(tiny.photos(4, 24, 32)):
        Image.fromarray(photo).save(place / f"data/rgb/{i}.png")
        Image.fromarray(depth * (i + 1)).save(place / f"data/depth/{i}.png")
    return place


def depth(place, out):
    return ["depth", place / "data/rgb", "-o", out, "--preset", place / "tiny", "--batch-size", 1]


def evaluate(place, out):
    words = ["evaluate", "--preset", place / "tiny", "--protocol", "aligned_depth", "-o", out]
    return [*words, "--data", place / "data", "--batch-size", 1, "--no-report"]


def content(folder):
    """What the files of a folder say, but for times and how often a run was taken up again."""
    said = {}
    for name in names(folder):
        data = (Path(folder) / name).read_bytes()
        if name.endswith(".json") and b'"images"' in data:
            result = json.loads(data)
            for key in ("date", "seconds", "images_resumed", "command"):
                result["provenance"].pop(key, None)
            data = result
        said[name] = data
    return said


def is_hidden(name):
    return any(part.startswith(".") for part in Path(name).parts)


def killed_and_repeated(runner, command, place, tmp_path):
    """Kill a command at some lines, run it again, and compare with an undisturbed run."""
    words = [str(word) for word in command(place, tmp_path / "whole")]
    ended = runner("cli", *words, files=FILES)
    assert ended["code"] == 0, ended["output"]
    whole = content(tmp_path / "whole")
    assert whole
    out = tmp_path / "out"
    words = [str(word) for word in command(place, out)]
    kept = []
    for i, at in enumerate(spread(ended["lines"], POINTS)):
        by = "TERM" if i % 3 == 2 else "KILL"
        died = runner("cli", *words, files=FILES, at=at, by=by)
        left = content(out) if out.exists() else {}
        # Told before it begins, while it reads its arguments, a process just ends.
        assert died["code"] in ([-9] if by == "KILL" else [143] if left else [143, -15]), died
        for name, data in left.items():
            if name.endswith(".jsonl"):
                kept.append(data.count(b"\n") - 1)
            elif is_hidden(name):
                assert by == "KILL", f"{name} is left after SIGTERM before line {at}"
            else:
                assert data == whole[name], f"{name} is not whole, killed before line {at}"
        again = runner("cli", *words)
        assert again["code"] == 0, (at, again["output"])
        assert content(out) == whole, at
        shutil.rmtree(out)
    return kept


@pytest.mark.slow
def test_photos(runner, place, tmp_path):
    killed_and_repeated(runner, depth, place, tmp_path)


@pytest.mark.slow
def test_evaluations(runner, place, tmp_path):
    kept = killed_and_repeated(runner, evaluate, place, tmp_path)
    assert len(set(kept)) > 1, "not killed between images"


@pytest.mark.slow
def test_what_was_measured_is_not_measured_again(runner, place, tmp_path):
    words = [str(word) for word in evaluate(place, tmp_path)]
    lines = runner("cli", *words, "--fresh", files=FILES)["lines"]
    result = tmp_path / "tiny_aligned_depth.json"
    result.unlink()
    assert runner("cli", *words, files=FILES, at=lines * 2 // 3)["code"] == -9
    (journal,) = tmp_path.glob("*.jsonl")
    measured = len(journal.read_text().splitlines()) - 1
    assert measured > 0 and not result.exists()
    assert runner("cli", *words)["code"] == 0
    assert json.loads(result.read_text())["provenance"]["images_resumed"] == measured


@pytest.mark.slow
def test_presets_saved_over_others(runner, tmp_path):
    """Killed while it is written, a preset is the old one, the new one or refused, no mixture."""
    from keras_dpt import DPTDepth
    from keras_dpt.errors import WeightsError

    def weights(folder):
        return [np.asarray(x) for x in DPTDepth.from_preset(str(folder)).get_weights()]

    for name, seed in (("old", 1), ("new", 2)):
        assert runner("save", tmp_path / name, seed)["code"] == 0
    wanted = [weights(tmp_path / name) for name in ("old", "new")]
    lines = runner("save", tmp_path / "count", 2, files=MOVES)["lines"]
    seen = set()
    for at in spread(lines, 2 * POINTS):
        folder = tmp_path / "preset"
        shutil.copytree(tmp_path / "old", folder)
        (folder / "mine.txt").write_text("stays")
        assert runner("save", folder, 2, files=MOVES, at=at)["code"] == -9
        try:
            found = weights(folder)
        except WeightsError:
            seen.add("refused")
        else:
            same = [all(map(np.array_equal, found, other)) for other in wanted]
            assert any(same), f"a mixture of two models, killed before line {at}"
            seen.add(same.index(True))
        assert runner("save", folder, 2)["code"] == 0
        assert all(map(np.array_equal, weights(folder), wanted[1]))
        assert names(folder) == sorted([*names(tmp_path / "new"), "mine.txt"])
        shutil.rmtree(folder)
    assert seen >= {0, "refused"}


@pytest.mark.slow
def test_conversions(runner, tmp_path):
    """A folder that is made by conversion is there, complete, or not at all."""
    from conversion.checkpoints import small_tensors
    from safetensors.numpy import save_file

    save_file(small_tensors(), tmp_path / "small.safetensors")
    words = ["convert", str(tmp_path / "small.safetensors")]
    ended = runner("cli", *words, str(tmp_path / "whole"), files=FILES)
    assert ended["code"] == 0, ended["output"]
    for i, at in enumerate(spread(ended["lines"], POINTS)):
        by = "TERM" if i % 3 == 2 else "KILL"
        died = runner("cli", *words, str(tmp_path / "out"), files=FILES, at=at, by=by)
        assert died["code"] in ([-9] if by == "KILL" else [143, -15]), died
        left = {path.name for path in tmp_path.iterdir()} - {"small.safetensors", "whole"}
        if "out" in left:  # ended when the work was done
            assert names(tmp_path / "out") == names(tmp_path / "whole")
        else:
            assert all(map(is_hidden, left)) if by == "KILL" else not left, (at, by, left)
            assert runner("cli", *words, str(tmp_path / "out"))["code"] == 0
        assert names(tmp_path / "out") == names(tmp_path / "whole")
        assert {path.name for path in tmp_path.iterdir()} == {"small.safetensors", "whole", "out"}
        shutil.rmtree(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("command", [depth, evaluate])
def test_two_at_once(command, runner, place, tmp_path):
    """On the same output: both are right, or one is refused with a message."""
    words = [str(word) for word in command(place, tmp_path / "whole")]
    assert runner("cli", *words)["code"] == 0
    words = [str(word) for word in command(place, tmp_path / "out")]
    ended = runner.together(*[("cli", *words)] * 3)
    assert 0 in [job["code"] for job in ended]
    for job in ended:
        assert job["code"] == 0 or "Another run is writing" in job["output"], job
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.slow
def test_two_conversions_at_once(runner, tmp_path):
    from conversion.checkpoints import small_tensors
    from safetensors.numpy import save_file

    save_file(small_tensors(), tmp_path / "small.safetensors")
    words = ["convert", str(tmp_path / "small.safetensors"), str(tmp_path / "out")]
    ended = runner.together(*[("cli", *words)] * 3)
    assert sorted(job["code"] for job in ended) == [0, 2, 2]
    for job in ended:
        assert job["code"] == 0 or f"keras-dpt: Cannot write {tmp_path / 'out'}" in job["output"]
    assert runner("cli", *words[:2], str(tmp_path / "whole"))["code"] == 0
    assert names(tmp_path / "out") == names(tmp_path / "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"small.safetensors", "whole", "out"}
