"""Training on several devices or hosts, with one function for all backends."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import keras

from keras_dpt.errors import TrainingError
from keras_dpt.ops.training import check_training
from keras_dpt.training.processes import (
    jax_processes,
    numbers_of_all,
    tensorflow_processes,
    torch_processes,
)

_JOINED = {"jax": jax_processes, "tensorflow": tensorflow_processes, "torch": torch_processes}
_place, _is_main = (0, 1), True


@contextmanager
def distributed(enabled=True):
    """Split each batch among devices, of one host or several; build *and* train the model inside.

    | backend    | how                                    | several hosts: one process for each |
    |------------|----------------------------------------|-------------------------------------|
    | JAX        | `keras.distribution.DataParallel`      | host; KERAS_DISTRIBUTION_... is set |
    | TensorFlow | `tf.distribute.MirroredStrategy`, or   | host; TF_CONFIG is set              |
    |            | `MultiWorkerMirroredStrategy`          |                                     |
    | PyTorch    | gradients averaged, `AverageGradients` | device; `torchrun` starts them      |

    Every process runs the same script and feeds its own part of each batch,
    `Batches(shard=shard())`; `batch_size` is that of the whole batch, a multiple of the number of
    devices. Only `is_main_process()` writes. Do what it does alone, such as `predict` or saving a
    preset, after the context: inside, a step that only one process takes waits for all others.
    `predict_images` is the exception.

    Losses that are means over images, as those for depth, train like one device with the whole
    batch. `SegmentationLoss` averages over pixels, on TensorFlow and PyTorch those of each device;
    batch normalisation there counts each device's part, too.

    Args:
        enabled: `False` does nothing.

    Raises: TrainingError: PyTorch, and this process was not started by torchrun; variables of the
        environment that do not go together; or the backend does not train, whether enabled or not.
    """
    global _place, _is_main
    check_training()
    if not enabled:
        yield
        return
    with _JOINED[keras.config.backend()]() as _place:
        _is_main = _place[0] == 0
        try:
            yield
        finally:
            _place = (0, 1)


def shard():
    """`(index, count)`: this process's part of every batch; `(0, 1)` if it trains alone."""
    return _place


def is_main_process():
    """Whether this process is the one that writes files, during `distributed` and after it."""
    return _is_main


def alone(function, *args, **kwargs):
    """Call what one of several processes does by itself; returns what the function does.

    What Keras makes on the way, if only a number, would otherwise be shared out among all
    processes, and wait for them. Strategies and distributions end at a thread's border.
    """
    if _place[1] == 1 or keras.config.backend() == "torch":
        return function(*args, **kwargs)
    with ThreadPoolExecutor(1, "keras_dpt_alone") as pool:
        return pool.submit(function, *args, **kwargs).result()


def check_same(number, message):
    """Raise a TrainingError unless the joined processes have the same number; each must ask.

    Args: message: of the error, with "{}" for the numbers.
    """
    numbers = {number} if _place[1] == 1 else numbers_of_all(number)
    if len(numbers) > 1:
        raise TrainingError(message.format(" and ".join(map(str, sorted(numbers)))))


class AverageGradients(keras.callbacks.Callback):
    """Lets processes that were joined by `distributed` train one model on PyTorch.

    They begin with the first one's weights, and every gradient is replaced by its mean over the
    processes as soon as it is known. Does nothing where a process trains alone.
    """

    def __init__(self):
        super().__init__()
        self.hooks = []

    def on_train_begin(self, logs=None):
        group = _torch_group()
        if group is None:
            return
        import torch

        count = group.get_world_size()

        def average(parameter):
            group.all_reduce(parameter.grad)
            parameter.grad /= count

        with torch.no_grad():
            for variable in [*self.model.variables, *self.model.optimizer.variables]:
                group.broadcast(variable.value, src=0)
        self.hooks = [
            variable.value.register_post_accumulate_grad_hook(average)
            for variable in self.model.trainable_variables
        ]

    def on_train_end(self, logs=None):
        for hook in self.hooks:
            hook.remove()


def _torch_group():
    """`torch.distributed` if this process has joined others, else `None`."""
    if keras.config.backend() != "torch":
        return None
    import torch

    joined = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed if joined else None
