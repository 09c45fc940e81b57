"""Training and test data of every kind that Keras takes, as batches ready for a network."""

import types

import keras
import numpy as np

from keras_dpt.errors import TrainingError


def is_stream(x):
    """Whether `x` is a `tf.data.Dataset` or one of Grain's."""
    return hasattr(x, "map") and hasattr(x, "batch")


def is_loader(x):
    """Whether `x` is a PyTorch `DataLoader`; PyTorch need not be installed."""
    return any(
        cls.__name__ == "DataLoader" and cls.__module__.startswith("torch.utils.data")
        for cls in type(x).__mro__
    )


def is_iterated(x):
    """Whether `x` gives its batches one after the other: a `DataLoader` or a generator."""
    return is_loader(x) or isinstance(x, types.GeneratorType)


def is_arrays(x):
    """Whether `x` are arrays, or what is meant to be: none of the other kinds."""
    return not (is_stream(x) or is_iterated(x) or isinstance(x, keras.utils.PyDataset))


def is_graph_tensor(x):
    """Whether `x` is a tensor of TensorFlow's that has no value yet, as in `tf.data`."""
    if not type(x).__module__.startswith("tensorflow"):
        return False
    import tensorflow as tf

    return tf.is_tensor(x) and not tf.executing_eagerly()


def in_graph(look, x):
    """The tensor `x` of a graph, at whose values `look(array)` looks when they are there."""
    import tensorflow as tf

    def looked_at(values):
        look(values)
        return values

    same = tf.numpy_function(looked_at, [x], x.dtype)
    same.set_shape(x.shape)
    return same


def as_array(x):
    """A PyTorch tensor as an array, whatever the backend; anything else as it is."""
    if type(x).__module__.partition(".")[0] == "torch":
        return x.detach().cpu().numpy()
    return x


def only_value(x, name, keys):
    """`x`, or the one value of a dictionary `{key: value}`.

    Raises: TrainingError: a dictionary of more, or with another key than one of `keys`.
    """
    if not isinstance(x, dict):
        return x
    if len(x) == 1 and next(iter(x)) in keys:
        return next(iter(x.values()))
    raise TrainingError(
        f"{name} must be an array or a dictionary such as {{{keys[0]!r}: array}}. Received: a "
        f"dictionary of {', '.join(map(repr, x))}. A batch with targets is a tuple, "
        "(images, targets) or (images, targets, sample_weight)."
    )


class Arrays(keras.utils.PyDataset):
    """Arrays `(x, y, sample_weight)`, of which the latter may be `None`, in batches."""

    def __init__(self, arrays, batch_size, shuffle=False):
        super().__init__()
        batch_size = 32 if batch_size is None else batch_size  # as in Keras
        if batch_size < 1:
            raise TrainingError(f"`batch_size` must be at least 1. Received: {batch_size}.")
        self.arrays = [a if a is None else keras.ops.convert_to_numpy(as_array(a)) for a in arrays]
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
        return _through(self.preprocess_samples, self.dataset[index])

    def on_epoch_begin(self):
        self.dataset.on_epoch_begin()

    def on_epoch_end(self):
        self.dataset.on_epoch_end()


def preprocessed(data, function):
    """Data of any kind but arrays, each batch through `function(x, y, sample_weight)`.

    A `DataLoader` starts again at its end; `steps_of` tells its length.
    """
    if is_stream(data):
        return data.map(over_elements(function))
    if isinstance(data, keras.utils.PyDataset):
        return Preprocessed(data, function)
    if is_loader(data):
        return (_through(function, batch) for batch in _again_and_again(data))
    return (_through(function, batch) for batch in data)


def over_elements(function):
    """`function(x, y, sample_weight)` as `map` of `tf.data` and of Grain's wants it."""

    def mapped(*element):
        element = element[0] if len(element) == 1 else element
        return function(*keras.utils.unpack_x_y_sample_weight(element))

    return mapped


def steps_of(data, steps, argument):
    """How many batches are an epoch: `steps` if given, else the length of a `DataLoader`.

    Raises: TrainingError: it has none.
    """
    if steps is not None or not is_loader(data):
        return steps
    try:
        return len(data)
    except TypeError:
        raise TrainingError(f"This DataLoader has no length: give `{argument}`.") from None


def _again_and_again(loader):
    while True:
        yield from loader


def _through(function, batch):
    samples = keras.utils.unpack_x_y_sample_weight(batch)
    samples = function(*samples)
    return samples if isinstance(samples, tuple) else (samples,)
