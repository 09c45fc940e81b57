"""Sources from tensorflow-datasets, once their data are on disk."""

import os
from collections.abc import Sequence
from functools import partial

import numpy as np

from keras_dpt.datasets.kinds import kind_named
from keras_dpt.datasets.source import Source
from keras_dpt.errors import DataError
from keras_dpt.extras import install_command


def tfds(
    data,
    split: str,
    kind: str = "metric_depth",
    image: str = "image",
    target: str = "depth",
    unit: str | float = "m",
    class_names: Sequence[str] | None = None,
    ignore_index: int = 255,
    sparse: bool = False,
    data_dir: str | os.PathLike | None = None,
) -> Source:
    """A data set of tensorflow-datasets, such as `tfds("nyu_depth_v2", "train")`.

    Nothing is downloaded: the data must be prepared before, in a random-access format. TensorFlow
    itself is not imported to read them. Run once, with network access:

    ```sh
    tfds build nyu_depth_v2 --file_format=array_record
    ```

    Args:
        data: a name, a builder, or any object whose `as_data_source(split=...)` gives a sequence
            of dicts of arrays.
        split: such as "train" or "validation[:10%]".
        kind: see `Source`.
        image, target: names of the two features.
        unit: for depth, "m", "mm", or metres per stored number.
        class_names, ignore_index, sparse: see `Source`.
        data_dir: for a name, the folder of the data; by default, that of tensorflow-datasets.

    Returns: `Source` whose ids are the positions within the split.
    Raises:
        DataError: tensorflow-datasets is missing, or the data are, or they are stored in a
            sequential format; an unknown feature or split.
    """
    builder = _builder(data, data_dir) if isinstance(data, str) else data
    name = f"{data if isinstance(data, str) else getattr(data, 'name', 'tfds')}/{split}"
    try:
        items = builder.as_data_source(split=split)
        length, features = len(items), sorted(items[0])
    except NotImplementedError as error:
        raise DataError(f"{name} is stored in a sequential format. {_PREPARE}") from error
    except Exception as error:  # what is missing shows as many types
        raise DataError(f"{name} cannot be read ({error}). {_PREPARE}") from error
    for feature in (image, target):
        if feature not in features:
            raise DataError(f"{name} has no {feature!r}. Its features: {', '.join(features)}.")
    kind_named(kind).in_unit(np.zeros((1, 1)), unit)  # raises now, not at the first sample
    read = partial(_read, items, image, target, kind, unit)
    ids = [f"{i:0{len(str(length - 1))}d}" for i in range(length)]
    return Source(name, ids, read, kind, class_names, ignore_index, sparse)


_PREPARE = (
    "Prepare it once, with network: tensorflow_datasets.builder(NAME, data_dir=..., "
    'file_format="array_record").download_and_prepare()'
)


def _builder(name: str, data_dir):
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise DataError(
            f"{name} is read by tensorflow-datasets: {install_command('tfds')}"
        ) from error
    try:
        return tensorflow_datasets.builder(name, data_dir=data_dir, file_format="array_record")
    except Exception as error:  # unknown names and unreachable code show as many types
        reason = str(error).partition("\n")[0]  # a list of all names follows
        raise DataError(f"There is no data set {name!r} here ({reason}). {_PREPARE}") from error


def _read(items, image: str, target: str, kind: str, unit: str | float, index: int):
    try:
        item = items[index]
    except Exception as error:  # decoders raise nearly any type on damaged data
        raise DataError(f"it cannot be decoded ({error}).") from error
    values = np.asarray(item[target])
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    return np.asarray(item[image]), kind_named(kind).in_unit(values, unit)
