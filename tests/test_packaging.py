"""A wheel, a source archive and a plain checkout all find the presets and their weights."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from keras_dpt.presets import preset_names, preset_path

ROOT = Path(__file__).parent.parent
# Loads `presets.py` by itself: the package's own import would bring Keras along.
PROGRAM = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("presets", sys.argv[1])
presets = importlib.util.module_from_spec(spec)
spec.loader.exec_module(presets)
print(presets.preset_path("dpt_mini_nyuv2"), *presets.preset_names())
"""


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The source archive, and the wheel that is built from it, not from the checkout."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return next(out.glob("*.tar.gz")), next(out.glob("*.whl"))


def _presets_of(package, cwd):
    """Embedded folder and names that `presets.py` of an unpacked package finds."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(package / "keras_dpt" / "presets.py")],
        check=True,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={"PYTHONPATH": str(package)},
    )
    folder, *names = result.stdout.split()
    return Path(folder), names


def test_a_wheel_brings_presets_and_embedded_weights(archives, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(archives[1]).extractall(site)
    folder, names = _presets_of(site, tmp_path)
    assert names == preset_names()
    assert site in folder.parents
    ours = Path(preset_path("dpt_mini_nyuv2"))
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in ours.iterdir())
    modules = {file.relative_to(ROOT) for file in (ROOT / "keras_dpt").rglob("*.py")}
    assert modules == {file.relative_to(site) for file in (site / "keras_dpt").rglob("*.py")}
    assert not (site / "tests").exists() and not (site / "presets").exists()
    scripts = next(site.glob("*.dist-info/entry_points.txt")).read_text()
    assert "keras-dpt = keras_dpt.cli:main" in scripts


def test_a_source_archive_is_a_checkout(archives, tmp_path):
    with tarfile.open(archives[0]) as archive:
        archive.extractall(tmp_path, filter="data")
    checkout = next(tmp_path.iterdir())
    folder, names = _presets_of(checkout, tmp_path)
    assert names == preset_names()
    assert folder == checkout / "presets" / "dpt_mini_nyuv2"
    assert (checkout / "LICENSE").is_file() and (checkout / "README.md").is_file()


def test_embedded_weights_stay_small():
    for name in preset_names():
        if folder := preset_path(name):
            size = sum(file.stat().st_size for file in Path(folder).glob("*.weights.h5"))
            assert size <= 12_000_000, name
