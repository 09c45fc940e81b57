"""Names of constructor arguments: what a class takes, and which one was meant."""

import difflib
import inspect

# What every network takes besides its own, or `from_preset` takes in its place.
_OF_ALL = ("dtype", "name", "trainable")
_OF_TASKS = ("compile", "image_shape", "image_size")
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def check_arguments(task, kwargs):
    """Raise TypeError for constructor arguments that keras-hub would drop without a word."""
    unknown = kwargs.keys() - {"compile", *_OF_ALL}
    if unknown:
        raise TypeError(_unknown(type(task), unknown, own_arguments(type(task)) | {"compile"}))


def check_arguments_of_preset(cls, kwargs):
    """Raise TypeError for arguments of `from_preset` that no constructor of `cls` knows."""
    if not _is_ours(cls):
        return  # a user's constructor may take names that its signature does not show
    known = own_arguments(cls) | set(_OF_ALL)
    if hasattr(cls, "preprocessor_cls"):
        known |= set(_OF_TASKS)
    if unknown := kwargs.keys() - known:
        raise TypeError(_unknown(cls, unknown, known))


def own_arguments(cls):
    """Names that the constructors of `cls` show, up to the first that passes nothing on."""
    names = set()
    for parent in cls.__mro__:
        if "__init__" not in vars(parent):
            continue
        parameters = list(inspect.signature(parent.__init__).parameters.values())[1:]
        names |= {p.name for p in parameters if p.kind in _NAMED}
        if not passes_on(parent) or parent.__module__.startswith("keras_dpt."):
            break
    return names


def passes_on(cls):
    """Whether the constructor of `cls` takes `**kwargs`."""
    parameters = inspect.signature(cls.__init__).parameters.values()
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def _is_ours(cls):
    return cls.__init__.__module__.startswith("keras_dpt.")


def _unknown(cls, unknown, known):
    unknown = sorted(unknown)
    close = [difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5) for name in unknown]
    meant = sorted({match for matches in close for match in matches})
    hint = f" Did you mean {' and '.join(map(repr, meant))}?" if meant else ""
    return (
        f"{cls.__name__} takes no argument {', '.join(map(repr, unknown))}.{hint} "
        f"It takes {', '.join(sorted(known))}."
    )
