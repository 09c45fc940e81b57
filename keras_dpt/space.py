"""Disks that are too full: seen before a file is begun, or said in a sentence when it fails."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keras_dpt.errors import WeightsError


def check_space(
    folder: str | os.PathLike, needed: int, error_class: type[Exception] = WeightsError
) -> None:
    """Raise an `error_class` if `needed` bytes do not fit on the disk of `folder`."""
    folder = Path(folder).absolute()
    existing = next(place for place in (folder, *folder.parents) if place.is_dir())
    free = shutil.disk_usage(existing).free
    if needed > free:
        what = f"{_megabytes(needed)} are needed and {_megabytes(free)} free"
        raise error_class(_disk_full(folder, what))


@contextmanager
def disk_full_explained(
    folder: str | os.PathLike,
    unfinished: Path | None = None,
    error_class: type[Exception] = WeightsError,
) -> Iterator[None]:
    """Within it a write that fails for lack of space raises an `error_class` that says so.

    Args:
        folder: on the disk in question.
        unfinished: path of a file to delete then.
        error_class: what to raise.
    """
    try:
        yield
    except OSError as error:
        if not _is_disk_full(error):
            raise
        if unfinished is not None:
            unfinished.unlink(missing_ok=True)
        what = "it filled up while a file was written"
        raise error_class(_disk_full(folder, what)) from error


def _is_disk_full(error):
    # HDF5 hides the number in its message.
    return error.errno == errno.ENOSPC or f"errno = {errno.ENOSPC}" in str(error)


def _megabytes(count):
    return f"{count / 1e6:,.1f}".removesuffix(".0") + " MB"


def _disk_full(folder, what):
    return (
        f"The disk of {folder} is too full: {what}. Make room, or choose a folder on a larger "
        "disk (KERAS_DPT_CACHE for downloaded weights)."
    )
