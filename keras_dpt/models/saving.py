"""Saving a model: all of it or nothing, and never half of it over an older file."""

import math
import re
from contextlib import contextmanager
from pathlib import Path

from keras_dpt.errors import WeightsError
from keras_dpt.files import folder_renewed, temporary_folder
from keras_dpt.space import check_space, disk_full_explained


class Saving:
    """Mixin before a keras-hub base class: what it saves appears complete or not at all."""

    def save_to_preset(self, preset_dir, max_shard_size=10):
        """Save to a preset directory that `from_preset` loads.

        It is complete or `from_preset` rejects it: never a mixture of two models.

        Args:
            preset_dir: folder; created if missing. Other files in it are kept.
            max_shard_size: GB; larger weights are split into several files. `None` writes one file.

        Raises:
            keras_dpt.WeightsError: the disk is too full, or `preset_dir` is a file.
        """
        if Path(preset_dir).is_file():
            raise WeightsError(f"A preset is a folder. Received: {preset_dir}, which is a file.")
        with (
            _enough_space(preset_dir, self.weights),
            folder_renewed(Path(preset_dir), "config.json") as folder,
        ):
            super().save_to_preset(str(folder), max_shard_size=max_shard_size)

    def save(self, filepath, overwrite=True, **kwargs):
        """As in Keras. An older file is replaced once the new one is complete.

        Raises:
            keras_dpt.WeightsError: the disk is too full.
        """
        with self._one_file(filepath, overwrite, ".keras") as path:
            super().save(path, overwrite=overwrite, **kwargs)

    def save_weights(self, filepath, overwrite=True, **kwargs):
        """As in Keras. An older file is replaced once the new one is complete.

        Raises:
            keras_dpt.WeightsError: the disk is too full.
        """
        with self._one_file(filepath, overwrite, ".weights.h5") as path:
            super().save_weights(path, overwrite=overwrite, **kwargs)

    @contextmanager
    def _one_file(self, filepath, overwrite, suffix):
        """Where to write a file that is then put in its place; `filepath` if Keras has to see it.

        Keras asks before it overwrites, writes to file objects and splits large files by itself.
        """
        ours = isinstance(filepath, str | Path) and str(filepath).endswith(suffix)
        path = Path(filepath) if ours else None
        if path is None or not path.parent.is_dir() or (path.exists() and not overwrite):
            yield filepath
            return
        kept = [*self.weights, *getattr(getattr(self, "optimizer", None), "variables", ())]
        with _enough_space(path.parent, kept), temporary_folder(path.parent) as folder:
            yield str(folder / path.name)
            (folder / path.name).replace(path)


@contextmanager
def _enough_space(folder, variables):
    """For these variables in `folder`: seen first, as HDF5 prints a trace for each that fails."""
    sizes = (math.prod(v.shape) * _bytes_of(v.dtype) for v in variables)
    check_space(folder, sum(sizes), WeightsError)
    with disk_full_explained(folder):
        yield


def _bytes_of(dtype):
    digits = re.search(r"\d+", str(dtype))  # none in "bool"
    return max(int(digits[0]) // 8, 1) if digits else 1
