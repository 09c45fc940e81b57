"""Kinds of targets: depth, inverse depth, labels. Another kind is a class in its own file.

A `Source` holds targets of one kind; `Batches` yields one, sometimes converted from another.
"""

import numpy as np

from keras_dpt.datasets.readers import (
    DEPTH_SUFFIXES,
    LABEL_SUFFIXES,
    read_depth,
    read_labels,
    scale_of,
)
from keras_dpt.errors import DataError
from keras_dpt.images.resizing import resize
from keras_dpt.npy import read_npy

# Metres. Half a picture beyond the first or before the second is hardly meant.
_TOO_FAR, _TOO_NEAR = 300.0, 0.01


# Every kind by its name.
KINDS = {}


class TargetKind:
    """A kind of target, of plain arrays here. A subclass that has a `kind` registers itself.

    Attributes:
        kind: its name in `Source(kind=...)`.
        target: its name in `Batches(target=...)`; that of the kind if left out.
        channels: numbers per pixel; `None` for arrays `(H, W)` without an axis for them.
        dtype: of batches.
        unknown: value of pixels whose target is unknown.
        has_classes: whether a source of it needs `class_names`.
        is_metric: whether it is in metres, so that it has a unit and may be cut off at a distance.
        suffixes: of its files.
        folders: names that a folder of it may have beside one of images.
    """

    kind = None
    target = None
    channels = None
    dtype = "float32"
    unknown = 0
    has_classes = False
    is_metric = False
    suffixes = (".npy",)
    folders = ("targets",)

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.__dict__.get("kind") is None:
            return
        if cls.target is None:
            cls.target = cls.kind
        for other in map(type, KINDS.values()):
            # A module that is read again, or a notebook's cell, defines its class once more.
            is_new = (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__)
            if is_new and (other.kind == cls.kind or other.target == cls.target):
                raise ValueError(
                    f"`kind` and `target` must be names that no other kind has. Received: "
                    f"{cls.kind!r} and {cls.target!r}, which are taken by "
                    f"{other.__module__}.{other.__qualname__}."
                )
        KINDS[cls.kind] = cls()

    # ---- from a file to a checked sample

    def reader(self, unit=None):
        """The function that reads a file, a `Path`, stored in this unit.

        Raises: DataError: a unit that is missing or unknown.
        """
        return read_npy

    def in_unit(self, values, unit):
        """Numbers as they are stored, brought from `unit` to the kind's own."""
        return values

    def known(self, values, source):
        """Check a target.

        Args:
            values: `(H, W)`, or `(H, W, channels)`.
            source: the `Source` that it is of.

        Returns: the target, and where it is known, `(H, W)` bool.
        Raises: DataError: it is not of this kind.
        """
        values = np.asarray(values, self.dtype)
        finite = np.isfinite(values)
        valid = finite if self.channels is None else finite.all(axis=-1)
        return self.filled(values, valid), valid

    def doubt(self, values, valid):
        """Why a target that can be used is probably not what was meant; `None` if it looks fine."""
        return None

    def filled(self, values, valid, unknown=None):
        """The target with `unknown`, by default the kind's own, where it is not valid."""
        unknown = np.asarray(self.unknown if unknown is None else unknown, values.dtype)
        return np.where(valid if values.ndim == 2 else valid[..., None], values, unknown)

    # ---- from a sample to a batch

    def unknown_of(self, source):
        """The value where a target of this source is not known."""
        return self.unknown

    def resized(self, values, valid, size, sparse=False):
        """Target and `valid` at another size: never a mean of neighbours.

        Between two surfaces, or known and unknown, there is nothing.
        """
        return resize(values, size, "nearest"), resize(valid, size, "nearest")

    def mirrored(self, values):
        """The target of the picture mirrored left to right."""
        return values[:, ::-1]

    def inverted(self, values, valid):
        """Inverse depth of a target, or a target of inverse depth; 0 where not valid.

        Raises: DataError: this kind has no depth.
        """
        raise DataError(f"Shapes have depth, but targets of kind {self.kind!r} have none.")

    def augmentation(self, size):
        """Arguments of `Augmentation` by default, for windows of `size` `(height, width)`."""
        return {}

    def makers(self):
        """`{kind: function of (values, valid)}` of sources whose targets become ones of this."""
        return {self.kind: lambda values, valid: values}

    def batched(self, targets):
        """A batch of a list of targets: `(B, h, w)`, or `(B, h, w, channels)`."""
        return np.stack(targets).astype(self.dtype, copy=False)


class _Depths(TargetKind):
    """What depth and inverse depth share: above 0 where known, `(H, W)`, `(B, h, w, 1)`."""

    suffixes = DEPTH_SUFFIXES

    def reader(self, unit=None):
        scale = scale_of(1.0 if unit is None else unit)
        return lambda path: read_depth(path, scale)

    def in_unit(self, values, unit):
        return values.astype(np.float32) * np.float32(scale_of(unit))

    def known(self, values, source):
        values = values.astype(np.float32, copy=False)
        with np.errstate(invalid="ignore"):
            valid = (values > 0) & np.isfinite(values)
        return self.filled(values, valid), valid

    def batched(self, targets):
        return np.stack(targets)[..., None]


class MetricDepth(_Depths):
    """Metres."""

    kind = "metric_depth"
    target = "depth"
    is_metric = True
    folders = ("depth", "targets")

    def reader(self, unit=None):
        if unit is None:
            raise DataError(
                'Metric depth needs a unit: "m", "mm", or metres per stored number. A wrong one '
                "spoils the training, so it is not guessed."
            )
        return super().reader(unit)

    def doubt(self, values, valid):
        too_far = np.count_nonzero(values > _TOO_FAR)
        too_near = np.count_nonzero(valid & (values < _TOO_NEAR))
        if 2 * max(too_far, too_near) <= np.count_nonzero(valid):
            return None
        guess, unit = "metres taken for millimetres", "m"
        if too_far:
            guess, unit = "millimetres taken for metres", "mm"
        return (
            f"the median of the depths is {np.median(values[valid]):g} m, which looks like "
            f'{guess}. Check the unit, such as unit="{unit}".'
        )

    def resized(self, values, valid, size, sparse=False):
        if sparse:
            return resize_points(values, valid, size)
        return super().resized(values, valid, size)

    def inverted(self, values, valid):
        return _reciprocal(values, valid)


class InverseDepth(_Depths):
    """Disparity up to scale and shift, larger is nearer; or 1 / metres."""

    kind = "relative_inverse_depth"
    target = "inverse_depth"
    folders = ("disp", "disparity", "targets")

    def augmentation(self, size):
        return {"rescale": (1.0, 2.0)}

    def makers(self):
        return {MetricDepth.kind: _reciprocal} | super().makers()

    def inverted(self, values, valid):
        return np.where(valid, values, 0)


class Labels(TargetKind):
    """Class ids."""

    kind = "labels"
    target = "labels"
    dtype = "int32"
    has_classes = True
    suffixes = LABEL_SUFFIXES
    folders = ("seg", "labels", "targets")

    def reader(self, unit=None):
        return read_labels

    def known(self, values, source):
        if values.dtype.kind not in "iu":
            raise DataError(f"class ids must be whole numbers. Received: {values.dtype}.")
        count, ignore_index = len(source.class_names), source.ignore_index
        valid = values != ignore_index
        wrong = valid & ((values < 0) | (values >= count))
        if wrong.any():
            ids = ", ".join(map(str, np.unique(values[wrong])[:5]))
            raise DataError(
                f"{wrong.sum()} pixels have ids that are no class ({ids}). Ids go from 0 to "
                f"{count - 1}, or are {ignore_index} where unknown. Check class_names, "
                "ignore_index, and whether ids start at 1."
            )
        return values, valid

    def unknown_of(self, source):
        return source.ignore_index

    def augmentation(self, size):
        return {"longer_side": round(max(size) * 520 / 480), "rescale": (0.5, 2.0)}


def _reciprocal(values, valid):
    return np.divide(1, values, out=np.zeros_like(values), where=valid)


def kind_named(name):
    """The `TargetKind` of sources. Raises DataError: there is none of this name."""
    if name not in KINDS:
        raise DataError(f"kind must be one of {', '.join(map(repr, KINDS))}. Received: {name!r}.")
    return KINDS[name]


def target_named(name):
    """The `TargetKind` of batches. Raises DataError: there is none of this name."""
    targets = {kind.target: kind for kind in KINDS.values()}
    if name not in targets:
        raise DataError(f"target must be one of {', '.join(targets)}. Received: {name!r}.")
    return targets[name]


def resize_points(
    target: np.ndarray, valid: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Resize a map of which single points are known: each moves, none is invented.

    Where several meet in a pixel, the nearest surface (the smallest depth) hides the others.

    Args: target: `(H, W)` depth. valid: `(H, W)` bool. size: `(height, width)` of the result.
    Returns: target, 0 where not valid, and valid, both `(height, width)`.
    """
    rows, columns = np.nonzero(valid)
    depth = target[rows, columns]
    farthest_first = np.argsort(-depth, kind="stable")  # the last one written stays
    # Centres at halves: floor((i + 1/2) * new / old) in whole numbers.
    rows, columns = (
        (2 * index[farthest_first] + 1) * new // (2 * old)
        for index, new, old in zip((rows, columns), size, target.shape, strict=True)
    )
    resized = np.zeros(size, target.dtype)
    resized[rows, columns] = depth[farthest_first]
    return resized, resized > 0
