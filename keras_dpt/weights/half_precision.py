"""Halve the size of a preset directory."""

from pathlib import Path

import numpy as np

from keras_dpt.errors import WeightsError
from keras_dpt.files import written_whole


def store_in_half_precision(folder):
    """Rewrite the weights files of a preset directory with float16 arrays.

    Loading converts them to the dtype of the model, so nothing else changes: values are
    rounded to 11 significant bits, and none may exceed 65504.

    Args:
        folder: preset directory as `save_to_preset` writes it.

    Raises: ValueError: a weight is out of range of float16. WeightsError: a file cannot be written.
        The file is then unchanged.
    """
    import h5py

    for path in Path(folder).glob("*.weights.h5"):
        with (
            written_whole(path, WeightsError) as file,
            h5py.File(path) as old,
            h5py.File(file, "w") as new,
        ):
            _copy_halved(old, new)


def _copy_halved(old, new):
    new.attrs.update(old.attrs)
    for name, item in old.items():
        if hasattr(item, "items"):
            _copy_halved(item, new.create_group(name))
            continue
        values = item[()]
        if np.issubdtype(values.dtype, np.floating):
            if np.abs(values).max(initial=0) > np.finfo("float16").max:
                raise ValueError(f"{item.name} holds values beyond the range of float16.")
            values = values.astype("float16")
        new.create_dataset(name, data=values).attrs.update(item.attrs)
