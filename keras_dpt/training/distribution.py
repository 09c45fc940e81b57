"""Training on several devices by what each backend has for it, behind one word."""

import os
from contextlib import contextmanager, nullcontext

import keras

from keras_dpt.errors import TrainingError
from keras_dpt.ops.training import check_training


@contextmanager
def distributed(enabled=True):
    """Share each batch among all devices, in what is built *and* trained inside the context.

    | backend    | how                                                                            |
    |------------|--------------------------------------------------------------------------------|
    | JAX        | `keras.distribution.DataParallel`; batches must be divisible by the devices |
    | TensorFlow | `tf.distribute.MirroredStrategy`                                               |
    | PyTorch    | one process per device, started by `torchrun --nproc-per-node N script.py`;    |
    |            | the context joins them, the callback `AverageGradients` keeps them alike, and  |
    |            | `Batches(shard=shard())` gives each its part                                   |

    Losses that are means over images, as those for depth, train like one device with the whole
    batch. `SegmentationLoss` averages over pixels, on TensorFlow and PyTorch those of each device;
    batch normalisation there counts each device's part, too.

    Args:
        enabled: `False` does nothing.

    Raises: TrainingError: PyTorch, and this process was not started by torchrun; or the backend
        does not train, whether enabled or not.
    """
    check_training()
    backend = keras.config.backend()
    if not enabled:
        context = nullcontext()
    elif backend == "tensorflow":
        import tensorflow as tf

        context = tf.distribute.MirroredStrategy().scope()
    elif backend == "torch":
        context = _torch_process()
    else:
        context = _data_parallel()
    with context:
        yield


def shard():
    """`(index, count)`: this process's part of every batch; `(0, 1)` if it trains alone."""
    group = _torch_group()
    return (group.get_rank(), group.get_world_size()) if group else (0, 1)


def is_main_process():
    """Whether this process is the one that writes files."""
    return shard()[0] == 0


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


@contextmanager
def _data_parallel():
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


@contextmanager
def _torch_process():
    import torch

    if "RANK" not in os.environ:
        raise TrainingError(
            "On PyTorch, several devices need a process each: start the script with "
            "`torchrun --nproc-per-node 2 script.py ...`, one per device."
        )
    cuda = torch.cuda.is_available()
    torch.distributed.init_process_group("nccl" if cuda else "gloo")
    device = f"cuda:{os.environ['LOCAL_RANK']}" if cuda else "cpu"
    try:
        with keras.device(device):
            yield
    finally:
        torch.distributed.destroy_process_group()


def _torch_group():
    """`torch.distributed` if this process has joined others, else `None`."""
    if keras.config.backend() != "torch":
        return None
    import torch

    joined = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed if joined else None
