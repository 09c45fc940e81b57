"""Users without HOME and without an entry of their own, as in some containers."""

import os
import subprocess
import sys
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


@pytest.mark.skipif(os.name == "nt", reason="users are entries of a list on POSIX alone")
def test_keras_hub_is_imported_without_a_home():
    program = (
        "import pwd\n"
        "def nobody(*_): raise KeyError('no entry')\n"
        "pwd.getpwuid = nobody\n"
        "from keras_dpt.hub import keras_hub\n"
    )
    variables = {name: value for name, value in os.environ.items() if name != "HOME"}
    subprocess.run([sys.executable, "-c", program], env=variables, check=True)
