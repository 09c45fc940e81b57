"""The same network as another object: of a subclass, or with other constructor arguments."""

import logging
import re

from keras_dpt.errors import TrainingError
from keras_dpt.models.arguments import own_arguments, passes_on

logger = logging.getLogger("keras_dpt")


def rebuilt(cls, model, changes=(), fresh=()):
    """A task of the class `cls` around the backbone of `model`, with its weights.

    Args:
        cls: the class of the result; it and `model`'s class have an ancestor in this package.
        model: a task; it shares its backbone with the result.
        changes: constructor arguments that differ from `model.get_config()`.
        fresh: names of layers inside heads whose weights are not taken over.

    Returns: an instance of `cls`. Weights that only it has are fresh; the log names their layers.
    Raises: TrainingError: (a ValueError) `cls` takes no argument for a setting of `model` and ends
        up with another one.
    """
    changes = dict(changes)
    settings = model.get_config()
    for name in ("backbone", "preprocessor"):
        settings[name] = getattr(model, name)
    settings.pop("name", None)
    settings |= changes
    passed = changes.keys() | own_arguments(cls)
    if passes_on(cls) and issubclass(cls, type(model)):
        passed |= settings.keys()
    arguments = {key: value for key, value in settings.items() if key in passed}
    new = _made(cls, arguments, changes)
    config = new.get_config()
    for key in settings:
        if key not in passed and key in config and config[key] != settings[key]:
            raise TrainingError(
                f"{cls.__name__} has {key}={config[key]!r}, but the preset's weights belong to "
                f"{key}={settings[key]!r}. Let `{cls.__name__}.__init__` take `{key}`, or "
                "`**kwargs`, and pass it to `super().__init__`."
            )
    _take_weights(new, model, fresh)
    return new


def _made(cls, arguments, changes):
    """`cls` of these arguments, but for those that its constructor sets by itself."""
    arguments = dict(arguments)
    while True:
        try:
            return cls.from_config(dict(arguments))
        except TypeError as error:
            found = re.search(r"multiple values for (?:keyword )?argument '(\w+)'", str(error))
            if not found or found[1] not in arguments or found[1] in changes:
                raise
            value = arguments.pop(found[1])
            logger.warning("%s sets %s; the preset's is %r.", cls.__name__, found[1], value)


def _take_weights(new, model, fresh):
    """Copy what is outside of the backbone, by path, where shapes are equal."""
    theirs = {weight.path: weight for weight in _own_weights(model)}
    left = []
    for weight in _own_weights(new):
        source = theirs.get(weight.path)
        if set(weight.path.split("/")) & set(fresh):
            continue
        if source is not None and tuple(source.shape) == tuple(weight.shape):
            weight.assign(source.value)
        else:
            left.append(weight.path)
    if left:
        logger.warning(
            "%s: the preset has no weights for %s; train them first.",
            type(new).__name__,
            ", ".join(sorted(left)),
        )


def _own_weights(model):
    of_backbone = {id(weight) for weight in model.backbone.weights}
    return [weight for weight in model.weights if id(weight) not in of_backbone]
