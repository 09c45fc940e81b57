"""Code blocks of documents, run as they are printed, in a folder with the files that they name."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

import keras_dpt
from keras_dpt.conversion.convert import CARD
from keras_dpt.loading.cache import _recipe as recipe
from keras_dpt.loading.cache import preset_directory
from keras_dpt.presets import preset_path

# Large presets, whose files tests do not fetch: networks that stand for them in the cache.
BUNDLED = {
    "dpt_hybrid": "dpt_mini_nyuv2",
    "dpt_large": "dpt_mini_nyuv2",
    "dpt_large_ade20k": "dpt_mini_camvid",
    "depth_anything_v2_small": "dpt_mini_nyuv2",
    "dpt_beit_large_512": "dpt_mini_nyuv2",
}
EXAMPLES = Path(__file__).parent.parent / "examples"
METRIC = ("dpt_hybrid_nyu", "dpt_hybrid_kitti")


def python_blocks(text: str) -> list[str]:
    """The Python blocks of a Markdown page."""
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def run_blocks(blocks: list[str], name: str) -> dict:
    """Run blocks one after the other, as a reader would; each sees the names of those before."""
    names = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, name, "exec"), names)
    return names


def prepare_folder() -> None:
    """Make the files that the documents name, and a cache with the presets, where we are."""
    motorcycle = pytest.importorskip("skimage.data").stereo_motorcycle()[0]
    photo = Image.fromarray(motorcycle[:480, :640])
    names = ("photo.jpg", "street.jpg", "room.jpg", "holiday/beach.jpg", "frames/1.png")
    for name in (*names, "photos/0.jpg", "photos/1.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        photo.save(name)
    Path("examples").mkdir()
    shutil.copy(EXAMPLES / "motorcycle.jpg", "examples")
    slope = np.broadcast_to(np.linspace(4, 1, 480)[:, None], (480, 640))
    Path("depths").mkdir()
    for name in ("metres.png", "depths/0.png", "depths/1.png"):
        keras_dpt.DepthMap(slope, "metric_depth").save(name)
    Path("labels").mkdir()
    halves = np.repeat(np.arange(2, dtype="uint8"), 240)[:, None].repeat(640, axis=1)
    for name in ("labels/0.png", "labels/1.png"):
        Image.fromarray(halves).save(name)
    for name, bundled in BUNDLED.items():
        _put_into_the_cache(name, lambda folder, bundled=bundled: _copy(bundled, folder))
    metric = tiny.depth(kind="metric_depth", scale=0.01, shift=0.1)
    for name in METRIC:
        _put_into_the_cache(name, lambda folder: metric.save_to_preset(str(folder)))


def make_clip() -> None:
    """Write clip.mp4, three frames of photo.jpg that pan, where we are."""
    pytest.importorskip("av")
    with Image.open("photo.jpg") as photo, keras_dpt.video.video_writer("clip.mp4", 25) as write:
        for i in range(3):
            write(np.asarray(photo)[:256, 4 * i : 4 * i + 256], i / 25)


def _put_into_the_cache(name, write):
    folder = Path("cache", "presets", f"{name}-{recipe(name)[:16]}").absolute()
    write(folder)
    (folder / CARD).touch()
    assert preset_directory(name) == str(folder)


def _copy(bundled, folder):
    shutil.copytree(preset_path(bundled), folder)
