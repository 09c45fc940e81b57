"""Users without HOME and without an entry of their own, as in some containers."""

import os
from pathlib import Path

import pytest

from keras_dpt import hub


def test_imports_find_a_home_and_nothing_else_does(monkeypatch):
    def nowhere():
        if "HOME" not in os.environ:
            raise RuntimeError("Could not determine home directory.")
        return Path(os.environ["HOME"])

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    with hub._somewhere_to_live():
        assert Path.home().is_dir()
    with pytest.raises(RuntimeError):
        Path.home()
