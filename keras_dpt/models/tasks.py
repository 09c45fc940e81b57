"""All tasks by the names that presets use for them, and which one a preset is for."""

from pathlib import Path

import keras

from keras_dpt import presets
from keras_dpt.errors import WeightsError
from keras_dpt.models import depth, segmentation  # noqa: F401 - their classes register themselves
from keras_dpt.models.task import TASKS
from keras_dpt.schema import Record, read_json

DEFAULT = "depth"  # of presets that do not tell: a backbone alone, say


def task_named(name):
    """The task class of this name.

    Raises: ValueError: there is none; the message lists the names.
    """
    if name not in TASKS:
        raise ValueError(f"There is no task {name!r}. Tasks: {', '.join(TASKS)}.")
    return TASKS[name]


def task_for(kind):
    """The first task class whose output is of this kind, such as "labels"; else `None`."""
    return next((task for task in TASKS.values() if kind in task.kinds), None)


def task_in(directory):
    """The task class that a keras-hub preset directory was saved from; `None` if it doesn't tell.

    Of a class derived from a task's, it is that task's.
    """
    file = Path(directory) / "task.json"
    if not file.is_file():
        return None
    config = read_json(file, Record(), WeightsError)
    saved = keras.saving.get_registered_object(config.get("registered_name"))
    return TASKS.get(getattr(saved, "task_name", None))


def task_of(preset):
    """The task class of anything that `from_preset` takes; `None` if the preset doesn't tell.

    A checkpoint is fetched and converted for it, as `from_preset` would do; a named preset is not.
    """
    from keras_dpt.loading.cache import preset_directory

    if preset in presets.preset_names():
        return task_named(presets.read_preset(preset)["task"])
    return task_in(preset_directory(preset))


def load_task(preset, default=None, **options):
    """The model of a preset, whichever task it is for.

    Args:
        preset: see `keras_dpt.DPTDepth.from_preset`.
        default: task class for presets that do not tell; `DPTDepth` if left out.
        **options: of `from_preset`.
    """
    return (task_of(preset) or default or task_named(DEFAULT)).from_preset(preset, **options)
