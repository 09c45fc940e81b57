"""How processes, on one host or several, join to train one model: a context for each backend."""

import json
import os
from contextlib import contextmanager

import keras
import numpy as np

from keras_dpt.errors import TrainingError

# What `keras.distribution.initialize` reads.
JAX_VARIABLES = tuple(
    f"KERAS_DISTRIBUTION_{name}" for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")
)


@contextmanager
def torch_processes():
    """One process for each device, started by torchrun. Yields `(index, count)`."""
    import torch

    if "RANK" not in os.environ:
        raise TrainingError(
            "On PyTorch, several devices need a process each: start the script with "
            "`torchrun --nproc-per-node 2 script.py ...`, one per device."
        )
    cuda = torch.cuda.is_available()
    device = f"cuda:{os.environ['LOCAL_RANK']}" if cuda else "cpu"
    if cuda:
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        with keras.device(device):
            yield torch.distributed.get_rank(), torch.distributed.get_world_size()
    finally:
        torch.distributed.destroy_process_group()


@contextmanager
def jax_processes():
    """`keras.distribution` over all devices of all processes. Yields `(index, count)`."""
    import jax

    given = [name for name in JAX_VARIABLES if os.environ.get(name)]
    joins = bool(given) and not jax.distributed.is_initialized()
    if joins:
        if len(given) < len(JAX_VARIABLES):
            raise TrainingError(
                f"Several JAX processes need {', '.join(JAX_VARIABLES)}. Received: only "
                f"{', '.join(given)}."
            )
        try:
            keras.distribution.initialize()
        except (ValueError, RuntimeError) as error:
            raise TrainingError(
                f"These JAX processes cannot join: {str(error).partition(chr(10))[0]}"
            ) from error
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    try:
        yield jax.process_index(), jax.process_count()
    finally:
        keras.distribution.set_distribution(before)
    if joins:  # not after an error: it waits for the others, and they for this process
        jax.distributed.shutdown()


@contextmanager
def tensorflow_processes():
    """`tf.distribute` over this host's devices, or all workers' of TF_CONFIG.

    Yields `(index, count)`.
    """
    import tensorflow as tf

    if "TF_CONFIG" not in os.environ:
        with tf.distribute.MirroredStrategy().scope():
            yield 0, 1
        return
    index, count = worker_of(os.environ["TF_CONFIG"])
    with _workers_strategy(count).scope():
        yield index, count


def worker_of(config):
    """`(index, count)` of this process in a text such as TF_CONFIG has; the chief is worker 0.

    Raises: TrainingError: it is not of that form.
    """
    try:
        content = json.loads(config)
        workers = [
            (kind, i)
            for kind in ("chief", "worker")
            for i in range(len(content["cluster"].get(kind, [])))
        ]
        return workers.index((content["task"]["type"], content["task"]["index"])), len(workers)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(
            'TF_CONFIG must be like {"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": '
            f'{{"type": "worker", "index": 0}}}}. Received: {config}'
        ) from error


def _workers_strategy(count):
    """`tf.distribute.MultiWorkerMirroredStrategy`, as Keras 3.15 needs it."""
    import tensorflow as tf

    class Workers(tf.distribute.MultiWorkerMirroredStrategy):
        num_workers = count

        def experimental_distribute_dataset(self, dataset, options=None):
            """Data are this worker's part of each batch; TensorFlow would cut them once more."""
            devices = self.num_replicas_in_sync // count
            if devices > 1:
                dataset = dataset.flat_map(lambda *batch: _parts(batch, devices))
            return self.distribute_datasets_from_function(lambda context: dataset, options)

        def reduce(self, reduce_op, value, axis=None):
            """Keras asks for whole batches at once, and for means of scalars along an axis."""
            reduce = super().reduce

            def reduced(part):
                is_scalar = self.experimental_local_results(part)[0].shape.rank == 0
                return reduce(reduce_op, part, None if is_scalar else axis)

            return tf.nest.map_structure(reduced, value)

    return Workers()


def _parts(batch, count):
    """A batch as a `tf.data.Dataset` of that many batches, one for each device of a worker."""
    import tensorflow as tf

    batch = batch[0] if len(batch) == 1 else batch
    size = tf.shape(tf.nest.flatten(batch)[0], tf.int64)[0]
    return tf.data.Dataset.from_tensor_slices(batch).batch(size // count)


def numbers_of_all(number):
    """The set of the numbers that all joined processes have; each must ask."""
    backend = keras.config.backend()
    if backend == "jax":
        from jax.experimental import multihost_utils

        return set(multihost_utils.process_allgather(np.array([number])).ravel().tolist())
    if backend == "tensorflow":
        import tensorflow as tf

        def gather():
            return tf.distribute.get_replica_context().all_gather(tf.constant([number]), axis=0)

        strategy = tf.distribute.get_strategy()
        return set(strategy.experimental_local_results(strategy.run(gather))[0].numpy().tolist())
    import torch

    mine = keras.ops.convert_to_tensor([number], "int32")
    every = [torch.empty_like(mine) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(every, mine)
    return {int(n) for n in every}
