"""What all tasks share: their register, compiling, saving."""

from contextlib import contextmanager, nullcontext

import keras

from keras_dpt.errors import TrainingError
from keras_dpt.hub import keras_hub
from keras_dpt.models.any_data import TakesAnyData
from keras_dpt.models.backbone import DPTBackbone
from keras_dpt.models.finite import check_finite
from keras_dpt.models.from_preset import TaskFromPreset
from keras_dpt.models.image_converter import DPTImageConverter
from keras_dpt.models.members import check_members, lacking
from keras_dpt.models.openvino import OnOpenVINO
from keras_dpt.models.predict import PredictImages
from keras_dpt.models.samples import Samples
from keras_dpt.ops.labels import of_known_rank
from keras_dpt.optimizers import introduce

# Task classes by name; see `keras_dpt.models.tasks`, which imports all of this package's.
TASKS = {}


class DPTTask(TakesAnyData, Samples, PredictImages, TaskFromPreset, OnOpenVINO):
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
    optimizer = getattr(model, "optimizer", None)  # none before `compile`
    model.optimizer = None
    try:
        yield
    finally:
        model.optimizer = optimizer
