"""The README's Python and its command lines run, with the embedded preset for the large ones."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image
from snippets import make_photos, python_blocks, run_blocks

from keras_dpt import cli
from keras_dpt.presets import preset_names

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "presets" / "README.md", *ROOT.glob("docs/guides/*.md")]
LINES = sorted(
    {
        line
        for page in PAGES
        for line in re.findall(r"^ *(keras-dpt .*)$", page.read_text("utf-8"), re.MULTILINE)
    }
)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with the files that the README speaks of."""
    monkeypatch.chdir(tmp_path)
    make_photos("photo.jpg", "holiday/beach.jpg", "frames/1.png")
    return tmp_path


@pytest.mark.slow
def test_python_blocks_run(workplace):
    blocks = [_quick(block) for block in python_blocks(README)]
    assert len(blocks) >= 3
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (1, 64, 64, 3)).astype("float32")
    data = (images, np.ones((1, 64, 64, 1), "float32"))
    run_blocks(blocks, "README.md", {"train_ds": data})
    with Image.open("depth.png") as picture:
        assert picture.size == (512, 256)
    with Image.open("overlay.png") as picture:
        assert picture.width > 512 and picture.height == 256
    assert (workplace / "my_preset" / "config.json").is_file()


def _quick(block):
    block = block.replace("scales=(0.5, 1.0, 1.5)", "scales=(1.0,)")
    return block.replace("model.fit(train_ds)", "model.fit(*train_ds)")


def command(name):
    """The arguments of the README's line that begins so, with a small preset and photo."""
    (line,) = re.findall(rf"^ *(keras-dpt {name}.*)$", README, flags=re.MULTILINE)
    small = {
        "dpt_hybrid_nyu": "metric_preset",
        "dpt_hybrid": "dpt_mini_nyuv2",
        "dpt_large_ade20k": "dpt_mini_camvid",
        "street.jpg": "photo.jpg",
        "--multi-scale": "--sliding-window 300",  # twelve looks would take long
    }
    for large, instead in small.items():
        line = line.replace(large, instead)
    return shlex.split(line)[1:]


@pytest.mark.slow
def test_depth_command_runs(workplace):
    assert cli.main(command("depth photo")) == 0
    assert len(list((workplace / "out").glob("*_color.png"))) == 3


@pytest.mark.slow
def test_segment_command_runs(workplace):
    assert cli.main(command("segment")) == 0
    names = ["photo_labels.png", "photo_overlay.png"]
    assert sorted(file.name for file in (workplace / "out").iterdir()) == names


@pytest.mark.parametrize("line", LINES)
def test_the_command_line_knows_what_the_pages_write(line):
    cli._parser().parse_args(shlex.split(line)[1:])


@pytest.mark.slow
def test_points_commands_run(workplace):
    trimesh = pytest.importorskip("trimesh")
    motorcycle = pytest.importorskip("skimage.data").stereo_motorcycle()[0]
    for name in ("photo.jpg", "room.jpg"):
        Image.fromarray(motorcycle).save(name)
    # The metric presets are large; a tiny network stands for them.
    tiny.depth(kind="metric_depth", scale=0.01, shift=0.1).save_to_preset("metric_preset")
    assert cli.main(command("points room")) == 0
    assert cli.main(command("points photo")) == 0
    for name in ("room.glb", "photo.ply"):
        scene = trimesh.load(name)
        cloud = scene if name.endswith("ply") else next(iter(scene.geometry.values()))
        assert len(cloud.vertices) == motorcycle.shape[0] * motorcycle.shape[1]


@pytest.mark.slow
def test_video_command_runs(workplace):
    pytest.importorskip("av")
    from keras_dpt.apps.video import Video, video_writer

    with Image.open("photo.jpg") as photo, video_writer("clip.mp4", 25) as write:
        for i in range(3):
            write(np.asarray(photo)[:, 4 * i : 4 * i + 256], i / 25)
    assert cli.main(command("depth clip")) == 0
    assert len(list((workplace / "out" / "clip_depth").glob("*.png"))) == 3
    colored = Video("out/clip_color.mp4")
    assert len(colored) == 3
    assert next(iter(colored)).pixels.shape == (256, 512, 3)  # two squares side by side


def test_the_table_names_every_preset():
    for name in preset_names():
        assert f"| `{name}` |" in README
