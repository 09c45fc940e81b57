"""Targets from files: depth, disparity and class ids. NumPy and Pillow only, no Keras."""

from pathlib import Path

import numpy as np
from PIL import Image

from keras_dpt.errors import DataError, KerasDPTError
from keras_dpt.images.reading import load, without_pillow_warnings
from keras_dpt.maps.depth_map import read_pfm
from keras_dpt.npy import read_npy

UNITS = {"m": 1.0, "mm": 0.001}
DEPTH_SUFFIXES = (".npy", ".pfm", ".pgm", ".png", ".tif", ".tiff")
LABEL_SUFFIXES = (".npy", ".png")


def scale_of(unit: str | float) -> float:
    """Metres (or units of disparity) per stored number: of "m", "mm", or that number itself.

    Raises: DataError: anything else.
    """
    if isinstance(unit, str) and unit in UNITS:
        return UNITS[unit]
    if isinstance(unit, int | float) and 0 < unit < float("inf"):
        return float(unit)
    raise DataError(
        'unit must be "m", "mm" or a number above 0, metres per stored number (1 / 256 for '
        f"KITTI's files). Received: {unit!r}."
    )


def read_depth(path: Path, scale: float = 1.0) -> np.ndarray:
    """Read depth or disparity as `(H, W)` float32: the stored numbers times `scale`.

    Args:
        path: `.png` or `.pgm` of 8 or 16 bit grey, `.tif` of floats or integers, `.npy`, or `.pfm`.
        scale: see `scale_of`.

    Raises: DataError: missing, damaged or coloured file, or another suffix.
    """
    values = _read(path, DEPTH_SUFFIXES, "depth")
    if values.dtype.kind not in "fiu":
        raise DataError(f"{path} holds {values.dtype}; depth must be real numbers.")
    with np.errstate(over="ignore", invalid="ignore"):  # unknown pixels may hold any bits
        return values.astype(np.float32) * np.float32(scale)


def read_labels(path: Path) -> np.ndarray:
    """Read class ids as `(H, W)` integers from a `.png` (grey or indexed colours) or `.npy`.

    Raises: DataError: missing, damaged or coloured file, or another suffix.
    """
    return _read(path, LABEL_SUFFIXES, "labels")


def _read(path: Path, suffixes: tuple[str, ...], what: str) -> np.ndarray:
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise DataError(f"{path}: files of {what} end in {', '.join(suffixes)}.")
    if not path.is_file():
        raise DataError(f"{path} does not exist. Check the folder, or copy the file again.")
    try:
        if suffix == ".npy":
            values = read_npy(path)
        elif suffix == ".pfm":
            values = read_pfm(path)
        else:
            values = _read_picture(path)
    except MemoryError:
        raise
    except KerasDPTError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # decoders raise nearly any type on damaged data
        raise DataError(
            f"{path} cannot be decoded ({error}). It is damaged or cut off: copy it again."
        ) from error
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 2 or values.size == 0:
        raise DataError(f"{path}: {what} must be (H, W) and not empty. Received: {values.shape}.")
    return values


def _read_picture(path: Path) -> np.ndarray:
    with without_pillow_warnings():
        image = Image.open(path)
    with image:
        if image.mode in ("1", "LA", "PA") or len(image.getbands()) > 1:
            raise DataError(
                f"it is an image of mode {image.mode}, where one number per pixel is expected: "
                "8 or 16 bit grey, floats, or indexed colours."
            )
        load(image)
        return np.asarray(image)
