"""What all tests share: a quick compiler, and the same random numbers every time."""

import csv
import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest

# PyTorch's build for CUDA brings Triton. Loaded after TensorFlow, as transformers do, it ends the
# process (Triton 3.7 and TensorFlow 2.21).
with suppress(ImportError):
    import triton  # noqa: F401

# KERAS_BACKEND picks the backend. TensorFlow is always there, keras-hub needs it: keep it quiet.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the machine; threads of theirs would only stand in each other's way.
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")


def pytest_configure(config):
    # The default suite compiles hundreds of tiny functions and runs each once: on JAX, optimising
    # them takes five times as long as it could ever save. Full-size runs want it.
    if "not slow" in config.getoption("markexpr"):
        os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")


# A test that takes more CPU seconds than this on a backend is not in that backend's default suite.
LONG = 1.0


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    table = Path(__file__).with_name("durations.csv")
    with table.open(newline="", encoding="utf-8") as file:
        taken = {row["test"]: float(row.get(backend) or 0) for row in csv.DictReader(file)}
    for item in items:
        # Where every step is compiled, each of these takes half a minute to run for milliseconds.
        if backend != "torch" and item.get_closest_marker("compiles_long"):
            item.add_marker("slow")
        if taken.get(item.nodeid, 0) > LONG:
            item.add_marker("thorough")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """For `.ci/durations.py`: the CPU seconds of each test, where KERAS_DPT_DURATIONS says."""
    begin = sum(os.times()[:4])  # with those of the processes that a test waits for
    yield
    if folder := os.environ.get("KERAS_DPT_DURATIONS"):
        backend = os.environ.get("KERAS_BACKEND", "tensorflow")
        path = Path(folder, f"{backend}-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}.txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{sum(os.times()[:4]) - begin:.2f} {item.nodeid}\n")


@pytest.fixture(autouse=True)
def seed():
    """Seed everything random, if Keras was imported; tests of plain NumPy need not import it."""
    if keras := sys.modules.get("keras"):
        keras.utils.set_random_seed(0)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with the files that the documents name, and a cache with the presets."""
    import snippets

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_DPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_DPT_OFFLINE", "1")
    snippets.prepare_folder()
    return tmp_path
