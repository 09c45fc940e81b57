"""The README's Python and command lines run as they are printed, with networks that are at hand."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from snippets import python_blocks, run_blocks

from keras_dpt import cli
from keras_dpt.presets import preset_names

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def command(beginning):
    """The arguments of the README's line that begins so."""
    (line,) = re.findall(rf"^ *(keras-dpt {beginning}.*)$", README, flags=re.MULTILINE)
    return shlex.split(line)[1:]


@pytest.mark.slow
def test_python_blocks_run(workplace):
    blocks = python_blocks(README)
    assert len(blocks) >= 5
    names = run_blocks(blocks, "README.md")
    assert names["keras_dpt"].DepthMap.load("depth.png").values.shape == (480, 640)
    with Image.open("overlay.png") as picture:
        assert picture.width > 640 and picture.height == 480
    assert (workplace / "my_preset" / "config.json").is_file()


@pytest.mark.slow
def test_depth_command_runs(workplace):
    assert cli.main(command("depth photo")) == 0
    assert len(list((workplace / "out").glob("*_color.png"))) == 3


@pytest.mark.slow
def test_segment_command_runs(workplace):
    assert cli.main(command("segment")) == 0
    names = ["street_labels.png", "street_overlay.png"]
    assert sorted(file.name for file in (workplace / "out").iterdir()) == names


@pytest.mark.slow
def test_points_commands_run(workplace):
    trimesh = pytest.importorskip("trimesh")
    assert cli.main(command("points room")) == 0
    assert cli.main(command("points photo")) == 0
    for name in ("room.glb", "photo.ply"):
        scene = trimesh.load(name)
        cloud = scene if name.endswith("ply") else next(iter(scene.geometry.values()))
        assert len(cloud.vertices) == 480 * 640


@pytest.mark.slow
def test_video_command_runs(workplace):
    pytest.importorskip("av")
    from keras_dpt.video import Video, video_writer

    with Image.open("photo.jpg") as photo, video_writer("clip.mp4", 25) as write:
        for i in range(3):
            write(np.asarray(photo)[:256, 4 * i : 4 * i + 256], i / 25)
    assert cli.main(command("depth clip")) == 0
    assert len(list((workplace / "out" / "clip_depth").glob("*.png"))) == 3
    colored = Video("out/clip_color.mp4")
    assert len(colored) == 3
    assert next(iter(colored)).pixels.shape == (256, 512, 3)  # two squares side by side


def test_the_table_names_every_preset():
    for name in preset_names():
        assert f"| `{name}` |" in README
