"""Results as arrays: what NumPy, Matplotlib and file objects ask of them. NumPy only."""

import os
from pathlib import Path

import numpy as np

from keras_dpt.files import ending


class ArrayResult:
    """Mixin of a result whose values are one array: `np.asarray`, `np.save`, `plt.imshow` take it.

    The class says in `_array_name` which attribute that array is.
    """

    is_result = True  # so that it isn't taken for an image: see `keras_dpt.images.reading`
    _array_name = "values"

    def __array__(self, dtype=None, copy=None):
        """The values for NumPy: its own array, not a copy, unless `dtype` or `copy` need one."""
        values = getattr(self, self._array_name)
        dtype = values.dtype if dtype is None else np.dtype(dtype)
        if copy:
            return np.array(values, dtype=dtype)
        if dtype != values.dtype and copy is False:
            raise ValueError(
                f"{type(self).__name__} as {dtype} needs a copy: its values are {values.dtype}. "
                "Leave out copy=False."
            )
        return values.astype(dtype, copy=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the values."""
        return getattr(self, self._array_name).shape

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the values."""
        return getattr(self, self._array_name).dtype

    @property
    def ndim(self) -> int:
        """Number of axes of the values."""
        return getattr(self, self._array_name).ndim


def suffix_of(file, format, suffixes, error_class, hint=""):
    """The suffix, such as ".png", that says how to write to a path or a file object.

    Args:
        file: path, or a file object open for writing in binary.
        format: "png", say; needed for file objects, which have no suffix.
        suffixes: those that can be written.
        error_class: of the error.
        hint: what else to do, a sentence.

    Raises: `error_class`: an unknown or missing format, or two that differ.
    """
    names = ", ".join(repr(suffix[1:]) for suffix in suffixes)
    given = None if format is None else f".{str(format).lower().lstrip('.')}"
    if given is not None and given not in suffixes:
        raise error_class(f"format must be one of {names}. Received: {format!r}. {hint}".rstrip())
    if hasattr(file, "write"):
        if given is None:
            raise error_class(f"A file object has no suffix: pass format=, one of {names}.")
        return given
    if not isinstance(file, (str, os.PathLike)):
        raise error_class(
            f"Results are saved to a path or a binary file object, not a {type(file).__name__}."
        )
    suffix = Path(file).suffix.lower()
    if suffix in suffixes and given not in (None, suffix):
        raise error_class(f"{file} ends in {suffix}, but format is {format!r}. Pass one of them.")
    if suffix not in suffixes and given is None:
        raise error_class(
            f"{file}: the file's name must end in {', '.join(suffixes)}. Received: "
            f"{ending(file)}. {hint}".rstrip()
        )
    return given or suffix
