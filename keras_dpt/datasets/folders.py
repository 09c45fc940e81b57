"""Sources from files: a folder of images and a folder of targets, or two lists."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from keras_dpt.datasets.kinds import kind_named
from keras_dpt.datasets.source import Source, named_errors
from keras_dpt.errors import DataError, ImageError
from keras_dpt.images.reading import find_images, read_image


def folder(
    images: str | os.PathLike,
    targets: str | os.PathLike,
    kind: str,
    unit: str | float | None = None,
    class_names: Sequence[str] | None = None,
    ignore_index: int = 255,
    sparse: bool = False,
    allow_unpaired: bool = False,
    name: str | None = None,
) -> Source:
    """Your own data: a folder of images and a folder of targets of the same names.

    `images/a/7.jpg` belongs to `targets/a/7.png`: the same name apart from the suffix, subfolders
    included.

    Args:
        images: folder of images (`keras_dpt.images.reading.IMAGE_SUFFIXES`).
        targets: folder of `.png` (8 or 16 bit grey), `.npy`, `.pfm` or `.tif` files of depth, or
            of `.png` or `.npy` files of class ids, at the images' sizes.
        kind: "metric_depth", "relative_inverse_depth" or "labels".
        unit: for metric depth, "m", "mm", or metres per stored number; required. For relative
            inverse depth, an optional factor. Depth is unknown where it is 0, negative or not
            finite.
        class_names: for labels, one name per id.
        ignore_index: for labels, the id of pixels without a class.
        sparse: whether only single points are known.
        allow_unpaired: use complete pairs only and ignore other files, without an error.
        name: for messages; by default, the images' folder.

    Returns: `Source`, ordered by name.
    Raises:
        DataError: a folder that does not exist or is empty, an image without a target or the
            reverse (the message names them), two files for one name, or a missing or unknown unit.

    Example:

    ```python
    import keras_dpt

    source = keras_dpt.datasets.folder("photos", "depths", kind="metric_depth", unit="mm")
    ```
    """
    images, targets = Path(images), Path(targets)
    read_target = target_reader(kind, unit)
    suffixes = kind_named(kind).suffixes
    try:
        pictures = by_stem(find_images([existing(images)]), images)
    except ImageError as error:  # there is none
        raise DataError(str(error)) from error
    found = by_stem(files_below(existing(targets), suffixes), targets)
    stems = [stem for stem in pictures if stem in found]
    if not allow_unpaired:
        _report_unpaired(pictures, found, targets, "image", "target")
        _report_unpaired(found, pictures, images, "target", "image")
    if not stems:
        raise DataError(f"No image of {images} has a target of its name in {targets}.")
    pairs = [(pictures[stem], found[stem]) for stem in stems]
    return paired(
        name or str(images),
        stems,
        pairs,
        read_target,
        kind,
        class_names=class_names,
        ignore_index=ignore_index,
        sparse=sparse,
    )


def target_reader(kind: str, unit: str | float | None = None) -> Callable[[Path], np.ndarray]:
    """The function that reads a target of this kind, stored in this unit.

    Raises: DataError: metric depth without a unit, or an unknown one.
    """
    return kind_named(kind).reader(unit)


def paired(name, ids, pairs, read_target, kind, **options) -> Source:
    """A `Source` of `(image path, target path)` pairs; every target exists or is named.

    Args: read_target: function of a path. **options: further arguments of `Source`.
    """
    missing = [str(path) for pair in pairs for path in pair if not path.is_file()]
    if missing:
        raise DataError(f"{name}: {len(missing)} files are missing: {_some(missing)}.")
    return Source(name, ids, partial(_read_pair, pairs, read_target), kind, **options)


def split_folder(name: str, root: Path, split: str, subfolders: Sequence[str]) -> Path:
    """The folder `root/split`, which holds `subfolders`.

    Raises: DataError: it does not; the message says what is expected where.
    """
    path = root / split
    if not all((path / sub).is_dir() for sub in subfolders):
        expected = ", ".join(str(path / sub) for sub in subfolders)
        raise DataError(f"{name}: expected the folders {expected}. {_what_is_there(root)}")
    return path


def existing(path: Path) -> Path:
    """The folder itself. Raises DataError: there is none; the message says what is there."""
    if not path.is_dir():
        raise DataError(f"There is no folder {path}. {_what_is_there(path.parent)}")
    return path


def files_below(path: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files of these suffixes in a folder and its subfolders, sorted, without hidden ones."""
    return sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in suffixes and not file.name.startswith(".")
    )


def by_stem(files: Sequence[Path], root: Path) -> dict[str, Path]:
    """Files by their path below `root`, without suffix.

    Raises: DataError: two files have the same.
    """
    found = {}
    for file in files:
        stem = file.relative_to(root).with_suffix("").as_posix()
        if stem in found:
            raise DataError(f"{found[stem]} and {file} have the same name. Remove one.")
        found[stem] = file
    return found


def lines_of(path: Path) -> list[str]:
    """The lines of a list file that are not empty. Raises DataError: there is no such file."""
    if not path.is_file():
        raise DataError(f"There is no {path}, which lists the samples of the split, one a line.")
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _read_pair(pairs, read_target, index: int) -> tuple[np.ndarray, np.ndarray]:
    image, target = pairs[index]
    image = read_image(image)
    with named_errors(str(target)):  # by the reader of a kind of one's own
        return image, read_target(target)


def _report_unpaired(files, others, folder: Path, one: str, other: str) -> None:
    missing = [str(path) for stem, path in files.items() if stem not in others]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(files)} {one}s have no {other} of their name in {folder}: "
            f"{_some(missing)}. Copy them, remove the {one}s, or pass allow_unpaired=True."
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _what_is_there(path: Path) -> str:
    if not path.is_dir():
        return f"There is no folder {path}."
    names = sorted(entry.name for entry in path.iterdir())
    return f"{path} holds {_some(names)}." if names else f"{path} is empty."
