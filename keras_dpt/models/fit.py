"""What training needs around Keras's own: kept weights, epochs, warnings of odd targets."""

import warnings
from contextlib import contextmanager

import keras

from keras_dpt.errors import DataWarning


@contextmanager
def weights_kept(model):
    """Give a model its weights back if training or evaluation stops with an error.

    On JAX, Keras takes them out of the model while it works; what stops it on the first batch, such
    as a file that can't be read, would lose them.
    """
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.variables, *(optimizer.variables if optimizer else ())]
    held = [(variable, variable.value) for variable in variables]
    try:
        yield
    except BaseException:
        if keras.backend.backend() == "jax":
            model.jax_state_sync()
            for variable, value in held:
                if variable._value is None:
                    variable.assign(value)
        raise


class CountEpochs(keras.callbacks.Callback):
    """Tells `Batches` which epoch begins: `initial_epoch`, or one more than it had before.

    What Keras itself tells data is not enough: before it starts it tries the data out, and where
    epochs are short or several devices read ahead, that looks like a whole epoch.
    """

    def __init__(self, batches, initial_epoch):
        super().__init__()
        self.batches = batches
        self.next = max(batches.epoch, initial_epoch)

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.epoch = self.next
        self.next += 1

    def on_train_end(self, logs=None):
        self.batches.epoch = self.next


class WarnOfTargets(keras.callbacks.Callback):
    """Warns once of what the targets of a training look like, as soon as that is known.

    Args: seen: such as `keras_dpt.models.targets.LabelsSeen`.
    """

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def on_train_batch_end(self, batch, logs=None):
        if self.seen is not None:
            self._warn(self.seen.early_message())

    def on_epoch_end(self, epoch, logs=None):
        if self.seen is not None:
            self._warn(self.seen.message())
        self.seen = None

    def _warn(self, message):
        if message:
            self.seen = None
            warn_of_targets(message)


def warn_of_targets(message):
    """Warn that training data are probably not what was meant."""
    warnings.warn(f"In the training data, {message}", DataWarning, stacklevel=4)


def with_callback(kwargs, callback):
    """Arguments of `fit` with one more callback, the first of them."""
    callbacks = kwargs.get("callbacks") or []
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return kwargs
    callbacks = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
    return kwargs | {"callbacks": [callback, *callbacks]}
