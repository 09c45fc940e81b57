"""A table with one row per epoch, however often the training is interrupted."""

import os
from pathlib import Path

import keras

from keras_dpt.errors import TrainingError
from keras_dpt.files import written_whole


class EpochLog(keras.callbacks.CSVLogger):
    """A `CSVLogger` that continues an existing table.

    If an epoch is repeated because the process ended before its state was saved, its row is
    replaced; so is an incomplete row.

    Args:
        path: the file.
    """

    def __init__(self, path: str | os.PathLike):
        super().__init__(str(path), append=True)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._is_checked = False

    def on_epoch_begin(self, epoch, logs=None):
        if not self._is_checked:
            self.csv_file.close()
            _forget(Path(self.filename), epoch)
            super().on_train_begin(logs)
            self._is_checked = True


def _forget(path, epoch):
    """Take the last row out of a table if it is of this epoch, or not whole."""
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    kept = lines if not lines or lines[-1].endswith(b"\n") else lines[:-1]
    if len(kept) > 1 and kept[-1].partition(b",")[0].strip() == str(epoch).encode():
        kept = kept[:-1]
    if len(kept) < len(lines):
        with written_whole(path, TrainingError) as file:
            file.writelines(kept)
