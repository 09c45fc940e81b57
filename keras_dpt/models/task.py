"""What all tasks share: `fit`, `evaluate` and `predict` for any data, compiling, saving."""

import types
from contextlib import contextmanager, nullcontext

import keras

from keras_dpt.errors import DataError, TrainingError
from keras_dpt.hub import keras_hub
from keras_dpt.models.backbone import DPTBackbone
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
from keras_dpt.models.finite import check_finite
from keras_dpt.models.fit import (
    CountEpochs,
    WarnOfTargets,
    warn_of_targets,
    weights_kept,
    with_callback,
)
from keras_dpt.models.from_preset import TaskFromPreset
from keras_dpt.models.image_converter import DPTImageConverter
from keras_dpt.models.members import check_members, lacking
from keras_dpt.models.openvino import OnOpenVINO
from keras_dpt.models.predict import PredictImages, one_at_a_time
from keras_dpt.models.samples import Samples
from keras_dpt.ops.labels import of_known_rank
from keras_dpt.ops.memory_order import order_as_weights
from keras_dpt.ops.sides import one_size_only
from keras_dpt.ops.training import check_training
from keras_dpt.optimizers import check_trained, introduce

# Task classes by name; see `keras_dpt.models.tasks`, which imports all of this package's.
TASKS = {}


class DPTTask(Samples, PredictImages, TaskFromPreset, OnOpenVINO):
    """Mixin before a keras-hub task class.

    A class that sets `task_name` in its own body is registered under that name: presets, the
    command line, conversion, studies and export then find it. Classes derived from it are not.

    A task defines:
        task_name: the name that presets use, such as "depth".
        kinds: what its output can be; a `kind` of `keras_dpt.datasets.Source` each.
        learns: the target of `keras_dpt.datasets.Batches` that it is trained on.
        result_cls: what `predict_image` returns.
        command: the subcommand of `keras-dpt` that predicts with it, if there is one.
        assumption: how the output of a checkpoint is understood that matches no preset.
        postprocess(output, size): the result for one image, from the network's output `(h, w, C)`
            and the image's `(height, width)`.
        default_loss(), default_metrics(): for `compile`.
        targets_seen(): what looks at the targets of a training, see `keras_dpt.models.targets`.
        weighing_classes: what `class_weight` of `fit` means.
        describe_output(): what the output means, for people and programs without this package.
        arguments_from(preset), output_of(task_config): what a preset specifies, if it is more than
            the constructor's arguments.
    """

    task_name = None
    kinds = ()
    learns = None
    result_cls = None
    command = None
    assumption = "Its output has no declared meaning"

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        name = cls.__dict__.get("task_name")
        if name is None:
            # keras-hub takes any class of a preset's backbone; a user's must not be taken for the
            # task's own. Its `from_preset` goes through that one.
            cls.backbone_cls = None
            return
        known = TASKS.get(name, cls)
        # A module that is read again, or a notebook's cell, defines its class once more.
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(
                f"`task_name` must be one that no other task has; {name!r} is the name of "
                f"{known.__module__}.{known.__qualname__}. To change that task, derive from its "
                "class without a `task_name`."
            )
        TASKS[name] = cls

    def compile(self, optimizer="auto", loss="auto", *, metrics="auto", **kwargs):
        """Configure training. "auto" is Adam, the task's default loss and its default metrics."""
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = keras.optimizers.Adam(1e-4)
        self._compile(optimizer, loss, metrics, **kwargs)

    def _compile(self, optimizer, loss, metrics, **kwargs):
        """keras-hub's `compile`; an optimizer with a rate for the encoder is told which that is."""
        if self.backbone is None:  # keras-hub compiles in `super().__init__`
            raise TrainingError(
                f"`{type(self).__name__}.__init__` must set `self.backbone` and "
                "`self.preprocessor` before it calls `super().__init__`."
            )
        introduce(optimizer, self.backbone.image_encoder, self.trainable_variables)
        loss, metrics = self.loss_and_metrics(loss, metrics)
        keras_hub.models.Task.compile(
            self, optimizer=optimizer, loss=loss, metrics=metrics, **kwargs
        )

    def loss_and_metrics(self, loss, metrics):
        """Arguments of `compile`, with the task's defaults where they are "auto"."""
        if isinstance(loss, str) and loss == "auto":
            loss = self.default_loss()
        if isinstance(metrics, str) and metrics == "auto":
            metrics = self.default_metrics()
        # For Keras, `None` leaves the metrics of an earlier `compile` in place.
        return loss, [] if metrics is None else metrics

    def default_loss(self):
        """The loss that `compile` takes by default."""
        raise lacking(
            type(self),
            "default_loss",
            ' Without one, pass "compile=False" to the constructor, then `loss=` to `compile`.',
        )

    def default_metrics(self):
        """The metrics that `compile` takes by default: a list."""
        return []

    def targets_seen(self):
        """What looks at the targets of a training, see `keras_dpt.models.targets`; or `None`."""
        return None

    def weighing_classes(self, class_weight):
        """A context in which `class_weight` of `fit` applies.

        Raises: TrainingError: the task's targets are not classes.
        """
        if class_weight is not None:
            raise TrainingError(
                f"`class_weight` is for classes, and {type(self).__name__} has none. Use "
                "`sample_weight`."
            )
        return nullcontext()

    def describe_output(self):
        """What the numbers of the output mean, as a dict of JSON types.

        Keys: `task`, `kind`, `unit`, `meaning`, `to_photo_size`; a task may add others.
        """
        check_members(type(self), "task_name", "kinds")
        return {"task": self.task_name, "kind": self.kinds[0], "unit": None}

    @classmethod
    def output_of(cls, task_config):
        """`output` of a preset (see `keras_dpt.presets`) with these constructor arguments."""
        check_members(cls, "kinds")
        return {"kind": cls.kinds[0], "unit": None}

    @classmethod
    def arguments_from(cls, preset, given):
        """Constructor arguments that a preset of this task specifies, beside its parts.

        Args:
            preset: see `keras_dpt.presets`.
            given: constructor arguments that replace the preset's.
        """
        return preset["architecture"]["task_config"]

    @classmethod
    def from_architecture(cls, preset, dtype=None, image_shape=(None, None, 3), **kwargs):
        """Build from a preset (see `keras_dpt.presets`), with fresh weights.

        Of a preset of another task, only backbone and image geometry are taken.
        """
        check_members(cls, "task_name", "preprocessor_cls")
        parts = {
            "backbone": DPTBackbone.from_architecture(preset, dtype, image_shape=image_shape),
            "preprocessor": cls.preprocessor_cls(DPTImageConverter(**preset["image"])),
        }
        if preset["task"] == cls.task_name:
            parts |= cls.arguments_from(preset, kwargs)
        return cls(**parts | kwargs)

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

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return super().compute_loss(x, of_known_rank(y), y_pred, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, of_known_rank(y), y_pred, sample_weight)

    def get_compile_config(self):
        """How the model was compiled, and whether its optimizer has state; Keras saves this."""
        config = super().get_compile_config()
        if not config:
            return config
        optimizer = config["optimizer"]
        if not isinstance(optimizer, dict):  # a name, such as "adam"
            optimizer = keras.saving.serialize_keras_object(self.optimizer)
        # Inside the optimizer's part, where other models' `compile_from_config` let it be.
        return config | {"optimizer": optimizer | {"is_built": self.optimizer.built}}

    def compile_from_config(self, config):
        """Compile like the saved model, so that training can continue; Keras calls this."""
        config = dict(config)
        # Files of earlier versions have it beside the optimizer.
        optimizer_is_built = config.pop("optimizer_is_built", False)
        if isinstance(config.get("optimizer"), dict):
            optimizer_is_built = config["optimizer"].get("is_built", optimizer_is_built)
        self.compile(**keras.saving.deserialize_keras_object(config))
        if optimizer_is_built:
            self.optimizer.build(self.trainable_variables)

    def save_task_weights(self, filepath):
        """As in keras-hub, without the optimizer's state: a preset does not resume a training."""
        with without_optimizer(self):
            super().save_task_weights(filepath)

    def load_task_weights(self, filepath):
        """As in keras-hub, without the optimizer's state; rejects NaN and infinity."""
        self.check_weights_file(filepath)
        with without_optimizer(self):
            super().load_task_weights(filepath)
        backbone = set(map(id, self.backbone.variables))
        check_finite([v for v in self.variables if id(v) not in backbone], filepath)


@contextmanager
def without_optimizer(model):
    """Save or load a model's weights without the state of its optimizer."""
    optimizer, model.optimizer = model.optimizer, None
    try:
        yield
    finally:
        model.optimizer = optimizer
