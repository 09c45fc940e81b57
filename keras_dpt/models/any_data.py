"""`fit`, `evaluate` and `predict` of a task, for every kind of data that Keras takes."""

import types
from contextlib import nullcontext

import keras

from keras_dpt.errors import DataError, TrainingError
from keras_dpt.models.checks import check_alone, check_arrays, check_batch, split_at
from keras_dpt.models.data import (
    Arrays,
    is_arrays,
    is_iterated,
    is_stream,
    over_elements,
    preprocessed,
    steps_of,
)
from keras_dpt.models.fit import (
    CountEpochs,
    WarnOfTargets,
    warn_of_targets,
    weights_kept,
    with_callback,
)
from keras_dpt.models.members import lacking
from keras_dpt.models.predict import one_at_a_time
from keras_dpt.ops.memory_order import order_as_weights
from keras_dpt.ops.sides import one_size_only
from keras_dpt.ops.training import check_training
from keras_dpt.optimizers import check_trained


class TakesAnyData:
    """Mixin of a task, before `Samples`: data of any kind go through its preprocessing.

    A task says what it is trained on in `learns`, and may look at targets, see `targets_seen`.
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
        """`keras.Model.fit` with preprocessing, for every kind of data that Keras takes.

        These are arrays (shuffled as in Keras), `tf.data`, Grain's datasets,
        `keras.utils.PyDataset`, PyTorch's `DataLoader` and generators of batches; training and
        validation data may be of different kinds. (keras-hub's own `fit` takes the first three
        only.) Batches are `(images, targets)` or `(images, targets, sample_weight)`.

        Raises: TrainingError, DataError, LabelError, ImageError: data that the model cannot be
            trained on. Errors inside `tf.data` are wrapped in one of TensorFlow's.
        Warns: DataWarning: targets that are probably wrong, such as metres for a relative model.
        """
        check_training("`fit`")
        options = {"validation_data": validation_data, "validation_split": validation_split}
        class_weight = kwargs.pop("class_weight", None)
        if keras.backend.backend() == "tensorflow":
            self._build_optimizer()
        with weights_kept(self), self.weighing_classes(class_weight):
            return self._fit(x, y, batch_size, sample_weight, shuffle=shuffle, **options, **kwargs)

    def make_train_function(self, force=False):
        """As in Keras; on PyTorch the optimizer's memory is put in the order of the weights'."""
        check_trained(self.optimizer, self.trainable_variables)
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
        arrays = is_arrays(x)
        if validation_split and not arrays and validation_data is None:
            raise TrainingError(
                f"`validation_split` is for arrays, not for {type(x).__name__}: give "
                "`validation_data`."
            )
        if getattr(x, "shuffles_itself", False):
            self._check_batches(x)
            kwargs = with_callback(kwargs, CountEpochs(x, kwargs.get("initial_epoch", 0)))
            shuffle = bool(shuffle)
        self._check_iterated(x, validation_data, kwargs)
        if isinstance(validation_data, tuple | list) or hasattr(validation_data, "shape"):
            check_arrays(*keras.utils.unpack_x_y_sample_weight(validation_data), "validation_data")
        seen = self.targets_seen()
        if arrays:
            x, y, sample_weight = self._as_arrays(x, y, sample_weight)
            check_arrays(x, y, sample_weight, "fit")
            if validation_split and validation_data is None:
                cut = split_at(len(x), validation_split)
                data = [(a, a) if a is None else (a[:cut], a[cut:]) for a in (x, y, sample_weight)]
                (x, y, sample_weight), validation_data = zip(*data, strict=True)
            x = Arrays((x, y, sample_weight), batch_size, True if shuffle is None else shuffle)
            self._look_at_targets(x, seen)
            y = sample_weight = None
            shuffle = False  # already done, image by image
        elif not (getattr(x, "shuffles_itself", False) and self.learns != "labels"):
            check_alone(y, sample_weight, type(x).__name__, "fit")
            kwargs = with_callback(kwargs, WarnOfTargets(seen)) if seen else kwargs
            if not is_stream(x):
                return self._fit_prepared(x, seen, validation_data, shuffle, batch_size, **kwargs)
            self.check_stream(x)
            x = x.map(over_elements(self.watched(seen)))
        if is_stream(x) and not (
            isinstance(validation_data, keras.utils.PyDataset) or is_iterated(validation_data)
        ):
            kwargs["shuffle"] = bool(shuffle)  # a stream shuffles itself; Keras warns if told to
            return super().fit(x, None, batch_size, validation_data=validation_data, **kwargs)
        return self._fit_prepared(x, None, validation_data, shuffle, batch_size, **kwargs)

    def _fit_prepared(self, x, seen, validation_data, shuffle, batch_size, **kwargs):
        """Keras's own `fit` of data that are preprocessed here."""
        steps = steps_of(x, kwargs.get("steps_per_epoch"), "steps_per_epoch")
        validation_steps = steps_of(
            validation_data, kwargs.get("validation_steps"), "validation_steps"
        )
        kwargs |= {"steps_per_epoch": steps, "validation_steps": validation_steps}
        shuffle = True if shuffle is None else shuffle
        return keras.Model.fit(
            self,
            self._preprocessed(x, seen=seen),
            validation_data=self._preprocessed(validation_data, batch_size),
            shuffle=shuffle and isinstance(x, keras.utils.PyDataset),
            **kwargs,
        )

    def _check_iterated(self, x, validation_data, kwargs):
        """Raise a TrainingError for a generator that would be empty in the second epoch."""
        if kwargs.get("epochs", 1) - kwargs.get("initial_epoch", 0) < 2:
            return
        for data, argument in ((x, "steps_per_epoch"), (validation_data, "validation_steps")):
            if isinstance(data, types.GeneratorType) and kwargs.get(argument) is None:
                raise TrainingError(
                    f"A generator gives its batches once, and nothing tells where an epoch ends: "
                    f"for several epochs let it go on for ever, and give `{argument}`."
                )

    def _look_at_targets(self, arrays, seen):
        """Warn of all targets of a training at once, if something is odd about them."""
        targets = arrays.arrays[1]
        if seen is None:
            return
        for start in range(0, len(targets), 16):
            seen.add(targets[start : start + 16])
        if message := seen.message():
            warn_of_targets(message)

    def _check_batches(self, batches):
        """Raise a DataError for `Batches` of what the model does not learn, or cannot take."""
        if self.learns is None:
            raise lacking(type(self), "learns")
        if batches.target != self.learns:
            raise DataError(
                f'This model is trained on Batches(..., target="{self.learns}"). Received: '
                f'target="{batches.target}".'
            )
        fixed = self.backbone.image_encoder.fixed_size
        if fixed is not None and tuple(batches.size) != tuple(fixed):
            raise DataError(
                f"{one_size_only('This network', fixed)} Received: Batches of {batches.size}."
            )
        multiple = self.backbone.image_encoder.required_multiple
        if any(side % multiple for side in batches.size):
            near = tuple(max(1, round(side / multiple)) * multiple for side in batches.size)
            raise DataError(
                f"Batches must have sides that are multiples of {multiple} for this network, such "
                f"as {near}. Received: {batches.size}."
            )

    def _preprocessed(self, data, batch_size=None, seen=None):
        """Data of any kind as batches that are ready for the network; `seen` looks at targets."""
        if data is None:
            return None
        if is_arrays(data):
            data = self._as_arrays(*keras.utils.unpack_x_y_sample_weight(data))
            data = Arrays(data, batch_size)
        return preprocessed(data, self.watched(seen, self.preprocess_samples))

    def evaluate(self, x=None, y=None, batch_size=None, sample_weight=None, **kwargs):
        """`keras.Model.evaluate` with preprocessing, for the kinds of data that `fit` takes."""
        check_training("`evaluate`")
        if kwargs.get("_use_cached_eval_dataset"):  # `fit`, whose validation data are ready
            return keras.Model.evaluate(self, x, y, batch_size, sample_weight, **kwargs)
        with weights_kept(self):
            if is_stream(x):
                self.check_stream(x)
                return super().evaluate(x, y, batch_size, sample_weight, **kwargs)
            if not is_arrays(x):
                check_alone(y, sample_weight, type(x).__name__, "evaluate")
            else:
                x, y, sample_weight = self._as_arrays(x, y, sample_weight)
                check_arrays(x, y, sample_weight, "evaluate")
                x = (x, y, sample_weight)
            kwargs["steps"] = steps_of(x, kwargs.get("steps"), "steps")
            return keras.Model.evaluate(self, self._preprocessed(x, batch_size), **kwargs)

    def predict(self, x=None, batch_size=None, **kwargs):
        """`keras.Model.predict` with preprocessing, for the kinds of data that `fit` takes.

        keras-hub's own needs TensorFlow or Grain even for arrays, and does not take `PyDataset`.
        """
        with one_at_a_time(self), weights_kept(self):  # the weights are there inside the lock only
            if is_stream(x):
                self.check_stream(x)
                return super().predict(x, batch_size, **kwargs)
            if is_arrays(x):
                x, _, _ = self._as_arrays(x, None, None)
                check_batch(x, "predict")
                x = (x,)
            kwargs["steps"] = steps_of(x, kwargs.get("steps"), "steps")
            return keras.Model.predict(self, self._preprocessed(x, batch_size), **kwargs)
