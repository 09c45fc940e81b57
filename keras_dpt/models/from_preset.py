"""`from_preset` by name, by file or by hub handle."""

import logging
from contextlib import contextmanager, nullcontext
from pathlib import Path

import keras

from keras_dpt import presets
from keras_dpt.errors import WeightsError
from keras_dpt.models.arguments import check_arguments_of_preset
from keras_dpt.models.finite import check_finite
from keras_dpt.models.members import check_members
from keras_dpt.models.rebuilding import rebuilt
from keras_dpt.models.saving import Saving
from keras_dpt.models.sizes import set_sizes
from keras_dpt.schema import explained, naming

logger = logging.getLogger("keras_dpt")

_OF_BACKBONE = ("model.weights.h5", "model.weights.json")


class _Presets:
    """Read-only class attribute: this package's presets that the class can load."""

    def __get__(self, instance, owner):
        return {name: presets.read_preset(name) for name in presets.preset_names()}


class FromPreset(Saving):
    """Mixin before a keras-hub base class: widens what its `from_preset` accepts.

    keras-hub's table of built-in names is private and its list of Hugging Face architectures
    closed, so whatever it does not know is first turned into a local preset directory.
    """

    presets = _Presets()

    @classmethod
    def from_preset(cls, preset, load_weights=True, **kwargs):
        """Load a model, or the part of one that this class is.

        Args:
            preset: one of
                - a name from `keras_dpt.list_presets()`. Its official weights are downloaded and
                  converted once, then read from the cache;
                - a `.pt` or `.safetensors` file from the original authors or from Hugging Face;
                - a Hugging Face directory of a DPT or Depth Anything, as `save_pretrained` writes
                  it, or `hf://user/repository` of one;
                - a keras-hub preset: directory, `hf://...` or `kaggle://...`;
                - a `.keras` file, as `save` writes it; no other argument can be given with it.
            load_weights: `False` builds the named architecture with fresh weights, without network.
            **kwargs: override constructor arguments; `dtype` sets the dtype policy of all layers.

        Returns:
            An instance of the class.

        Raises:
            TypeError: an unknown constructor argument; the message suggests the nearest one.
            ValueError: there is no such preset.
            keras_dpt.WeightsError: the weights cannot be downloaded, or do not fit; the message
                says which file to put where.
        """
        check_arguments_of_preset(cls, kwargs)
        if not load_weights and preset in presets.preset_names():
            return cls.from_architecture(presets.read_preset(preset), **kwargs)

        from keras_dpt.loading.cache import preset_directory
        from keras_dpt.loading.keras_files import is_keras_file
        from keras_dpt.loading.preset_files import check_weights

        if is_keras_file(preset):
            return _of_keras_file(preset, cls, load_weights, kwargs)
        directory = str(preset_directory(preset))
        if load_weights:
            check_weights(directory)
        with _named(directory, kwargs), _own_errors():
            return super().from_preset(directory, load_weights, **kwargs)

    def load_weights(self, filepath, *args, **kwargs):
        """As in Keras; raises a WeightsError for a file that is damaged, does not fit, or holds
        NaN or infinity. Some of the weights may have been loaded by then."""
        self.check_weights_file(filepath)
        with explained(filepath, WeightsError, "cannot be loaded"):
            super().load_weights(filepath, *args, **kwargs)
        check_finite(self.variables, filepath)

    def check_weights_file(self, filepath):
        """Raise a WeightsError for a `.weights.h5` file with far more numbers than the network."""
        from keras_dpt.loading.keras_files import check_weights_file

        check_weights_file(filepath, self.variables)


class TaskFromPreset(FromPreset):
    """As `FromPreset`, for tasks: heads keep their weights in subclasses, sizes go together."""

    @classmethod
    def from_preset(cls, preset, load_weights=True, image_size=None, **kwargs):
        """Load a model; see `keras_dpt.DPTBackbone.from_preset` for what `preset` can be.

        A subclass loads what its parents can: head, kind and class names come from the preset
        unless given. Its constructor may add arguments and must pass on the others.

        Args:
            preset: name, file, directory or handle. If it was made for another task, its backbone
                is used and the head is untrained.
            load_weights: `False` builds the named architecture with fresh weights, without network.
            image_size: `(height, width)` that the preprocessor resizes images to, in place of the
                preset's size.
            **kwargs: override constructor arguments; `dtype` sets the dtype policy of all layers.
                `image_shape=(height, width, 3)` builds the network for this size only, and the
                preprocessor resizes all images to it.

        Returns: an instance of the class.
        Raises: as `keras_dpt.DPTBackbone.from_preset`.
        """
        check_arguments_of_preset(cls, kwargs)
        from keras_dpt.loading.keras_files import is_keras_file

        if is_keras_file(preset):
            model = _of_keras_file(preset, cls, load_weights, kwargs)
            set_sizes(model, image_size, None)
            return model
        ours = next((c for c in cls.__mro__ if vars(c).get("task_name")), cls)
        check_members(ours, "task_name", "backbone_cls", "preprocessor_cls")
        kwargs, own = _divided(kwargs, ours is cls)
        with keras.saving.custom_object_scope(_unregistered(cls, ours)):
            model = ours._loaded(preset, load_weights, **kwargs)
        if not isinstance(model, cls) or own:
            if not isinstance(getattr(model, "preprocessor", None), cls.preprocessor_cls):
                own = {"preprocessor": _converted(model.preprocessor, cls.preprocessor_cls)} | own
            model = rebuilt(cls, model, own)
        set_sizes(model, image_size, kwargs.get("image_shape"))
        return model

    @classmethod
    def _loaded(cls, preset, load_weights=True, **kwargs):
        """What keras-hub makes of a preset; the class is one of this package."""
        if not load_weights and preset in presets.preset_names():
            return cls.from_architecture(presets.read_preset(preset), **kwargs)

        from keras_dpt.loading.cache import preset_directory
        from keras_dpt.loading.preset_files import check_weights
        from keras_dpt.models.tasks import task_in

        directory = str(preset_directory(preset))
        ours, made_for = cls.task_name, task_in(directory)
        if ours and made_for and made_for.task_name != ours:
            logger.warning(
                "%s was made for %s: its backbone is used. The head is untrained: fine-tune it "
                "before predicting.",
                preset,
                made_for.__name__,
            )
        if load_weights:
            check_weights(directory)
        with _named(directory, kwargs), _own_errors():
            return super(FromPreset, cls).from_preset(directory, load_weights, **kwargs)


def check_whole(backbone, file):
    """Raise a WeightsError if a backbone's weights are of a preset that lacks those of its head.

    keras-hub's own classes come this way, too: they would go on with a random head.
    """
    folder = Path(file).parent
    described, weighed = ((folder / n).is_file() for n in ("task.json", "task.weights.h5"))
    # A hub's cache may have a description only, if no more was asked for.
    lacks = weighed > described or (described > weighed and hasattr(backbone, "is_part_of_task"))
    if lacks and Path(file).name in _OF_BACKBONE:
        raise WeightsError(
            f"{folder} is incomplete: task.json and task.weights.h5 belong together. Fetch or save "
            "the preset again."
        )


def _of_keras_file(file, cls, load_weights, kwargs):
    """The model of a `.keras` file, to which no argument can be given."""
    from keras_dpt.loading.keras_files import load_keras_file

    given = sorted(kwargs) + ([] if load_weights else ["load_weights"])
    if given:
        raise TypeError(
            f"A .keras file is loaded as it was saved; {', '.join(given)} cannot be changed. Save "
            "the model with `save_to_preset` for that."
        )
    return load_keras_file(file, cls)


@contextmanager
def _named(directory, kwargs):
    """Whatever Keras says of a preset that it cannot load, as an error with the preset's name."""
    try:
        # What was wrong may be an argument that was given.
        with (
            nullcontext() if kwargs else naming(directory),
            explained(directory, WeightsError, "cannot be loaded"),
        ):
            yield
    except WeightsError as error:
        if kwargs and isinstance(error.__cause__, TypeError | ValueError):
            raise error.__cause__ from None
        raise


def _divided(kwargs, is_ours):
    """Arguments for the class of this package that loads, and those for a user's subclass."""
    if is_ours:
        return kwargs, {}
    of_loading = ("backbone", "dtype", "image_shape", "preprocessor", "num_classes")
    loading = {key: value for key, value in kwargs.items() if key in of_loading}
    return loading, {key: value for key, value in kwargs.items() if key not in loading}


def _unregistered(cls, ours):
    """A user's classes by the name under which Keras saved them."""
    own = cls.__mro__[: cls.__mro__.index(ours)]
    return {c.__name__: c for c in reversed(own) if c.__name__ != ours.__name__}


def _converted(preprocessor, cls):
    """A preprocessor of the class that a user's task asks for."""
    return None if preprocessor is None else cls.from_config(preprocessor.get_config())


@contextmanager
def _own_errors():
    """Say what went wrong in a constructor without the config that Keras prints around it."""
    try:
        yield
    except TypeError as error:
        while "could not be deserialized" in str(error) and error.__context__ is not None:
            error = error.__context__
        raise error from None
