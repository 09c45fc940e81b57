"""What all data sets have in common: samples that are checked when they are read."""

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from keras_dpt.errors import DataError, DataWarning, KerasDPTError
from keras_dpt.maps.label_map import check_class_names, check_ignore_index
from keras_dpt.models.targets import LabelsSeen

KINDS = ("metric_depth", "relative_inverse_depth", "labels")

# Metres. Half a picture beyond the first or before the second is hardly meant.
_TOO_FAR, _TOO_NEAR = 300.0, 0.01


class Sample(NamedTuple):
    """One picture and what is known about its pixels.

    image: `(H, W, 3)` uint8 RGB.
    target: `(H, W)` float32 depth or disparity, 0 where unknown; or integer class ids,
        `ignore_index` where unknown.
    valid: `(H, W)` bool, true where the target is known.
    """

    image: np.ndarray
    target: np.ndarray
    valid: np.ndarray


class Source:
    """A data set split: `len(source)` samples, read from disk and checked at `source[i]`.

    Any data set becomes one by a function that reads a pair; `keras_dpt.datasets.folder` does so
    for files. A source may be read by several threads at once.

    Args:
        name: for messages and reports, such as "nyuv2/train".
        ids: name of each sample, unique within the source.
        read: function of an index that returns `(image, target)`: `(H, W, 3)` uint8 RGB and, at
            the same size, `(H, W)` real numbers. Depth is unknown where it is not finite or not
            above 0; a class where the id is `ignore_index`.
        kind: what the target is. "metric_depth": metres. "relative_inverse_depth": disparity up
            to scale and shift, larger is nearer. "labels": class ids.
        class_names: for labels, one name per class.
        ignore_index: for labels, the id of pixels without a class.
        sparse: whether only single points are known, as from a laser scanner; resizing then
            keeps the points instead of taking the nearest pixel, which seldom is one.

    Raises:
        DataError: no samples, an unknown kind, names that are missing or do not belong to it.
            And from `source[i]`: a file that cannot be read, sizes that differ, ids that are no
            class; the message names source, sample and file. `IndexError` beyond the end.
    Warns: DataWarning: metres that look like millimetres or the like, once per source.
    """

    def __init__(
        self,
        name: str,
        ids: Sequence[str],
        read: Callable[[int], tuple[np.ndarray, np.ndarray]],
        kind: str,
        class_names: Sequence[str] | None = None,
        ignore_index: int = 255,
        sparse: bool = False,
    ):
        if kind not in KINDS:
            raise DataError(f"kind must be one of {', '.join(map(repr, KINDS))}; got {kind!r}.")
        if not ids:
            raise DataError(f"{name}: there are no samples.")
        if (kind == "labels") != (class_names is not None):
            raise DataError(
                f'{name}: class_names are needed for kind "labels" and mean nothing otherwise; got '
                f"kind {kind!r} and class_names {class_names!r}."
            )
        if sparse and kind != "metric_depth":
            raise DataError(f"{name}: only metric depth can be sparse; got kind {kind!r}.")
        if class_names is not None:
            class_names = check_class_names(class_names)
            check_ignore_index(ignore_index, len(class_names))
        self.name = name
        self.ids = list(ids)
        self.kind = kind
        self.class_names = class_names
        self.ignore_index = ignore_index
        self.sparse = sparse
        self._read = read
        self._warned = threading.Event()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        label = f"{self.name}, sample {self.ids[index]}"  # IndexError beyond the end
        try:
            image, target = self._read(index % len(self.ids))
            return self._checked(image, target, label)
        except KerasDPTError as error:
            raise DataError(f"{label}: {error}") from error

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        classes = f", {len(self.class_names)} classes" if self.class_names else ""
        return f"Source({self.name!r}, {len(self)} samples of {self.kind}{classes})"

    def subset(self, indices: Sequence[int] | slice) -> "Source":
        """The samples at `indices` only, in that order, such as `slice(None, None, 3)`."""
        chosen = np.arange(len(self))[indices].tolist()
        read = self._read
        return self._like(lambda i: read(chosen[i]), [self.ids[i] for i in chosen])

    def changed(self, change: Callable[[np.ndarray, np.ndarray], tuple]) -> "Source":
        """The same samples, each image and target replaced by `change(image, target)`.

        `change` gets arrays of equal size as they were read, and returns two of equal size.
        """
        read = self._read
        return self._like(lambda i: change(*_of_equal_size(*read(i))), self.ids)

    def _like(self, read: Callable[[int], tuple], ids: Sequence[str]) -> "Source":
        return Source(
            self.name, ids, read, self.kind, self.class_names, self.ignore_index, self.sparse
        )

    def _checked(self, image: np.ndarray, target: np.ndarray, label: str) -> Sample:
        image, target = _of_equal_size(image, target)
        if image.dtype != np.uint8:  # 16-bit pictures come as floats from 0 to 255
            image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        if self.kind == "labels":
            return Sample(image, target, self._known_labels(target))
        target = target.astype(np.float32, copy=False)
        with np.errstate(invalid="ignore"):
            valid = (target > 0) & np.isfinite(target)
        if self.kind == "metric_depth":
            self._warn_of_units(target, valid, label)
        return Sample(image, np.where(valid, target, np.float32(0)), valid)

    def _known_labels(self, labels: np.ndarray) -> np.ndarray:
        if labels.dtype.kind not in "iu":
            raise DataError(f"class ids must be whole numbers; got {labels.dtype}.")
        valid = labels != self.ignore_index
        wrong = valid & ((labels < 0) | (labels >= len(self.class_names)))
        if wrong.any():
            ids = ", ".join(map(str, np.unique(labels[wrong])[:5]))
            raise DataError(
                f"{wrong.sum()} pixels have ids that are no class ({ids}). Ids go from 0 to "
                f"{len(self.class_names) - 1}, or are {self.ignore_index} where unknown. Check "
                "class_names, ignore_index, and whether ids start at 1."
            )
        return valid

    def _warn_of_units(self, depth: np.ndarray, valid: np.ndarray, label: str) -> None:
        if self._warned.is_set():
            return
        too_far = np.count_nonzero(depth > _TOO_FAR)
        too_near = np.count_nonzero(valid & (depth < _TOO_NEAR))
        if 2 * max(too_far, too_near) <= np.count_nonzero(valid):
            return
        self._warned.set()
        guess, unit = "metres taken for millimetres", "m"
        if too_far:
            guess, unit = "millimetres taken for metres", "mm"
        warnings.warn(
            f"{label}: the median of the depths is {np.median(depth[valid]):g} m, which looks "
            f'like {guess}. Check the unit, such as unit="{unit}".',
            DataWarning,
            stacklevel=3,
        )


def check(source: Source) -> dict[str, str]:
    """Read every sample of a source and list what is wrong, before training depends on it.

    Returns: message by id of the samples that cannot be used; empty if all is well. A sample
        without any valid pixel is among them.
    Warns: DataWarning: labels hold nothing but 0 and 255, or a class never occurs.
    """
    problems = {}
    seen = source.class_names and LabelsSeen(source.class_names, source.ignore_index)
    for i, name in enumerate(source.ids):
        try:
            sample = source[i]
        except DataError as error:
            problems[name] = str(error)
            continue
        if not sample.valid.any():
            problems[name] = all_invalid(source, i)
        if seen:
            seen.add(sample.target)
    if seen and (message := seen.message()):
        warnings.warn(f"{source.name}: {message}", DataWarning, stacklevel=2)
    return problems


def all_invalid(source: Source, index: int) -> str:
    """The message for a sample of which nothing can be learnt."""
    return (
        f"{source.name}, sample {source.ids[index]}: no pixel of the target is valid. Leave the "
        "sample out."
    )


def _of_equal_size(image: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    image, target = np.asarray(image), np.asarray(target)
    if image.ndim != 3 or image.shape[-1] != 3:
        raise DataError(f"an image must be (H, W, 3); got {image.shape}.")
    if target.shape != image.shape[:2]:
        raise DataError(
            f"the target is {_size(target)} but the image {_size(image)} (height x width). "
            "They must show the same pixels: resize one to the other, depth and labels by the "
            "nearest pixel."
        )
    return image, target


def _size(array: np.ndarray) -> str:
    return " x ".join(map(str, array.shape[:2])) if array.ndim >= 2 else str(array.shape)
