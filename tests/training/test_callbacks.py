import errno
import json
import os
from contextlib import suppress
from unittest import mock

import keras
import numpy as np
import pytest
from keras import ops

from keras_dpt.errors import TrainingError
from keras_dpt.training import KeepBest, Resume, callbacks, optimizer_with_rates, recipe_callbacks
from keras_dpt.training.log import EpochLog

RATES = {"slow/": keras.optimizers.schedules.CosineDecay(0.01, 12), ".": 0.05}


class Numbered(keras.utils.PyDataset):
    """Batches that depend on nothing but epoch and index, as `Batches` are."""

    def __init__(self, epoch=0):
        super().__init__(workers=1)
        self.epoch = epoch

    def __len__(self):
        return 2

    def __getitem__(self, index):
        rng = np.random.default_rng((self.epoch, index))
        return rng.normal(size=(4, 3)).astype("float32"), rng.normal(size=(4, 1)).astype("float32")


class Count(keras.callbacks.Callback):
    """Gives the next epoch its own batches; raises in the middle of epoch `killed_in`."""

    def __init__(self, data, killed_in=None):
        super().__init__()
        self.data, self.killed_in = data, killed_in

    def on_epoch_begin(self, epoch, logs=None):
        self.data.epoch = self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now == self.killed_in and batch == 1:
            raise KeyboardInterrupt


def compiled(seed=0):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(8, activation="tanh", name="slow"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(1),
        ]
    )
    model.compile(optimizer_with_rates(RATES, use_ema=True, ema_momentum=0.8), "mse")
    return model


def run(folder, epochs, seed=0, killed_in=None):
    """What a recipe does: goes on where `folder` says, and returns model and losses."""
    model, data = compiled(seed), Numbered()
    callbacks = [*recipe_callbacks(folder, "loss", averaged=True), Count(data, killed_in)]
    first = data.epoch = callbacks[0].restore(model)  # Keras looks at a batch before it starts
    with suppress(KeyboardInterrupt):
        model.fit(
            data, epochs=epochs, initial_epoch=first, shuffle=False, verbose=0, callbacks=callbacks
        )
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.CSVLogger):
            callback.csv_file.close()  # which killing a process does
    return model, first


def numbers(model):
    return [ops.convert_to_numpy(v) for v in [*model.variables, *model.optimizer.variables]]


def test_resumed_training_equals_an_uninterrupted_one(tmp_path):
    """Weights, averages, moments, schedule, dropout's random numbers: all go on."""
    expected, _ = run(tmp_path / "whole", 5)
    _, first = run(tmp_path / "cut", 5, killed_in=3)
    assert first == 0
    model, first = run(tmp_path / "cut", 5, seed=1)  # a seed of its own must not matter
    assert first == 3
    for a, b in zip(numbers(model), numbers(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    logs = [
        np.genfromtxt(tmp_path / f / "log.csv", delimiter=",", names=True) for f in ("whole", "cut")
    ]
    np.testing.assert_array_equal(logs[1]["epoch"], range(5))
    np.testing.assert_allclose(logs[1]["loss"], logs[0]["loss"], rtol=1e-5)


def test_only_the_last_whole_state_is_kept(tmp_path):
    run(tmp_path, 3)
    names = sorted(path.name for path in tmp_path.glob("*state*"))
    assert names == ["state_00003.weights.h5", "state_00003.weights.npz"]
    assert not list(tmp_path.glob("*unfinished*")) and not list(tmp_path.glob(".*"))
    # What a process that was killed while writing leaves behind does not count.
    (tmp_path / "unfinished.weights.h5").write_bytes(b"half a file")
    assert Resume(tmp_path).restore(compiled()) == 3


def test_a_state_of_another_model_is_refused(tmp_path):
    run(tmp_path, 1)
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    other.compile("sgd", "mse")
    with pytest.raises(TrainingError, match="state_00001.weights.h5 does not fit.*another folder"):
        Resume(tmp_path).restore(other)


def adapted():
    model = compiled()
    model.get_layer("slow").enable_lora(2)
    model.compile(keras.optimizers.Adam(0.05), "mse")
    return model


def train_adapted(folder, epochs):
    """The model and its history, as `Resume` goes on with it."""
    model, resume = adapted(), Resume(folder)
    first = resume.restore(model)
    data = Numbered(first)
    options = {"epochs": epochs, "initial_epoch": first, "shuffle": False, "verbose": 0}
    fit = model.fit(data, callbacks=[resume, Count(data)], **options)
    return model, fit.history["loss"]


def test_adapters_go_on(tmp_path):
    """Keras saves them folded into the kernel and loads zeros, which are never trained again."""
    whole, expected = train_adapted(tmp_path / "whole", 4)
    _, begun = train_adapted(tmp_path / "cut", 2)
    model, rest = train_adapted(tmp_path / "cut", 4)
    np.testing.assert_allclose(begun + rest, expected, rtol=1e-5)
    layers = [m.get_layer("slow") for m in (model, whole)]
    for name in ("lora_kernel_a", "lora_kernel_b", "kernel"):
        found, wanted = (ops.convert_to_numpy(getattr(layer, name)) for layer in layers)
        assert np.abs(wanted).min() > 0
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    with pytest.raises(TrainingError, match="does not fit|adapters of 1 layers, the model of 0"):
        Resume(tmp_path / "cut").restore(compiled())


@pytest.mark.parametrize("restores", [False, True])
def test_a_forgotten_initial_epoch_costs_no_work(restores, tmp_path):
    run(tmp_path, 3)
    files = {path.name: path.read_bytes() for path in tmp_path.glob("state_*")}
    model, resume = compiled(seed=1), Resume(tmp_path)
    if restores:
        assert resume.restore(model) == 3
    weights = model.get_weights()
    with pytest.raises(TrainingError, match="state of 3 .*resume.restore"):
        model.fit(Numbered(), epochs=4, verbose=0, callbacks=[resume])
    assert {path.name: path.read_bytes() for path in tmp_path.glob("state_*")} == files
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(after, before)
    # Nor does it help to name the epoch with other weights.
    if not restores:
        with pytest.raises(TrainingError, match="the model was not given it"):
            model.fit(Numbered(), epochs=4, initial_epoch=3, verbose=0, callbacks=[resume])


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    """Their states would overwrite each other."""
    fcntl = pytest.importorskip("fcntl")
    run(tmp_path, 1)
    other = os.open(tmp_path, os.O_RDONLY)  # as another process has it
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(TrainingError, match="Another process is training in"):
        run(tmp_path, 2)
    assert (tmp_path / "state_00001.weights.h5").is_file()
    os.close(other)
    assert run(tmp_path, 2)[1] == 1


def test_fit_may_go_on_with_the_same_callback(tmp_path):
    model, resume = compiled(), Resume(tmp_path)
    model.compile("adam", "mse")  # Keras on JAX can't fit twice with averaged weights
    model.fit(Numbered(), epochs=2, verbose=0, callbacks=[resume])
    model.fit(Numbered(), epochs=3, initial_epoch=2, verbose=0, callbacks=[resume])
    assert [path.name for path in tmp_path.glob("*.h5")] == ["state_00003.weights.h5"]


def test_best_weights_are_kept_across_runs(tmp_path):
    model = compiled()

    def epoch(number, **logs):
        callback = KeepBest(tmp_path, "val_score", "max")  # as a resumed run would make it
        callback.set_model(model)
        model.layers[-1].bias.assign([number])
        callback.on_epoch_end(number, logs)

    epoch(0, loss=3.0)
    assert KeepBest(tmp_path, "val_score").best() is None
    with pytest.raises(TrainingError, match="no epoch had val_score"):
        KeepBest(tmp_path, "val_score").restore(model)
    for number, value in enumerate((0.5, float("nan"), 0.7, 0.6), 1):
        epoch(number, loss=2.0, val_score=value)
    best = KeepBest(tmp_path, "val_score", "max")
    assert best.best() == {"epoch": 4, "loss": 2.0, "val_score": 0.7}
    fresh = compiled(seed=3)
    assert best.restore(fresh) == best.best()
    assert ops.convert_to_numpy(fresh.layers[-1].bias) == 3
    assert model.optimizer is not None
    # The optimizer's state, twice the size of the weights, is not among them.
    run(tmp_path / "run", 1)
    states = tmp_path / "run" / "state_00001.weights.h5"
    assert (tmp_path / "run" / "best.weights.h5").stat().st_size < states.stat().st_size / 2
    assert json.loads((tmp_path / "run" / "best.json").read_text())["epoch"] == 1


class KillWhenWriting(KeyboardInterrupt):
    """In the place of kill -9: nothing of the process's goes on after it."""


KILLS = ["state", "complete", "best weights", "best numbers", "log", "next epoch"]


@pytest.mark.parametrize("epoch", [0, 2])
@pytest.mark.parametrize("where", KILLS)
def test_killed_at_an_epochs_end(where, epoch, tmp_path, monkeypatch):
    """Wherever it is killed, states, best epoch and log become those of a whole run."""
    run(tmp_path / "whole", 4)
    deaths = []

    def dies(owner, name, is_it=lambda *_: True, after=False, count=epoch):
        """Raise in the place of a call, or after it, when it is the one after `count`."""
        original, calls = getattr(owner, name), []

        def call(*arguments, **options):
            if not is_it(*arguments):
                return original(*arguments, **options)
            calls.append(name)
            if after:
                original(*arguments, **options)
            if len(calls) > count:
                deaths.append(name)
                raise KillWhenWriting
            return None if after else original(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    def is_best(_, path):
        return str(path).endswith("best.weights.h5")

    if where == "state":
        dies(Resume, "_save", after=True)
    elif where == "complete":
        dies(Resume, "_complete", lambda self: self._next is not None)
    elif where in ("best weights", "best numbers"):
        dies(callbacks.os, "replace", is_best, after=where == "best numbers", count=epoch // 2)
    elif where == "log":
        dies(EpochLog, "on_epoch_end", after=True)
    else:
        dies(Count, "on_epoch_begin", count=epoch + 1)
    run(tmp_path / "cut", 4)
    monkeypatch.undo()
    assert len(deaths) == 1

    run(tmp_path / "cut", 4, seed=1 if epoch else 0)
    logs = []
    for folder in ("whole", "cut"):
        logs.append(np.genfromtxt(tmp_path / folder / "log.csv", delimiter=",", names=True))
    np.testing.assert_array_equal(logs[1]["epoch"], range(4))
    np.testing.assert_allclose(logs[1]["loss"], logs[0]["loss"], rtol=1e-5)
    bests = [KeepBest(tmp_path / folder, "loss") for folder in ("whole", "cut")]
    assert bests[1].best()["epoch"] == bests[0].best()["epoch"]
    assert json.loads((tmp_path / "cut" / "best.json").read_text()) == bests[1].best()
    models = [compiled() for _ in bests]
    for best, model in zip(bests, models, strict=True):
        best.restore(model)
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    names = [sorted(path.name for path in (tmp_path / f).iterdir()) for f in ("whole", "cut")]
    assert names[1] == names[0]


def test_a_state_without_its_random_numbers(tmp_path):
    run(tmp_path, 2)
    path = tmp_path / "state_00002.weights.npz"
    content = path.read_bytes()
    for text, words in ((content[:100], "is damaged"), (b"", "is damaged"), (None, "is missing")):
        path.unlink() if text is None else path.write_bytes(text)
        with pytest.raises(TrainingError, match=f"{path.name} {words}.*remove state_00002.weights"):
            Resume(tmp_path).restore(compiled())


def test_numbers_of_the_best_epoch_that_are_cut_off(tmp_path):
    """They are also in the file of the weights."""
    run(tmp_path, 2)
    best = KeepBest(tmp_path, "loss")
    expected = best.best()
    (tmp_path / "best.json").write_text("{")
    assert best.best() == expected and best.restore(compiled()) == expected
    run(tmp_path, 3)  # goes on
    import h5py

    with h5py.File(best.path, "r+") as file:  # as older versions left it
        file.attrs.clear()
    (tmp_path / "best.json").write_text("{")
    with pytest.raises(TrainingError, match="best.json is damaged .*Remove both"):
        best.best()
    (tmp_path / "best.json").write_text('{"epoch": 1, "loss": 2.0}')
    assert best.best() == {"epoch": 1, "loss": 2.0}
    with pytest.raises(TrainingError, match="chosen by other values than val_x"):
        KeepBest(tmp_path, "val_x").best()
    best.path.write_bytes(b"half")
    with pytest.raises(TrainingError, match="best.weights.h5 or .* is damaged"):
        best.best()
    best.path.unlink()
    assert best.best() is None


def test_a_log_that_was_cut_off(tmp_path):
    path = tmp_path / "log.csv"
    run(tmp_path, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    log = EpochLog(path)
    log.on_train_begin()
    log.on_train_end()
    assert path.read_bytes() == whole[:-4]  # no epoch, no change
    log.on_epoch_begin(2)
    log.on_train_end()
    rows = whole.splitlines(keepends=True)
    assert path.read_bytes() == b"".join(rows[:-1])
    # Rows of another training are its user's, not ours to delete.
    log.on_train_begin()
    log.on_epoch_begin(0)
    log.on_train_end()
    assert path.read_bytes() == b"".join(rows[:-1])


def test_mode_is_checked(tmp_path):
    with pytest.raises(TrainingError, match='"min" or "max". Received: \'most\''):
        KeepBest(tmp_path, "loss", "most")


def test_best_weights_are_for_a_model_like_it_compiled_or_not(tmp_path):
    model = compiled()
    best = KeepBest(tmp_path, "loss")
    best.set_model(model)
    best.on_epoch_end(0, {"loss": 1.0})
    plain = keras.Sequential.from_config(model.get_config())
    best.restore(plain)
    for a, b in zip(plain.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    plain.compile("sgd", "mse")
    plain.fit(Numbered(), verbose=0)
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(TrainingError, match="best.weights.h5 cannot be loaded"):
        best.restore(other)


def test_a_copy_of_the_best_numbers_that_cannot_be_written(tmp_path):
    best = KeepBest(tmp_path, "loss")
    best.set_model(compiled())
    (tmp_path / "best.json").mkdir()
    with pytest.raises(TrainingError, match="best.json"):
        best.on_epoch_end(0, {"loss": 1.0})


def test_nothing_is_kept_of_an_epoch_without_the_value(tmp_path, monkeypatch):
    best = KeepBest(tmp_path / "new" / "run", "loss")
    best.set_model(compiled())
    best.on_epoch_end(0)
    best.on_epoch_end(0, {"other": 1.0})
    monkeypatch.setattr(callbacks, "is_main_process", lambda: False)
    best.on_epoch_end(0, {"loss": 1.0})
    assert list(best.folder.iterdir()) == [] and best.path.parent == tmp_path / "new" / "run"


def test_an_equal_score_is_no_better(tmp_path):
    for mode, values in (("min", (2.0, 2.0, 1.0)), ("max", (1.0, 1.0, 2.0))):
        best = KeepBest(tmp_path / mode, "loss", mode)
        best.set_model(compiled())
        epochs = []
        for epoch, value in enumerate(values):
            best.on_epoch_end(epoch, {"loss": value})
            epochs.append(best.best()["epoch"])
        assert epochs == [1, 1, 3]


def test_what_a_killed_run_left_is_taken_away(tmp_path, monkeypatch):
    best = KeepBest(tmp_path, "loss")
    left = tmp_path / "unfinished_best.weights.h5"
    for is_main in (False, True):
        left.write_bytes(b"half a file")
        monkeypatch.setattr(callbacks, "is_main_process", lambda is_main=is_main: is_main)
        best.on_train_begin()
        assert left.exists() == (not is_main)


def kinds(found):
    return [type(callback).__name__ for callback in found]


@pytest.mark.parametrize("is_main", [True, False])
@pytest.mark.parametrize("has_tensorboard", [True, False])
def test_the_callbacks_of_a_recipe(has_tensorboard, is_main, tmp_path, monkeypatch):
    monkeypatch.setattr(callbacks, "is_main_process", lambda: is_main)
    monkeypatch.setattr(callbacks, "find_spec", lambda name: has_tensorboard or None)
    monkeypatch.setattr(callbacks, "_tensorboard", lambda folder: {"tensorboard": folder})
    sheets = []
    monkeypatch.setattr(callbacks, "ContactSheet", lambda *a: sheets.append(a) or "sheet")
    folder = tmp_path / "new" / "run"
    found = recipe_callbacks(str(folder), "val_d1")
    logs = ["EpochLog"] + ["dict"] * has_tensorboard if is_main else []
    assert kinds(found) == ["Resume", "AverageGradients", "KeepBest", *logs]
    assert found[0].folder == folder == found[2].folder and folder.is_dir()
    assert (found[2].monitor, found[2].sign) == ("val_d1", 1)
    if is_main:
        assert found[3].filename == str(folder / "log.csv")
        assert found[4:] == [{"tensorboard": folder}] * has_tensorboard
    found = recipe_callbacks(folder, "val_d1", "max", source="source", averaged=True)
    assert kinds(found)[:4] == ["Resume", "AverageGradients", "SwapEMAWeights", "KeepBest"]
    assert found[2].swap_on_epoch and found[3].sign == -1 and found[-1] == "sheet"
    recipe_callbacks(folder, "val_d1", source="source", every=3)
    assert sheets == [("source", folder / "sheets", every) for every in (5, 3)]


def test_tensorboard_leaves_the_accelerator_to_the_backend(tmp_path, monkeypatch):
    tensorflow, board = mock.Mock(), mock.Mock()
    monkeypatch.setattr(callbacks, "import_tensorflow", lambda: tensorflow)
    monkeypatch.setattr(keras.callbacks, "TensorBoard", board)
    assert callbacks._tensorboard(tmp_path) is board.return_value
    board.assert_called_once_with(tmp_path / "tensorboard", write_graph=False)
    hidden = tensorflow.config.set_visible_devices.call_args_list
    own = keras.config.backend() == "tensorflow"
    assert hidden == ([] if own else [mock.call([], "GPU")])


def test_processes_must_find_the_same_state(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(callbacks, "check_same", lambda *arguments: asked.append(arguments))
    assert Resume(tmp_path).restore(compiled()) == 0
    run(tmp_path, 1)
    assert Resume(tmp_path).restore(compiled()) == 1
    assert [epochs for epochs, _ in asked] == [0, 0, 1]
    assert f"states of {{}} epochs in {tmp_path}" in asked[0][1]


def test_a_disk_that_fills_up_costs_no_best_weights(tmp_path, monkeypatch):
    import h5py

    best = KeepBest(tmp_path, "loss")
    best.set_model(compiled())
    best.on_epoch_end(0, {"loss": 2.0})
    names = sorted(path.name for path in tmp_path.iterdir())
    opened = h5py.File

    def full(path, mode="r", **options):
        if mode == "r+":
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, mode, **options)

    monkeypatch.setattr(h5py, "File", full)
    with pytest.raises(TrainingError, match=f"disk of {tmp_path} is too full"):
        best.on_epoch_end(1, {"loss": 1.0})
    assert best.best()["epoch"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.skipif(keras.config.backend() != "torch", reason="others keep all in variables")
@pytest.mark.parametrize(("count", "is_set"), [(1, True), (2, False)])
def test_random_states_of_as_many_devices(count, is_set, monkeypatch):
    import torch

    found = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", found.extend)
    model = compiled()
    states = [keras.ops.convert_to_numpy(v) + 1 for v in callbacks._random_variables(model)]
    host = torch.get_rng_state().numpy()
    torch.rand(3)
    callbacks._set_random_states(model, [*states, host, np.array([7], "uint8")])
    np.testing.assert_array_equal(torch.get_rng_state().numpy(), host)
    assert [int(state) for state in found] == [7] * is_set
    for variable, state in zip(callbacks._random_variables(model), states, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), state)
