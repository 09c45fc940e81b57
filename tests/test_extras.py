"""Messages that name an optional package say how to install it here."""

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from keras_dpt import extras

ROOT = Path(__file__).parent.parent
KNOWN = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
    "optional-dependencies"
]


class Installed:
    """Stands for the metadata of an installed package."""

    requires = ["numpy", "av>=18; extra == 'video'", 'gradio>=6; extra == "demo"']

    def __init__(self, url=None):
        self.url = url

    def read_text(self, name):
        return json.dumps({"url": self.url, "dir_info": {}}) if self.url else None


def installed(monkeypatch, tmp_path, url=None):
    monkeypatch.setattr(extras, "__file__", str(tmp_path / "site" / "keras_dpt" / "extras.py"))
    monkeypatch.setattr(metadata, "distribution", lambda name: Installed(url))
    monkeypatch.setattr(metadata, "requires", lambda name: Installed.requires)


def test_a_clone_is_named():
    assert extras.install_command("video") == f'pip install -e "{ROOT.resolve()}[video]"'


def test_the_clone_that_was_installed_from_is_named_while_it_is_there(monkeypatch, tmp_path):
    clone = tmp_path / "my clone"
    (clone / "keras_dpt").mkdir(parents=True)
    (clone / "pyproject.toml").touch()
    installed(monkeypatch, tmp_path, clone.as_uri())
    assert extras.install_command("video") == f'pip install "{clone}[video]"'
    (clone / "pyproject.toml").unlink()
    assert extras.install_command("video") == 'pip install "av>=18"'


def test_elsewhere_the_packages_are_named(monkeypatch, tmp_path):
    installed(monkeypatch, tmp_path)
    assert extras.install_command("demo") == 'pip install "gradio>=6"'


def test_what_the_command_names_is_what_pip_would_install():
    """Without an index and without work: pip only has to understand the requirement."""
    (requirement,) = re.findall(r'"(.+)"', extras.install_command("samples"))
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps"]
    command += ["--no-build-isolation", "--no-index", "-e", requirement]
    done = subprocess.run(command, capture_output=True, text=True)
    if "No module named pip" in done.stderr:
        pytest.skip("this environment has no pip")
    assert done.returncode == 0, done.stderr
    assert "Would install keras-dpt" in done.stdout
    assert "does not provide the extra" not in done.stdout + done.stderr


def _texts():
    for pattern in (
        "*.md",
        "docs/**/*.md",
        "presets/*.md",
        "keras_dpt/**/*.py",
        "examples/**/*.py",
    ):
        for path in ROOT.glob(pattern):
            yield path, path.read_text(encoding="utf-8")


def test_every_extra_that_is_named_exists():
    named = set()
    for path, text in _texts():
        extras_here = re.findall(r"pip install (?:-e )?\"?\.\[([\w,-]+)\]", text)
        extras_here += re.findall(r"install_command\([\"']([\w-]+)", text)
        for extra in ",".join(extras_here).split(","):
            assert not extra or extra in KNOWN, f"{path}: {extra}"
            named.add(extra)
        # There is no package of this name in an index: the install is from a clone.
        assert not re.search(r"pip install \"?keras-dpt", text), path
    assert {"video", "points", "demo", "export", "ray"} <= named


def test_the_extra_of_a_command_has_what_it_imports():
    assert {re.split(r"\W", package)[0] for package in KNOWN["demo"]} == {"gradio", "trimesh"}
