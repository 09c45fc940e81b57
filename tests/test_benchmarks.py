"""What benchmarks make of their figures: tables of a recording, and what became slower."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
MACHINE = {"processor": "a", "cores": 2, "versions": {"keras": "3.15.0", "transformers": None}}


def recording(path, milliseconds, ratio, machine=MACHINE, names=("transformers", "keras_dpt jax")):
    rows = [
        {
            "preset": "p",
            "batch": 1,
            "name": name,
            "ratio": r,
            "milliseconds": ms,
            "share": 0.5,
            "seconds": ms / 1000,
            "peak_megabytes": 100.0,
            "peak_memory": 100_000_000,
        }
        for name, ms, r in zip(names, milliseconds, ratio, strict=False)
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "date": "2026-01-02", "rows": rows}))
    return path


def compare(*paths):
    command = [sys.executable, BENCHMARKS / "compare.py", *paths]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    return done.returncode, done.stdout + done.stderr


def test_what_became_slower_is_named(tmp_path):
    before = recording(tmp_path / "before" / "latency.json", (200.0, 100.0), (1.0, 2.0))
    after = recording(tmp_path / "after" / "latency.json", (200.0, 125.0), (1.0, 1.6))
    code, said = compare(before.parent, after.parent)
    assert code == 1
    assert "| p 1 keras_dpt jax | ratio | 2 | 1.6 | 25% |" in said
    assert "| p 1 keras_dpt jax | milliseconds | 100 | 125 | 25% |" in said
    assert "transformers" not in said.partition("|")[2]
    assert compare(before, before)[0] == 0


def test_times_of_two_machines_are_not_compared(tmp_path):
    before = recording(tmp_path / "a.json", (200.0, 100.0), (1.0, 2.0))
    other = MACHINE | {"processor": "slower"}
    after = recording(tmp_path / "b.json", (800.0, 400.0), (1.0, 2.0), other)
    assert compare(before, after)[0] == 0


def test_a_missing_row_and_a_missing_file_are_told(tmp_path):
    before = recording(tmp_path / "a.json", (200.0, 100.0), (1.0, 2.0))
    after = recording(tmp_path / "b.json", (200.0,), (1.0,))
    code, said = compare(before, after)
    assert code == 1
    assert "keras_dpt jax | missing" in said
    code, said = compare(before, tmp_path / "none.json")
    assert code == 1
    assert "Received" in said
    assert "Traceback" not in said


def test_tables_of_a_recording(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    record = runpy.run_path(BENCHMARKS / "record.py")
    recording(tmp_path / "latency.json", (200.0, 100.0), (1.0, 2.0))
    text = record["tables"](tmp_path)
    assert "2026-01-02, a, 2 cores; keras 3.15.0." in text
    assert "| p | 1 | keras_dpt jax | 100 | 2.00 | 50% | 100 |" in text


@pytest.mark.parametrize("name", ["latency", "depth_anything", "midas", "training", "startup"])
def test_what_is_recorded_are_commands_that_exist(name, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    record = runpy.run_path(BENCHMARKS / "record.py")
    script, *arguments = record["command"](name, "x.json")
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    module = runpy.run_path(ROOT / script)
    if parse := module.get("parse_arguments"):
        assert parse().json == "x.json"
