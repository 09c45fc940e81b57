"""Code blocks of Markdown pages, made small enough to run as tests."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import keras_dpt

# On the networks' full input sizes it would take long; the steps are the same.
_SMALL = "; model.preprocessor.image_size = (64, 64)"


def python_blocks(text: str) -> list[str]:
    """The Python blocks of a Markdown page, with the embedded preset at a small size."""
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    return [_small(block) for block in blocks]


def _small(block: str) -> str:
    block = block.replace("dpt_hybrid", "dpt_mini_nyuv2")
    return re.sub(r"(model = .*from_preset\([^)]*\))", rf"\1{_SMALL}", block)


def run_blocks(blocks: list[str], name: str, names: dict) -> None:
    """Run blocks one after the other, as a reader would; each sees the names of those before."""
    for block in blocks:
        exec(compile(block, name, "exec"), names)


def make_photos(*names: str) -> None:
    """Write a photo of 256 x 512 pixels under each of these names."""
    skimage_data = pytest.importorskip("skimage.data")
    photo = Image.fromarray(skimage_data.astronaut()[:256, :512])
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        photo.save(name)


def make_depth_folder(images: str, depths: str, count: int = 2) -> None:
    """Write photos, and for each a slope from 4 metres down to 1 as 16-bit millimetres."""
    make_photos(*(f"{images}/{i}.jpg" for i in range(count)))
    slope = np.broadcast_to(np.linspace(4, 1, 256)[:, None], (256, 512))
    Path(depths).mkdir()
    for i in range(count):
        keras_dpt.DepthMap(slope, "metric_depth").save(f"{depths}/{i}.png")
