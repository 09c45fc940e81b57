"""What training needs around Keras's own: data of many kinds, checks, epochs, kept weights."""

from contextlib import contextmanager

import keras
import numpy as np

from keras_dpt.errors import TrainingError


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


def is_stream(x):
    """Whether `x` is a `tf.data.Dataset` or one of Grain's."""
    return hasattr(x, "map") and hasattr(x, "batch")


def check_batch(x, caller):
    """Raise a TrainingError unless `x` are images."""
    if x is not None and not hasattr(x, "shape") and not isinstance(x, list | tuple):
        raise TrainingError(
            f"`{caller}` takes arrays, `tf.data.Dataset`s, Grain's datasets and "
            f"`keras.utils.PyDataset`s; received {type(x).__name__}."
        )
    if x is None or not len(x):
        raise TrainingError(f"`{caller}` was given no images.")
    images = x if isinstance(x, list | tuple) else x[:1]
    shapes = [tuple(np.shape(image)) for image in images]
    if odd := [shape for shape in shapes if len(shape) != 3]:
        raise TrainingError(
            f"`{caller}` takes images (batch, height, width, channels); received "
            f"{len(x)} of shape {odd[0]}. A single image needs a first axis, `x[None]`; "
            "`predict_images` takes files."
        )
    if other := [shape for shape in shapes if shape != shapes[0]]:
        raise TrainingError(
            f"`{caller}` takes images of one shape; received {shapes[0]} and {other[0]}. "
            "`predict_images` takes any."
        )


def check_arrays(x, y, sample_weight, caller):
    """Raise a TrainingError unless `x` are images and all that is given with them is as long."""
    check_batch(x, caller)
    needed = {"target `y`": y}
    if sample_weight is not None:
        needed["`sample_weight`"] = sample_weight
    for name, values in needed.items():
        length = None if isinstance(values, str) or not np.ndim(values) else len(values)
        if length != len(x):
            received = "none" if values is None else length or repr(values)
            raise TrainingError(
                f"`{caller}` needs one {name} for each of the {len(x)} images `x`; received "
                f"{received}."
            )


class Arrays(keras.utils.PyDataset):
    """Arrays `(x, y, sample_weight)`, of which the latter may be `None`, in batches."""

    def __init__(self, arrays, batch_size, shuffle=False):
        super().__init__()
        batch_size = 32 if batch_size is None else batch_size  # as in Keras
        if batch_size < 1:
            raise TrainingError(f"`batch_size` has to be at least 1; received {batch_size}.")
        self.arrays = [a if a is None else keras.ops.convert_to_numpy(a) for a in arrays]
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.order = np.arange(len(self.arrays[0]))
        self.on_epoch_end()

    def __len__(self):
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, index):
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return tuple(a if a is None else a[chosen] for a in self.arrays)

    def on_epoch_end(self):
        if self.shuffle:
            np.random.shuffle(self.order)  # seeded by `keras.utils.set_random_seed`


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


class Preprocessed(keras.utils.PyDataset):
    """A `PyDataset` whose batches go through a task's preprocessing."""

    def __init__(self, dataset, preprocess_samples):
        super().__init__(
            workers=dataset.workers,
            use_multiprocessing=dataset.use_multiprocessing,
            max_queue_size=dataset.max_queue_size,
        )
        self.dataset = dataset
        self.preprocess_samples = preprocess_samples

    def __len__(self):
        return len(self.dataset)

    @property
    def num_batches(self):
        return self.dataset.num_batches

    def __getitem__(self, index):
        samples = keras.utils.unpack_x_y_sample_weight(self.dataset[index])
        samples = self.preprocess_samples(*samples)
        return samples if isinstance(samples, tuple) else (samples,)

    def on_epoch_begin(self):
        self.dataset.on_epoch_begin()

    def on_epoch_end(self):
        self.dataset.on_epoch_end()
