"""`keras-dpt depth`, `points` and videos with networks as Depth Anything's: sides in fourteens."""

from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

import keras_dpt
from keras_dpt import cli

pytestmark = pytest.mark.compiles_long
HEIGHT, WIDTH = 90, 124  # of the photo, no multiples of 14


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with presets `relative` and `metric`, a photo, a clip and a broken photo."""
    place = tmp_path_factory.mktemp("dinov2")
    for name, options in (("relative", {}), ("metric", {"max_depth": 20})):
        model = tiny.depth("DINOv2Encoder", output_resize="bilinear_aligned", **options)
        model.preprocessor = tiny.preprocessor((56, 56), multiple_of=14, size_rule="lower_bound")
        model.save_to_preset(str(place / name))
    frames = tiny.photos(3, HEIGHT, WIDTH)
    Image.fromarray(frames[0]).save(place / "photo.png")
    (place / "broken.png").write_bytes((place / "photo.png").read_bytes()[:200])
    pytest.importorskip("av")
    with keras_dpt.video.video_writer(str(place / "clip.mp4"), 25) as write:
        for i, frame in enumerate(frames):
            write(frame, i / 25)
    return place


@pytest.fixture
def here(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in place.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


@pytest.mark.parametrize("preset", ["relative", "metric"])
def test_photos_and_videos(preset, here, capsys):
    command = ["depth", "photo.png", "broken.png", "clip.mp4", "--preset", preset, "-o", "out"]
    assert cli.main([*command, "--format", "png", "color"]) == 1
    assert "broken.png" in capsys.readouterr().err
    depth = keras_dpt.DepthMap.load("out/photo_depth.png")
    assert depth.values.shape == (HEIGHT, WIDTH) and np.ptp(depth.values) > 0
    if preset == "metric":
        assert depth.kind == "metric_depth" and 0 < depth.values.min() < depth.values.max() < 20
    else:
        assert depth.kind == "relative_inverse_depth" and depth.unit is None
    with Image.open("out/photo_color.png") as picture:
        assert picture.size == (WIDTH, HEIGHT)
    first, *rest = sorted(Path("out/clip_depth").iterdir())
    assert len(rest) == 2
    video = keras_dpt.DepthMap.load(first)
    assert video.values.shape == (HEIGHT, WIDTH) and video.kind == depth.kind
    frames = list(keras_dpt.video.Video("out/clip_color.mp4"))
    assert [frame.pixels.shape for frame in frames] == 3 * [(HEIGHT, WIDTH, 3)]


def test_windows(here):
    command = "depth photo.png --preset relative --format npy -o out --sliding-window 56"
    assert cli.main(command.split()) == 0
    assert np.load("out/photo_depth.npy").shape == (HEIGHT, WIDTH)
    assert cli.main([*command.split()[:-1], "13"]) == 2


def test_points(here, capsys):
    command = ["points", "photo.png", "--fov", "60", "-o", "photo.ply", "--preset"]
    assert cli.main([*command, "relative"]) == 2
    assert "known" in capsys.readouterr().err and not Path("photo.ply").exists()
    assert cli.main([*command, "metric"]) == 0
    assert Path("photo.ply").read_bytes().startswith(b"ply")
    # Two known distances in the order that the network sees make a relative one metric.
    values = keras_dpt.DPTDepth.from_preset("relative").predict_image("photo.png").values
    ends = [np.unravel_index(i, values.shape) for i in (values.argmax(), values.argmin())]
    known = [
        str(x) for (row, column), z in zip(ends, (1, 3), strict=True) for x in (row, column, z)
    ]
    flags = ["--known", *known[:3], "--known", *known[3:]]
    assert cli.main([*command, "relative", *flags]) == 0
    swapped = ["--known", *known[:2], "3", "--known", *known[3:5], "1"]
    Path("photo.ply").unlink()
    assert cli.main([*command, "relative", *swapped]) == 2
    assert not Path("photo.ply").exists()
