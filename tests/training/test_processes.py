"""Two processes on loopback, as on two hosts, against one with the same batches.

`make test-distributed` runs what takes minutes.
"""

import csv
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
import tiny
from PIL import Image

from keras_dpt import DPTDepth, training
from keras_dpt.errors import TrainingError
from keras_dpt.ops.alone import is_shared, outputs_alone
from keras_dpt.training import distribution, processes

BACKEND = keras.config.backend()
TINY = Path(__file__).with_name("train_tiny.py")
RECIPE = Path(__file__).parents[2] / "examples" / "finetune_depth.py"
TIMEOUT = 900


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def hosts(arguments, count=2):
    """`(command, environment)` of each host, as docs/guides/several_machines.md says."""
    ports = free_ports(count)
    for index in range(count):
        command = [sys.executable, *map(str, arguments)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PROCESS": str(index)}
        if BACKEND == "torch":
            launcher = f"-m torch.distributed.run --nnodes {count} --node-rank {index}".split()
            launcher += (
                f"--nproc-per-node 1 --master-addr 127.0.0.1 --master-port {ports[0]}".split()
            )
            command[1:1] = launcher
        elif BACKEND == "tensorflow":
            cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
            task = {"type": "worker", "index": index}
            environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
        else:
            place = (f"127.0.0.1:{ports[0]}", str(count), str(index))
            environment |= dict(zip(processes.JAX_VARIABLES, place, strict=True))
        yield command, environment


def run_all(commands):
    """Run `(command, environment)` pairs side by side; what each printed."""
    started = [
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for command, environment in commands
    ]
    try:
        printed = [process.communicate(timeout=TIMEOUT)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    codes = [process.returncode for process in started]
    assert codes == [0] * len(codes), "\n".join(text[-3000:] for text in printed)
    return printed


def alone(arguments):
    environment = {k: v for k, v in os.environ.items() if k != "TF_CONFIG"}
    run_all([([sys.executable, *map(str, arguments)], environment | {"OMP_NUM_THREADS": "1"})])


@pytest.mark.slow
def test_two_hosts_train_like_one(tmp_path):
    """The loss of every step within 1e-4 of its value, sums of weights within 1e-3."""
    out = tmp_path / "one"
    alone([TINY, out, "--epochs", 4])
    (expected,) = [json.loads(path.read_text()) for path in tmp_path.glob("one*")]
    run_all(hosts([TINY, tmp_path / "two", "--distribute", "--epochs", 4]))
    found = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("two*"))]
    assert [result["shard"] for result in found] == [[0, 2], [1, 2]]
    losses = np.array([result["losses"] for result in found])
    if BACKEND == "torch":  # a process knows the loss of its own part there
        assert np.abs(losses[0] - losses[1]).min() > 1e-3
    else:
        np.testing.assert_array_equal(losses[0], losses[1])
    np.testing.assert_allclose(losses.mean(axis=0), expected["losses"], rtol=1e-4)
    for result in found:
        np.testing.assert_allclose(result["weights"], expected["weights"], rtol=1e-3)


@pytest.fixture
def made(tmp_path):
    """A folder as `keras_dpt.datasets.nyuv2` takes, and a tiny preset that knows a part of it."""
    model = tiny.depth(preprocessor=tiny.preprocessor((64, 64)))
    model.save_to_preset(str(tmp_path / "preset"))
    for split, count in (("train", 12), ("val", 6)):
        photos = tiny.photos(count, 64, 64, seed=count)
        for i, guess in enumerate(model.predict_images(list(photos))):
            known = (guess.values - guess.values.min()) / np.ptp(guess.values)
            inverse = 0.3 + 0.4 * known + 0.2 * photos[i, ..., 0] / 255
            for kind, pixels in (("rgb", photos[i]), ("depth", (1000 / inverse).astype("uint16"))):
                path = tmp_path / split / kind / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return tmp_path


@pytest.mark.slow
def test_a_recipe_on_two_hosts(made):
    """Cut off and continued, it validates as one process does; the main process alone writes."""
    recipe = [RECIPE, f"nyuv2:{made}", "--preset", made / "preset", "--size", "64x64"]
    recipe += ["--batch-size", 4, "--learning-rate", 1e-3]
    alone([*recipe, "--epochs", 5, "--out", made / "one"])
    for epochs in (2, 5):
        shared = [*recipe, "--distribute", "--epochs", epochs, "--out", made / "two"]
        first, second = run_all(hosts(shared))
        assert "fine-tuned:" in first and "fine-tuned:" not in second
        assert "Epoch" in first and "Epoch" not in second
    logs = [
        list(csv.DictReader((made / name / "log.csv").read_text().splitlines()))
        for name in ("one", "two")
    ]
    assert [row["epoch"] for row in logs[1]] == list("01234")
    for column in ("val_loss", "val_abs_rel", *(["loss"] if BACKEND != "torch" else [])):
        expected, found = ([float(row[column]) for row in log] for log in logs)
        np.testing.assert_allclose(found, expected, rtol=2e-3)
    assert (made / "two" / "sheets" / "epoch_00005.png").is_file()
    names = [
        sorted(p.name for p in (made / name).rglob("*") if p.is_file()) for name in ("one", "two")
    ]
    assert [n for n in names[0] if "tfevents" not in n] == [
        n for n in names[1] if "tfevents" not in n
    ]
    photo = tiny.photos(1, 64, 64)[0]
    depths = [
        DPTDepth.from_preset(str(made / n / "preset")).predict_image(photo) for n in ("one", "two")
    ]
    np.testing.assert_allclose(depths[0].values, depths[1].values, rtol=2e-2)


@pytest.mark.parametrize(
    "task, expected",
    [(("chief", 0), (0, 3)), (("worker", 0), (1, 3)), (("worker", 1), (2, 3))],
)
def test_the_place_in_tf_config(task, expected):
    cluster = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    config = {"cluster": cluster, "task": dict(zip(("type", "index"), task, strict=True))}
    assert processes.worker_of(json.dumps(config)) == expected


@pytest.mark.parametrize(
    "config",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
    ],
)
def test_a_wrong_tf_config(config):
    with pytest.raises(TrainingError, match='must be like {"cluster".*Received: '):
        processes.worker_of(config)


@pytest.mark.skipif(BACKEND != "jax", reason="these variables are JAX's")
def test_jax_variables_that_do_not_go_together(monkeypatch):
    for name in processes.JAX_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(processes.JAX_VARIABLES[0], "10.0.0.1:1234")
    with (
        pytest.raises(TrainingError, match="NUM_PROCESSES.*only .*ADDRESSES"),
        training.distributed(),
    ):
        pass
    monkeypatch.setenv(processes.JAX_VARIABLES[1], "two")
    monkeypatch.setenv(processes.JAX_VARIABLES[2], "0")
    with pytest.raises(TrainingError, match="cannot join: .*'two'"), training.distributed():
        pass


def test_a_worker_cuts_its_part_for_its_devices():
    tf = pytest.importorskip("tensorflow")
    images, targets = np.arange(8 * 3).reshape(8, 3), np.arange(8)
    data = tf.data.Dataset.from_tensor_slices((images, targets)).batch(4)
    parts = list(data.flat_map(lambda *batch: processes._parts(batch, 2)).as_numpy_iterator())
    assert [len(part[0]) for part in parts] == [2, 2, 2, 2]
    np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), images)
    np.testing.assert_array_equal(np.concatenate([part[1] for part in parts]), targets)
    data = tf.data.Dataset.from_tensor_slices(images).batch(4)  # without targets
    parts = list(data.flat_map(lambda *batch: processes._parts(batch, 2)).as_numpy_iterator())
    np.testing.assert_array_equal(np.stack(parts), images.reshape(4, 2, 3))


class Group:
    """Two processes in one: the other has gradients of 3, and numbers greater by one."""

    def __init__(self):
        self.sent = []

    def get_world_size(self):
        return 2

    def all_reduce(self, gradient):
        gradient.add_(3.0)

    def broadcast(self, value, src):
        self.sent.append((value, src))

    def all_gather(self, every, mine):
        for i, place in enumerate(every):
            place.copy_(mine + i)


only_torch = pytest.mark.skipif(BACKEND != "torch", reason="other backends join by themselves")


@only_torch
def test_gradients_are_means_over_processes(monkeypatch):
    group = Group()
    monkeypatch.setattr(distribution, "_torch_group", lambda: group)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.5), "mse")
    before = keras.ops.convert_to_numpy(model.layers[0].kernel)[:, 0]
    callback, x = training.AverageGradients(), np.array([[1.0, 2.0]], "float32")
    model.fit(x, np.zeros((1, 1)), epochs=1, verbose=0, callbacks=[callback])
    ours = 2 * (x @ before) * x[0]
    after = keras.ops.convert_to_numpy(model.layers[0].kernel)[:, 0]
    np.testing.assert_allclose(after, before - 0.5 * (ours + 3) / 2, rtol=1e-5, atol=1e-6)
    # All begin with what the first one has, and nothing stays behind.
    everything = [*model.variables, *model.optimizer.variables]
    assert [value is v.value for (value, _), v in zip(group.sent, everything, strict=True)]
    assert {source for _, source in group.sent} == {0}
    model.fit(x, np.zeros((1, 1)), epochs=1, verbose=0)
    again = keras.ops.convert_to_numpy(model.layers[0].kernel)[:, 0]
    np.testing.assert_allclose(again, after - 0.5 * 2 * (x @ after) * x[0], rtol=1e-5, atol=1e-6)


def test_gradients_of_one_process_are_its_own():
    callback = training.AverageGradients()
    callback.on_train_begin()
    assert callback.hooks == []
    callback.on_train_end()


@only_torch
def test_numbers_of_all_processes(monkeypatch):
    import torch

    group = Group()
    for name in ("get_world_size", "all_gather"):
        monkeypatch.setattr(torch.distributed, name, getattr(group, name), raising=False)
    assert processes.numbers_of_all(5) == {5, 6}
    assert processes.numbers_of_all(2**24 + 1) == {2**24 + 1, 2**24 + 2}  # no float32


@only_torch
@pytest.mark.parametrize("is_initialized", [True, False])
def test_the_group_of_torch(is_initialized, monkeypatch):
    import torch

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: is_initialized)
    joined = is_initialized and torch.distributed.is_available()
    assert distribution._torch_group() is (torch.distributed if joined else None)


@pytest.mark.parametrize("count", [1, 2])
def test_what_is_done_alone(count, monkeypatch):
    """In a thread of its own, where strategies and distributions do not reach."""
    monkeypatch.setattr(distribution, "_place", (0, count))
    threads = []

    def work(x, factor):
        threads.append(threading.current_thread())
        return factor * x

    assert distribution.alone(work, 3, factor=2) == 6
    apart = count == 2 and BACKEND != "torch"
    assert (threads[0] is not threading.current_thread()) == apart


@pytest.mark.skipif(BACKEND == "torch", reason="there, predict is a process's own")
def test_one_process_predicts_alone():
    model = tiny.depth()
    assert not is_shared(model)
    images = tiny.images(2, 64, 96)
    np.testing.assert_allclose(outputs_alone(model, images), tiny.run(model, images), rtol=1e-4)


def test_processes_must_see_the_same(monkeypatch):
    distribution.check_same(3, "{}")
    monkeypatch.setattr(distribution, "_place", (0, 2))
    monkeypatch.setattr(distribution, "numbers_of_all", lambda number: {number})
    distribution.check_same(3, "{}")
    monkeypatch.setattr(distribution, "numbers_of_all", lambda number: {number, 0})
    with pytest.raises(TrainingError, match="found 0 and 3 epochs"):
        distribution.check_same(3, "found {} epochs")
