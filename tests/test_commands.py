"""What `make test` is made of: a summary over backends, and PyTorch without a refusal."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TESTS = """
import os

def test_backend():
    assert os.environ["KERAS_BACKEND"] != "jax"
"""


@pytest.mark.parametrize(
    ("backends", "code"), [(["torch", "jax", "tensorflow"], 1), (["torch"], 0)]
)
def test_one_summary_of_all_backends(backends, code, tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, ROOT / ".ci" / "test_backends.py", *backends]
    done = subprocess.run(
        [*command, "--", "-q", "-p", "no:cacheprovider", "test_it.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    summary = done.stdout.partition("===== summary =====\n")[2].splitlines()
    assert [line.split()[0] for line in summary] == backends
    for line in summary:
        passed = not line.startswith("jax")
        assert ("passed" if passed else "FAILED (pytest exit code 1)") in line
        assert ("1 passed in" if passed else "1 failed in") in line


def test_durations_are_merged_by_backend(tmp_path):
    durations = runpy.run_path(ROOT / ".ci" / "durations.py")
    (tmp_path / "jax-gw0.txt").write_text("1.25 tests/a.py::test_one[a b]\n0.20 tests/a.py::new\n")
    (tmp_path / "jax-gw1.txt").write_text("0.50 tests/a.py::test_one[a b]\n")
    old = {
        "tests/a.py::test_one[a b]": {"torch": 1.5, "jax": 9.0},
        "tests/a.py::gone_on_jax": {"jax": 3.0},
        "tests/a.py::torch_alone": {"torch": 2.0},
    }
    assert durations["merged"](old, durations["measured"](tmp_path)) == {
        "tests/a.py::test_one[a b]": {"torch": 1.5, "jax": 1.75},
        "tests/a.py::torch_alone": {"torch": 2.0},
    }


def test_table_of_mutants():
    mutants = runpy.run_path(ROOT / ".ci" / "mutants.py")
    diff = "--- a.py\n+++ a.py\n@@ -1 +1 @@\n-x = 1\n+x = 2"
    result = {
        "total": 90,
        "codes": {"caught": 1, "survived": 0, "unreached": 33, "slow": -24, "crashed": -11},
        "diffs": {"survived": diff, "unreached": diff},
    }
    table = mutants["report"]({"losses": result})
    assert "| losses | 90 | 5 | 3 | 1 | 1 | 1 | 60% |" in table
    assert "`survived`: survived\n\n```diff\n@@ -1 +1 @@\n-x = 1\n+x = 2\n```" in table
    assert "`unreached`: unreached" in table and "slow" not in table and "---\n+++" not in table
    # Where the settings of one package go.
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert settings.count("[tool.mutmut]\n") == 1


def test_the_table_of_durations_names_tests_that_exist():
    table = runpy.run_path(ROOT / ".ci" / "durations.py")["read_table"]()
    assert len(table) > 100
    sources = {}
    for test in table:
        file, name = test.split("::", 1)
        source = sources.setdefault(file, (ROOT / file).read_text(encoding="utf-8"))
        function = name.partition("[")[0].split("::")[-1]
        assert f"def {function}(" in source, f"{test}: make durations"


# Stands for a Python whose pip reaches what `PIP_KNOWS` says.
PIP = """#!/usr/bin/env bash
echo "pip $*" >> calls
case "$*" in
  *--extra-index-url*) [[ $PIP_KNOWS == *cpu-index* ]] ;;
  *--constraint*) [[ $PIP_KNOWS == *local* ]] ;;
  *torch==*) [[ $PIP_KNOWS == *cuda* ]] ;;
  *) [[ $PIP_KNOWS == *older* ]] ;;
esac
"""


@pytest.mark.skipif(os.name != "posix", reason="make test is for POSIX")
@pytest.mark.parametrize(
    ("knows", "calls", "said"),
    [
        ("local cpu-index cuda", 1, ""),
        ("cpu-index cuda", 2, "its CPU build, from https://download.pytorch.org/whl/cpu\n"),
        ("cuda", 3, "about 3 GB to download"),
        ("older", 4, "about 3 GB to download"),
    ],
)
def test_pytorch_is_never_refused(knows, calls, said, tmp_path):
    python = tmp_path / "python"
    python.write_text(PIP)
    python.chmod(0o755)
    done = subprocess.run(
        [ROOT / ".ci" / "install_torch.sh", python, "torch==2.13.0"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PIP_KNOWS": knows},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(said) if said.endswith("\n") else said in done.stdout
    made = (tmp_path / "calls").read_text().splitlines()
    assert len(made) == calls
    for call in made[:2]:
        assert "no-cuda.txt" in call
