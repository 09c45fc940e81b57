"""The pins of `make test-oldest` are the lower bounds, and every dependency has one."""

import runpy
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OLDEST = runpy.run_path(str(ROOT / ".ci" / "oldest.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_lower_bounds():
    oldest = OLDEST["oldest"]
    assert oldest("keras>=3.15,<4") == "keras==3.15"
    assert oldest("ray[data]>=2.40") == "ray[data]==2.40"
    assert oldest("jax") is None


def test_every_dependency_has_one():
    pins = OLDEST["pins"](PROJECT)
    assert len(pins) == len(PROJECT["dependencies"]) and all("==" in pin for pin in pins)


def test_one_without_is_named():
    with pytest.raises(ValueError, match="'numpy' needs a lower bound"):
        OLDEST["pins"]({"dependencies": ["keras>=3", "numpy"]})


def test_the_table_in_contributing_is_that_of_the_project():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for pin in OLDEST["pins"](PROJECT):
        name, version = pin.split("==")
        assert f"| `{name}` | {version} |" in text
