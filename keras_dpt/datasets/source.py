"""What all data sets have in common: samples that are checked when they are read."""

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from keras_dpt.datasets.kinds import kind_named
from keras_dpt.errors import DataError, DataWarning, KerasDPTError
from keras_dpt.images.pixels import pixel_values
from keras_dpt.maps.label_map import check_class_names, check_ignore_index
from keras_dpt.models.targets import LabelsSeen
from keras_dpt.schema import reason_of


class Sample(NamedTuple):
    """One image and its target.

    Attributes:
        image: `(H, W, 3)` uint8 RGB.
        target: `(H, W)` float32 depth or disparity, 0 where unknown; or integer class ids,
            `ignore_index` where unknown; or as another `TargetKind` defines.
        valid: `(H, W)` bool, true where the target is known.
    """

    image: np.ndarray
    target: np.ndarray
    valid: np.ndarray


class Source:
    """A data set split: `len(source)` samples, read from disk and checked at `source[i]`.

    A function that reads one pair makes a source of any data set; `keras_dpt.datasets.folder` does
    it for files. Several threads may read a source at once.

    Args:
        name: for messages and reports, such as "nyuv2/train".
        ids: name of each sample, unique within the source.
        read: function of an index that returns `(image, target)`: `(H, W, 3)` uint8 RGB and, at
            the same size, `(H, W)` real numbers. Depth is unknown where it is not finite or not
            above 0; classes are unknown where the id is `ignore_index`.
        kind: what the target is. "metric_depth": metres. "relative_inverse_depth": disparity up
            to scale and shift, larger is nearer. "labels": class ids. Or a kind of your own, see
            `keras_dpt.datasets.TargetKind`.
        class_names: for labels, one name per class.
        ignore_index: for labels, the id of pixels without a class.
        sparse: whether only single points are known, as from a laser scanner; resizing then keeps
            the points, which nearest-neighbour resizing would mostly drop.

    Raises:
        DataError: no samples, an unknown kind, or class names that are missing or do not fit it.
            From `source[i]`: a file that cannot be read, sizes that differ, ids that are not
            classes, or any error of `read`, which is then the cause; the message names source,
            sample and file. `IndexError` beyond the end.
    Warns: DataWarning: depths in metres that look like millimetres or another unit, once per
        source.
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
        self._kind = kind_named(kind)
        if not ids:
            raise DataError(f"{name}: there are no samples.")
        if self._kind.has_classes != (class_names is not None):
            raise DataError(
                f'{name}: class_names are required for kind "labels" and must be None otherwise. '
                f"Received: kind {kind!r} and class_names {class_names!r}."
            )
        if sparse and not self._kind.is_metric:
            raise DataError(f"{name}: only metric depth can be sparse. Received: kind {kind!r}.")
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
        label = label_of(self, index)  # IndexError beyond the end
        with named_errors(label):
            pair = self._read(index % len(self.ids))
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise DataError(
                    f"`read` must return (image, target). Received: {type(pair).__name__}."
                )
            return self._checked(*pair, label)

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

        `change` receives the arrays as they were read, of equal size, and returns two of equal
        size.
        """
        read, channels = self._read, self._kind.channels
        return self._like(lambda i: change(*_of_equal_size(*read(i), channels)), self.ids)

    def _like(self, read: Callable[[int], tuple], ids: Sequence[str]) -> "Source":
        return Source(
            self.name, ids, read, self.kind, self.class_names, self.ignore_index, self.sparse
        )

    def _checked(self, image: np.ndarray, target: np.ndarray, label: str) -> Sample:
        image, target = _of_equal_size(image, target, self._kind.channels)
        if image.dtype != np.uint8:  # 16-bit pictures come as floats from 0 to 255
            image = np.clip(np.rint(pixel_values(image, "the image")), 0, 255).astype(np.uint8)
        target, valid = self._kind.known(target, self)
        if not self._warned.is_set() and (doubt := self._kind.doubt(target, valid)):
            self._warned.set()
            warnings.warn(f"{label}: {doubt}", DataWarning, stacklevel=3)
        return Sample(image, target, valid)


def check(source: Source) -> dict[str, str]:
    """Read every sample of a source before training, and list what is wrong.

    Returns: dict of messages by id, for samples that cannot be used (including those without any
        valid pixel); empty if all are fine.
    Warns: DataWarning: labels are only 0 and 255, or a class never occurs.
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
    return f"{label_of(source, index)}: no pixel of the target is valid. Leave the sample out."


def label_of(source: Source, index: int) -> str:
    """What messages call a sample."""
    return f"{source.name}, sample {source.ids[index]}"


@contextmanager
def named_errors(name: str) -> Iterator[None]:
    """Whatever goes wrong within, in code of a user's too, as a DataError with `name` in it.

    The error itself is the cause.
    """
    try:
        yield
    except (MemoryError, Warning):
        raise
    except Exception as error:  # a user's function raises anything
        is_ours = isinstance(error, KerasDPTError)
        if is_ours and name in str(error):
            raise
        raise DataError(f"{name}: {error if is_ours else reason_of(error)}") from error


def _of_equal_size(
    image: np.ndarray, target: np.ndarray, channels: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    image, target = np.asarray(image), np.asarray(target)
    if image.ndim != 3 or image.shape[-1] != 3:
        raise DataError(f"an image must be (H, W, 3). Received: {image.shape}.")
    if channels is not None and target.shape[2:] != (channels,):
        raise DataError(f"the target must be (H, W, {channels}). Received: {target.shape}.")
    if target.shape[: 2 if channels else None] != image.shape[:2]:
        raise DataError(
            f"the target is {_size(target)} but the image {_size(image)} (height x width). "
            "They must show the same pixels: resize one to the other, depth and labels by the "
            "nearest pixel."
        )
    return image, target


def _size(array: np.ndarray) -> str:
    return " x ".join(map(str, array.shape[:2])) if array.ndim >= 2 else str(array.shape)
