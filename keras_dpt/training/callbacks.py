"""What a long training leaves behind: its state, its best weights, its log, sample images."""

import json
import os
import zipfile
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np

from keras_dpt.errors import TrainingError
from keras_dpt.files import hold, release, written_whole
from keras_dpt.late_tensorflow import import_tensorflow
from keras_dpt.models.task import without_optimizer
from keras_dpt.schema import explained, reason_of
from keras_dpt.space import disk_full_explained
from keras_dpt.training.adapters import adapter_values, adapters_apart, set_adapters
from keras_dpt.training.distribution import AverageGradients, alone, check_same, is_main_process
from keras_dpt.training.log import EpochLog
from keras_dpt.training.sheet import contact_sheet

_BEST = "keras_dpt_best"  # attribute of the best weights: their epoch's number and logs, JSON


class Resume(keras.callbacks.Callback):
    """Saves the state of a training after each epoch: if it is killed, at most one epoch is lost.

    The state is the weights, LoRA adapters, the optimizer's state including averaged weights, the
    state of layers' random numbers, and the number of complete epochs. A file is either complete or
    absent. Put it before callbacks that change the weights at the end of an epoch, as
    `SwapEMAWeights` does. An epoch is complete when all callbacks have finished, that is, when the
    next one begins or the training ends. If the process is killed before, the epoch is trained and
    logged again.

    A training that would start before the folder's last state is refused, so that a forgotten
    `initial_epoch` destroys nothing; a state of more epochs is never deleted. A training is also
    refused in a folder that another process is training in.

    Args:
        folder: where the states are written; created if missing.

    Raises: TrainingError: raised when `fit` begins, if the folder holds a state that it does not
        continue, or another process is training there.

    Example:

    ```python
    import keras_dpt

    photos = keras_dpt.datasets.folder("photos", "depths", kind="metric_depth", unit="mm")
    data = keras_dpt.datasets.Batches(photos, (192, 256), batch_size=2)
    model = keras_dpt.DPTDepth.from_preset("dpt_mini_nyuv2")
    model.compile()
    resume = keras_dpt.training.Resume("runs/1")
    model.fit(data, epochs=2, initial_epoch=resume.restore(model), callbacks=[resume])
    ```
    """

    def __init__(self, folder):
        super().__init__()
        self.folder = _made(folder)
        self.random_states = None  # as last saved or restored
        self._next = None  # the path of the state that is saved but not complete
        self.epochs = None  # complete ones of the state that was last saved or restored
        self._begins = False

    def restore(self, model):
        """Load the last state into a compiled model.

        Returns: the number of complete epochs, 0 if there is no state.
        Raises: TrainingError: the state belongs to another model or optimizer; or processes that
            train together see different states.
        """
        states = self._states()
        epochs = max(states, default=0)
        check_same(
            epochs,
            f"The processes find states of {{}} epochs in {self.folder}: all must see the same "
            "folder, such as one of a shared file system.",
        )
        if not epochs:
            return 0
        path = states[epochs]
        model.optimizer.build(model.trainable_variables)
        try:
            model.load_weights(path)
        except Exception as error:  # of many kinds, if the file is damaged
            raise TrainingError(
                f"{path} does not fit this model and optimizer: {reason_of(error)}. Resume with "
                "the arguments of the first run, or begin in another folder."
            ) from error
        self.random_states, adapters = _read_beside(path.with_suffix(".npz"))
        set_adapters(model, adapters)
        self.epochs = epochs
        return epochs

    def on_train_begin(self, logs=None):
        if is_main_process() and not hold(self.folder):
            raise TrainingError(
                f"Another process is training in {self.folder}. Wait for it or end it, or train in "
                "another folder."
            )
        if not self._is_restored():
            self._refuse("the model was not given it")
        # Not sooner: before, Keras may try the model out, and use up random numbers.
        if self.random_states is not None:
            _set_random_states(self.model, self.random_states)
        self._begins = True
        self._trained = False

    def on_epoch_begin(self, epoch, logs=None):
        # Only here is it known where `fit` begins.
        if self._begins:
            self._begins = False
            if epoch < max(self._states(), default=0):
                self._refuse(f"this training begins with initial_epoch={epoch}")
        self._complete()

    def on_epoch_end(self, epoch, logs=None):
        self.epochs = epoch + 1
        self._trained = True
        self._save()

    def on_train_end(self, logs=None):
        # Keras has just put averaged weights in the place of the last ones, if there are any.
        if self._trained:
            self._save()
            self._complete()
        release(self.folder)

    @property
    def _unfinished(self):
        return self.folder / "unfinished.weights.h5"

    def _is_restored(self):
        last = max(self._states(), default=0)
        return not last or (self.epochs is not None and self.epochs >= last)

    def _refuse(self, reason):
        raise TrainingError(
            f"{self.folder} holds the state of {max(self._states())} complete epochs, but "
            f"{reason}. "
            "Go on with `model.fit(..., initial_epoch=resume.restore(model), callbacks=[resume])`, "
            "or begin in another folder."
        )

    def _save(self):
        """Write a state that does not count before `_complete`."""
        self.random_states = _random_states(self.model)
        if not is_main_process():
            return
        path = self.folder / f"state_{self.epochs:05d}.weights.h5"
        with written_whole(path.with_suffix(".npz"), TrainingError) as file:
            np.savez(file, *self.random_states, **adapter_values(self.model))
        with adapters_apart(self.model):
            alone(self.model.save_weights, self._unfinished, overwrite=True)
        self._next = path

    def _complete(self):
        """Make what was saved the last state, if anything was."""
        path, self._next = self._next, None
        if path is None:
            return
        os.replace(self._unfinished, path)  # from here on this is the last state
        for epochs, old in self._states().items():
            if epochs < self.epochs:
                old.unlink()
        for old in self.folder.glob("state_*.weights.npz"):
            if not old.with_suffix(".h5").exists():
                old.unlink()

    def _states(self):
        """`{complete epochs: path}`."""
        return {int(path.name[6:11]): path for path in self.folder.glob("state_*.weights.h5")}


class KeepBest(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the best validation score, also across resumed runs.

    They are saved as `best.weights.h5` in `folder`, with the epoch's number and logs as an
    attribute, and a readable copy of these in `best.json`. The optimizer's state is not saved. Put
    it after `SwapEMAWeights(swap_on_epoch=True)` to keep averaged weights. Epochs without
    validation are skipped.

    Args:
        folder: where they are written; created if missing.
        monitor: name of the value in the logs, such as "val_abs_rel".
        mode: "min" if smaller is better, "max" if larger is.
    """

    def __init__(self, folder, monitor, mode="min"):
        super().__init__()
        if mode not in ("min", "max"):
            raise TrainingError(f'mode must be "min" or "max". Received: {mode!r}.')
        self.folder = _made(folder)
        self.monitor = monitor
        self.sign = 1 if mode == "min" else -1

    @property
    def path(self):
        """The file of the best weights."""
        return self.folder / "best.weights.h5"

    def restore(self, model):
        """Load the best weights into a model, and return their epoch and logs, as `best` does.

        Raises: TrainingError: there are none, because no epoch was validated.
        """
        best = self.best()
        if best is None:
            raise TrainingError(f"No best weights in {self.folder}: no epoch had {self.monitor}.")
        with without_optimizer(model), explained(self.path, TrainingError, "cannot be loaded"):
            model.load_weights(self.path)
        return best

    def best(self):
        """The best epoch's number, from 1, as "epoch", and its logs; `None` before there is one.

        Raises: TrainingError: a file is damaged.
        """
        import h5py

        if not self.path.is_file():
            return None
        copy = self.folder / "best.json"
        try:
            with h5py.File(self.path) as file:
                text = file.attrs.get(_BEST)
            # Older versions kept the numbers beside the weights only.
            text = copy.read_text(encoding="utf-8") if text is None else text
            best = json.loads(text)
            float(best["epoch"]), float(best[self.monitor])
            return best
        except KeyError as error:
            raise TrainingError(
                f"{self.path} was chosen by other values than {self.monitor}. Monitor what it was, "
                "or begin in another folder."
            ) from error
        except (OSError, ValueError, TypeError) as error:
            raise TrainingError(
                f"{self.path} or {copy} is damaged ({str(error).partition(chr(10))[0]}). Remove "
                "both: the next epoch that is validated is then kept."
            ) from error

    @property
    def _unfinished(self):
        return self.folder / "unfinished_best.weights.h5"

    def on_train_begin(self, logs=None):
        if is_main_process():
            self._unfinished.unlink(missing_ok=True)  # of a run that was killed

    def on_epoch_end(self, epoch, logs=None):
        value = (logs or {}).get(self.monitor)
        if value is None or not is_main_process():
            return
        best = self.best()
        # Not the other way round: no comparison with NaN is true.
        if not (best is None or self.sign * value < self.sign * best[self.monitor]):
            self._write_copy(best)  # a run may have been killed before
            return
        import h5py

        numbers = {"epoch": epoch + 1} | {name: float(number) for name, number in logs.items()}
        with without_optimizer(self.model):
            alone(self.model.save_weights, self._unfinished, overwrite=True)
        with (
            disk_full_explained(self.folder, self._unfinished, TrainingError),
            h5py.File(self._unfinished, "r+") as file,
        ):
            # In one file, so that they are never of two epochs; of fixed length, which is small.
            file.attrs[_BEST] = np.bytes_(json.dumps(numbers))
        os.replace(self._unfinished, self.path)
        self._write_copy(numbers)

    def _write_copy(self, numbers):
        path, content = self.folder / "best.json", json.dumps(numbers, indent=2).encode()
        if not path.is_file() or path.read_bytes() != content:
            with written_whole(path, TrainingError) as file:
                file.write(content)


class ContactSheet(keras.callbacks.Callback):
    """Draws photos, ground truth and predictions every few epochs: `epoch_00010.png` and so on.

    Args:
        source: a `keras_dpt.datasets.Source`.
        folder: where the images are written; created if missing.
        every: epochs between two images.
        count: how many samples, evenly spread over the source.
    """

    def __init__(self, source, folder, every=5, count=6):
        super().__init__()
        self.folder = _made(folder)
        self.every = every
        chosen = np.linspace(0, len(source) - 1, min(count, len(source))).round().astype(int)
        self.samples = [source[int(i)] for i in chosen]
        self.source = source

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every or not is_main_process():
            return
        sheet = alone(contact_sheet, self.model, self.samples, self.source)
        path = self.folder / f"epoch_{epoch + 1:05d}.png"
        with written_whole(path, TrainingError) as file:
            sheet.save(file, format="PNG")


def recipe_callbacks(folder, monitor, mode="min", source=None, every=5, averaged=False):
    """The callbacks of a training that can be watched, interrupted and resumed, in their order.

    `Resume`, `AverageGradients`, the averaged weights if there are any, `KeepBest`, a CSV log
    `log.csv`, TensorBoard's logs where the package tensorboard is installed, and contact sheets.

    Args:
        folder: of the run; made if missing.
        monitor, mode: as in `KeepBest`.
        source: of the contact sheets; `None` for none.
        every: epochs between two contact sheets.
        averaged: whether the optimizer keeps averaged weights (`use_ema`), which are then used for
            validation, best weights and contact sheets.

    Returns: list of callbacks, of which the first is the `Resume`.
    """
    folder = _made(folder)
    callbacks = [Resume(folder), AverageGradients()]
    if averaged:
        callbacks.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    callbacks.append(KeepBest(folder, monitor, mode))
    if is_main_process():
        callbacks.append(EpochLog(folder / "log.csv"))
        if find_spec("tensorboard"):
            callbacks.append(_tensorboard(folder))
    if source is not None:
        callbacks.append(ContactSheet(source, folder / "sheets", every))
    return callbacks


def _tensorboard(folder):
    if keras.config.backend() != "tensorflow":
        # It is only to write a log here: the accelerator's memory belongs to the other backend.
        import_tensorflow().config.set_visible_devices([], "GPU")
    return keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False)


def _made(folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _random_variables(model):
    """States of random number generators, which `save_weights` leaves out."""
    return [v for v in model.non_trainable_variables if v.name == "seed_generator_state"]


def _random_states(model):
    """Arrays of all that chance in the model's layers depends on."""
    states = [keras.ops.convert_to_numpy(v) for v in _random_variables(model)]
    if keras.config.backend() == "torch":
        import torch

        # Keras's dropout does not use its own generators there.
        states.append(torch.get_rng_state().numpy())
        states += [state.numpy() for state in torch.cuda.get_rng_state_all()]
    return states


def _read_beside(path):
    """Random states and `{name: array}` of adapters, as `Resume` saved them.

    Raises: TrainingError: they are missing or damaged.
    """
    try:
        with open(path, "rb") as file, np.load(file) as states:
            adapters = {name: states[name] for name in states.files if name[:7] == "adapter"}
            return [states[name] for name in states.files if name not in adapters], adapters
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        what = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged ({error})"
        raise TrainingError(
            f"{path} {what}, without which the training would not go on as it began. Put it back, "
            f"or remove {path.with_suffix('.h5').name} to begin again."
        ) from error


def _set_random_states(model, states):
    variables = _random_variables(model)
    for variable, state in zip(variables, states, strict=False):
        variable.assign(state)
    if keras.config.backend() == "torch" and len(states) > len(variables):
        import torch

        host, *devices = [torch.from_numpy(state) for state in states[len(variables) :]]
        torch.set_rng_state(host)
        if len(devices) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(devices)
