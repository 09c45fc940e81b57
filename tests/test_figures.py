"""The figures of the documentation are what their script draws from the bundled presets."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
SCRIPT, FOLDER = ROOT / "examples" / "figures.py", ROOT / "docs" / "figures"
NAMES = (
    *("depth", "windows", "metric", "metric_preset", "errors", "segmentation", "confidence"),
    *("points", "video", "shapes", "attention"),
)
# CamVid's street is the figure of the guide to segmentation.
ONLY_IN_GALLERY = {"segmentation"}


@pytest.mark.parametrize("name", NAMES)
def test_figures_are_small_and_shown(name):
    path = FOLDER / f"{name}.jpg"
    assert path.stat().st_size < 150_000
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert f"](figures/{name}.jpg)" in page
    guides = [path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "guides").glob("*.md")]
    shown = any(f"](../figures/{name}.jpg)" in guide for guide in guides)
    assert shown == (name not in ONLY_IN_GALLERY)


@pytest.mark.slow
def test_the_script_draws_them(tmp_path):
    pytest.importorskip("skimage")
    pytest.importorskip("sklearn")
    subprocess.run([sys.executable, SCRIPT, "--out", tmp_path], check=True, cwd=ROOT)
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(NAMES)
    for name in NAMES:
        drawn, kept = (Image.open(folder / f"{name}.jpg") for folder in (tmp_path, FOLDER))
        assert drawn.size == kept.size
        # Backends and versions of matplotlib differ by a little; another photo or map by a lot.
        difference = np.asarray(drawn, float) - np.asarray(kept, float)
        assert np.abs(difference).mean() < 4, name
