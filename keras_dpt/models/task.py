"""What all tasks share: any data in `fit`, and the way from photos to predictions."""

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import keras
import numpy as np

from keras_dpt.errors import DataError, TrainingError
from keras_dpt.image_converter import DPTImageConverter
from keras_dpt.layers.linear import order_as_weights
from keras_dpt.models.from_preset import FromPreset
from keras_dpt.pictures import read_image


class DPTTask(FromPreset):
    """Mixin before a keras-hub task class.

    A task says in `postprocess(output, size)` what becomes of the network's output for one image,
    `(h, w, C)`, when the photo was of `size` `(height, width)`, and in `learns` which target of
    `keras_dpt.datasets.Batches` it is trained with.
    """

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        sample_weight=None,
        validation_data=None,
        validation_split=None,
        shuffle=None,
        **kwargs,
    ):
        """`keras.Model.fit`, preprocessing included, for arrays, `tf.data`, Grain and `PyDataset`s.

        keras-hub's own takes `tf.data` and Grain, and arrays, which it never shuffles. This adds
        `keras.utils.PyDataset`, and shuffles arrays as Keras does.
        """
        options = {"validation_data": validation_data, "validation_split": validation_split}
        if keras.backend.backend() == "tensorflow":
            self._build_optimizer()
        with _weights_kept(self):
            return self._fit(x, y, batch_size, sample_weight, shuffle=shuffle, **options, **kwargs)

    def make_train_function(self, force=False):
        """As in Keras; on PyTorch the optimizer's memory is put in the order of the weights'."""
        if keras.backend.backend() == "torch" and (force or self.train_function is None):
            self._build_optimizer()
            order_as_weights(self.optimizer, self.trainable_variables)
        return super().make_train_function(force)

    def _build_optimizer(self):
        """Make the optimizer's variables: TensorFlow traces a step that makes any twice."""
        if (optimizer := getattr(self, "optimizer", None)) and not optimizer.built:
            strategy = getattr(self, "distribute_strategy", None)  # TensorFlow's
            with strategy.scope() if strategy else nullcontext():
                optimizer.build(self.trainable_variables)

    def _fit(
        self, x, y, batch_size, sample_weight, validation_data, validation_split, shuffle, **kwargs
    ):
        if _is_stream(x) and not isinstance(validation_data, keras.utils.PyDataset):
            kwargs["shuffle"] = bool(shuffle)  # a stream shuffles itself; Keras warns if told to
            kwargs |= {"validation_data": validation_data, "validation_split": validation_split}
            return super().fit(x, y, batch_size, sample_weight, **kwargs)
        if getattr(x, "shuffles_itself", False):
            self._check_target(x.target)
            callbacks = kwargs.get("callbacks") or []
            if not isinstance(callbacks, keras.callbacks.CallbackList):
                callbacks = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
                counter = _CountEpochs(x, kwargs.get("initial_epoch", 0))
                kwargs["callbacks"] = [counter, *callbacks]
            shuffle = bool(shuffle)
        shuffle = True if shuffle is None else shuffle
        if not isinstance(x, keras.utils.PyDataset) and not _is_stream(x):
            _check_arrays(x, y, sample_weight, "fit")
            if validation_split and validation_data is None:
                cut = int(len(x) * (1 - validation_split))
                data = [(a, a) if a is None else (a[:cut], a[cut:]) for a in (x, y, sample_weight)]
                (x, y, sample_weight), validation_data = zip(*data, strict=True)
            x = _Arrays((x, y, sample_weight), batch_size, shuffle)
            y = sample_weight = None
            shuffle = False  # already done, image by image
        if isinstance(validation_data, tuple | list) or hasattr(validation_data, "shape"):
            _check_arrays(*keras.utils.unpack_x_y_sample_weight(validation_data), "validation_data")
        return keras.Model.fit(
            self,
            self._preprocessed(x),
            y,
            sample_weight=sample_weight,
            validation_data=self._preprocessed(validation_data, batch_size),
            shuffle=shuffle and not _is_stream(x),
            **kwargs,
        )

    def _check_target(self, target):
        """Raise a DataError for `Batches` of what the model does not learn."""
        if target != self.learns:
            raise DataError(
                f'This model learns from Batches(..., target="{self.learns}"); received '
                f'target="{target}".'
            )

    def _preprocessed(self, data, batch_size=None):
        """Training or validation data of any kind as batches that are ready for the network."""
        if data is None:
            return None
        if _is_stream(data):
            return data.map(self.preprocess_samples)
        if not isinstance(data, keras.utils.PyDataset):
            data = _Arrays(keras.utils.unpack_x_y_sample_weight(data), batch_size)
        return _Preprocessed(data, self.preprocess_samples)

    def evaluate(self, x=None, y=None, batch_size=None, sample_weight=None, **kwargs):
        """`keras.Model.evaluate`, preprocessing included, for the data that `fit` takes."""
        with _weights_kept(self):
            if _is_stream(x):
                return super().evaluate(x, y, batch_size, sample_weight, **kwargs)
            if not isinstance(x, keras.utils.PyDataset):
                _check_arrays(x, y, sample_weight, "evaluate")
                x = (x, y, sample_weight)
            elif y is not None or sample_weight is not None:
                raise TrainingError(
                    "A `PyDataset` gives its own targets and weights; `evaluate` was given others."
                )
            if not isinstance(x, _Preprocessed):  # `fit`'s validation data already are
                x = self._preprocessed(x, batch_size)
            return keras.Model.evaluate(self, x, **kwargs)

    def predict(self, x=None, batch_size=None, **kwargs):
        """`keras.Model.predict`, preprocessing included, for the data that `fit` takes.

        keras-hub's own needs TensorFlow or Grain even for arrays, and knows no `PyDataset`.
        """
        if _is_stream(x):
            return super().predict(x, batch_size, **kwargs)
        if not isinstance(x, keras.utils.PyDataset):
            _check_batch(x, "predict")
            x = (x,)
        return keras.Model.predict(self, self._preprocessed(x, batch_size), **kwargs)

    def get_compile_config(self):
        """How the model was compiled, and whether its optimizer has a state; Keras saves this."""
        config = super().get_compile_config()
        return config and config | {"optimizer_is_built": self.optimizer.built}

    def compile_from_config(self, config):
        """Compile as a saved model was, so that its training can go on; Keras calls this."""
        config = keras.saving.deserialize_keras_object(config)
        optimizer_is_built = config.pop("optimizer_is_built", False)
        self.compile(**config)
        if optimizer_is_built:
            self.optimizer.build(self.trainable_variables)

    def save_task_weights(self, filepath):
        """keras-hub's, without the optimizer's state: a preset is not a training to resume."""
        with without_optimizer(self):
            super().save_task_weights(filepath)

    def load_task_weights(self, filepath):
        """keras-hub's, without looking for the optimizer's state."""
        with without_optimizer(self):
            super().load_task_weights(filepath)

    def predict_image(self, image, **options):
        """Predict for one photo.

        Args:
            image: path, PIL image, or array `(H, W)`, `(H, W, 3)` or `(H, W, 4)`, 8 or 16 bit or
                float in [0, 1].
            **options: what `predict_images` takes beside images.

        Returns:
            What `predict_images` gives for one photo.

        Raises:
            keras_dpt.ImageError: the image cannot be read or has values out of range.
        """
        return self.predict_images([image], **{"batch_size": 1} | options)[0]

    def predict_images(self, images, batch_size=4):
        """Predict for photos of any sizes; those that get the same input size share batches.

        Args:
            images: list of what `predict_image` takes.
            batch_size: the most images that go through the network at once.

        Returns:
            List of predictions of the photos' sizes, in the order of `images`.

        Raises:
            keras_dpt.ImageError: an image cannot be read; nothing is predicted then.
        """
        check_images(images, batch_size)
        converter = self.converter_of_photos()
        photos = [read_image(image) for image in images]
        sizes = [photo.shape[:2] for photo in photos]
        shapes = [(*converter.target_size(*size), 3) for size in sizes]
        predictions = [None] * len(photos)
        with ThreadPoolExecutor(1) as resizer:  # it is ahead of the network
            inputs = [resizer.submit(converter.convert, photo) for photo in photos]
            for i, output in self._outputs_of_batches(
                shapes, lambda i: inputs[i].result(), batch_size
            ):
                predictions[i] = with_source(self.postprocess(output, sizes[i]), images[i])
        return predictions

    def converter_of_photos(self):
        """The preprocessor's `DPTImageConverter`, or one with default arguments."""
        return getattr(self.preprocessor, "image_converter", None) or DPTImageConverter()

    def network_outputs(self, inputs, batch_size):
        """Run images that are ready for the network, in batches of equal shapes.

        Args:
            inputs: list of `(h, w, 3)` float arrays.
            batch_size: the most that go through the network at once.

        Yields: index into `inputs` and the output for it, `(h, w, C)`, batch by batch.
        """
        return self._outputs_of_batches([x.shape for x in inputs], inputs.__getitem__, batch_size)

    def _outputs_of_batches(self, shapes, get, batch_size):
        """`network_outputs` of inputs of these shapes, where `get(i)` is number i."""
        for batch in _batches(shapes, batch_size):
            # Not `Task.predict_on_batch`: these images are already converted.
            outputs = keras.Model.predict_on_batch(self, np.stack([get(i) for i in batch]))
            yield from zip(batch, np.asarray(outputs), strict=True)


def check_arguments(task, kwargs):
    """Raise TypeError for constructor arguments that keras-hub would drop without a word."""
    unknown = sorted(kwargs.keys() - {"compile", "dtype", "name", "trainable"})
    if unknown:
        raise TypeError(f"{type(task).__name__} takes no argument {', '.join(map(repr, unknown))}.")


def check_images(images, batch_size):
    """Raise TypeError or ValueError for what `predict_images` cannot take."""
    if not isinstance(images, list | tuple):
        raise TypeError(
            "`predict_images` takes a list of images, `predict_image` a single one; received "
            f"{type(images).__name__}."
        )
    if batch_size < 1:
        raise ValueError(f"`batch_size` has to be at least 1; received {batch_size}.")


def with_source(prediction, image):
    """The prediction, told the name of its picture if it came from a file."""
    is_file = isinstance(image, str | os.PathLike)
    return dataclasses.replace(prediction, source=image) if is_file else prediction


@contextmanager
def without_optimizer(model):
    """Save or load a model's weights without the state of its optimizer."""
    optimizer, model.optimizer = model.optimizer, None
    try:
        yield
    finally:
        model.optimizer = optimizer


@contextmanager
def _weights_kept(model):
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


def _is_stream(x):
    """Whether `x` is a `tf.data.Dataset` or one of Grain's."""
    return hasattr(x, "map") and hasattr(x, "batch")


def _check_batch(x, caller):
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


def _check_arrays(x, y, sample_weight, caller):
    """Raise a TrainingError unless `x` are images and all that is given with them is as long."""
    _check_batch(x, caller)
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


class _Arrays(keras.utils.PyDataset):
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


class _CountEpochs(keras.callbacks.Callback):
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


class _Preprocessed(keras.utils.PyDataset):
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


def _batches(shapes, batch_size):
    """Indices of equal shapes, in lists of at most `batch_size`."""
    buckets = {}
    for i, shape in enumerate(shapes):
        buckets.setdefault(shape, []).append(i)
    for bucket in buckets.values():
        for start in range(0, len(bucket), batch_size):
            yield bucket[start : start + batch_size]
