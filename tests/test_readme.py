"""The README's Python and command lines run as they are printed, with networks that are at hand."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from snippets import make_clip, python_blocks, run_blocks

from keras_dpt import cli, video
from keras_dpt.presets import preset_names, read_preset

ROOT = Path(__file__).parent.parent
GUIDES = ROOT / "docs" / "guides"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def command(beginning, page=README):
    """The arguments of the page's line that begins so."""
    (line,) = re.findall(rf"^ *(keras-dpt {beginning}.*)$", page, flags=re.MULTILINE)
    return shlex.split(line)[1:]


def guide(name):
    return (GUIDES / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_python_blocks_run(workplace):
    blocks = python_blocks(README)
    assert len(blocks) >= 5
    assert not Path("color.png").exists()
    names = run_blocks(blocks, "README.md")
    with Image.open("color.png") as picture, Image.open("examples/motorcycle.jpg") as photo:
        assert picture.size == photo.size
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
    assert cli.main(command("points room", guide("points"))) == 0
    assert cli.main(command("points photo.jpg --output", guide("points"))) == 0
    Path("photo.ply").rename("known.ply")
    assert cli.main(command("points photo.jpg --fov", guide("points"))) == 0
    for name in ("room.glb", "known.ply", "photo.ply"):
        scene = trimesh.load(name)
        cloud = scene if name.endswith("ply") else next(iter(scene.geometry.values()))
        count = len(cloud.vertices)  # the second leaves out what is too far away
        assert count == 480 * 640 or (name == "known.ply" and 0 < count < 480 * 640)


@pytest.mark.slow
def test_video_command_runs(workplace):
    make_clip()
    assert cli.main(command("depth clip", guide("video"))) == 0
    assert len(list((workplace / "out" / "clip_depth").glob("*.png"))) == 3
    colored = video.Video("out/clip_color.mp4")
    assert len(colored) == 3
    assert next(iter(colored)).pixels.shape == (256, 512, 3)  # two squares side by side


def rows(page):
    """The rows of a page's tables that begin with a name in code, as lists of cells."""
    lines = re.findall(r"^\| `\w+` \|.*\|$", page, flags=re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_names_every_preset():
    table = {cells[0].strip("`"): cells for cells in rows(guide("presets"))}
    assert set(table) == set(preset_names())
    for name, (_, predicts, _, parameters, *_) in table.items():
        preset = read_preset(name)
        assert parameters == f"{preset['parameters'] / 1e6:.1f} M", name
        assert predicts.startswith("for training") == (preset["weights"] == "encoder_only"), name


def test_what_the_readme_says_of_presets_is_what_they_are():
    table = rows(README)
    assert len(table) >= 10
    for name, predicts, download, licence, checked in table:
        preset = read_preset(name.strip("`"))
        size = f"{4 * preset['parameters'] / 1e9:.1f} GB"  # 4 bytes a parameter
        assert download == (size if preset["sources"] else "bundled"), name
        assert licence == preset["weights_license"], name
        assert checked == ("not yet" if preset["sources"] else "trained here"), name
        kinds = {"relative": "relative_inverse_depth", "metres": "metric_depth", "labels": "labels"}
        assert kinds[re.match(r"\w+", predicts)[0]] == preset["output"]["kind"], name


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 170


LINKED = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.stem)
def test_links_lead_to_files(page):
    """On the repository's own pages; the site's, with their anchors, are checked by its build."""
    for target in re.findall(r"\]\(((?!\w+:|#)[^)#\s]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_sample_photo_is_the_one_of_the_demo():
    data = pytest.importorskip("skimage.data")
    with Image.open(ROOT / "examples" / "motorcycle.jpg") as photo:
        difference = np.asarray(photo, "float32") - data.stereo_motorcycle()[0]
    assert np.abs(difference).mean() < 5  # it is a JPEG
