"""What a task of one's own must define, said as soon as it is needed and missing."""

from keras_dpt.errors import KerasDPTError

_MEANING = {
    "task_name": 'the name that presets use for it, such as "depth"',
    "kinds": 'the kinds of its output, such as ("labels",)',
    "learns": "the `target` of `keras_dpt.datasets.Batches` that it is trained on",
    "backbone_cls": "the class of its backbone, such as `keras_dpt.DPTBackbone`",
    "preprocessor_cls": "the class of its preprocessor, such as `keras_dpt.DPTDepthPreprocessor`",
    "default_loss": "a method that returns the loss",
    "postprocess": "a method that returns the result for one image",
}


class MissingMemberError(KerasDPTError, NotImplementedError):
    """A task of one's own without something that it must define."""


def lacking(cls, name, instead=""):
    """The error of a task class without the member `name`; `instead`: what else would do."""
    return MissingMemberError(
        f"{cls.__name__} must define `{name}`, {_MEANING[name]}.{instead} See the section on tasks "
        "of your own in docs/guides/extending.md."
    )


def check_members(cls, *names):
    """Raise a MissingMemberError for the first of these attributes that a task class lacks."""
    for name in names:
        if not getattr(cls, name, None):
            raise lacking(cls, name)
