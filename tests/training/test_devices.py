"""Backends and devices against each other, each in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_dpt.errors import TrainingError
from keras_dpt.training import distributed, shard

SCRIPT = str(Path(__file__).with_name("train_tiny.py"))
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def losses_of(folder, backend, *arguments):
    """Run the script; losses `(processes, steps)`, and sums of all weights at the end."""
    folder.mkdir()
    launcher = TORCHRUN if "--distribute" in arguments and backend == "torch" else []
    command = [sys.executable, *launcher, SCRIPT, str(folder / "process_"), *arguments]
    environment = os.environ | {"KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1"}
    environment |= {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("process_*"))]
    return np.array([r["losses"] for r in results]), np.array([r["weights"] for r in results])


def test_not_distributed_is_alone():
    with distributed(False):
        assert shard() == (0, 1)


@pytest.mark.skipif(keras.config.backend() != "torch", reason="other backends need no launcher")
def test_torch_says_how_it_wants_to_be_started(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(TrainingError, match="torchrun --nproc-per-node 2"), distributed():
        pass


@pytest.mark.slow
def test_two_devices_train_like_one(tmp_path):
    """JAX: DataParallel; TensorFlow: MirroredStrategy; PyTorch: two gloo processes."""
    backend = keras.config.backend()
    (expected,), (expected_weights,) = losses_of(tmp_path / "one", backend)
    losses, weights = losses_of(tmp_path / "two", backend, "--distribute")
    assert len(losses) == (2 if backend == "torch" else 1)
    epochs = expected.reshape(10, 2).sum(axis=1)  # of the same eight pictures in any order
    assert epochs[-1] < epochs[0]
    # Sums are taken in another order, and 20 steps make that larger.
    np.testing.assert_allclose(losses.mean(axis=0), expected, rtol=5e-4)
    for process in weights:
        np.testing.assert_allclose(process, expected_weights, rtol=1e-3)


@pytest.mark.slow
def test_two_devices_go_on_where_they_stopped(tmp_path):
    backend = keras.config.backend()
    expected, expected_weights = losses_of(tmp_path / "whole", backend, "--distribute")
    resumed = ["--distribute", "--resume", str(tmp_path / "state")]
    first, _ = losses_of(tmp_path / "first", backend, *resumed, "--epochs", "4")
    rest, weights = losses_of(tmp_path / "rest", backend, *resumed)
    assert first.shape[1] == 8 and rest.shape[1] == 12
    np.testing.assert_allclose(np.concatenate([first, rest], axis=1), expected, rtol=1e-5)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="once is enough")
def test_backends_have_the_same_loss_curve(tmp_path):
    names = ("tensorflow", "jax", "torch")
    curves = [losses_of(tmp_path / name, name)[0][0] for name in names]
    for curve in curves[1:]:
        np.testing.assert_allclose(curve, curves[0], rtol=1e-3)
