"""Augment an image and its target together. NumPy and OpenCV only, no Keras."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from keras_dpt.datasets.kinds import KINDS, TargetKind
from keras_dpt.datasets.shapes import Shapes
from keras_dpt.datasets.source import Sample
from keras_dpt.images.resizing import resize

# Beyond the picture's border: what becomes zero when the network's mean is taken off.
_PADDING = 127.5


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training image and its target.

    The image is resized, a window of the requested size is cropped, and colours are jittered. Where
    the window is larger than the image, the rest is grey and not valid.

    Args:
        longer_side: length in pixels that the longer side is resized to, before `rescale`; `None`
            for the size at which the image just covers the window.
        rescale: range of an additional random factor; above 1, the window shows less of the image.
        stretch: range of a random factor between width and height.
        flip: probability of mirroring left to right.
        gamma: range of the exponent that pixels, from 0 to 1, are raised to.
        brightness: range of a factor for all channels.
        color: range of a factor for each channel.
        gray: probability of converting to grey.
        blur: range of the standard deviation of a Gaussian blur, in pixels.
        noise: range of the standard deviation of noise, in levels of 0 to 255.
        shapes: boxes and ellipsoids with exact edges in front of the scene; depth targets only.

    Source: Ranftl et al. 2021 (arXiv 2103.13413), section 4, for sizes, flip and rescaling. The
        colour jitter is common practice.
    """

    longer_side: int | None = None
    rescale: tuple[float, float] = (1.0, 1.0)
    stretch: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.5
    gamma: tuple[float, float] = (0.75, 1.33)
    brightness: tuple[float, float] = (0.8, 1.2)
    color: tuple[float, float] = (0.9, 1.1)
    gray: float = 0.1
    blur: tuple[float, float] = (0.0, 0.0)
    noise: tuple[float, float] = (0.0, 0.0)
    shapes: Shapes | None = None

    def __call__(
        self,
        sample: Sample,
        size: tuple[int, int],
        rng: np.random.Generator,
        sparse: bool = False,
        fill: float = 0,
        kind: TargetKind | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Change a sample at random; the same `rng` state gives the same result.

        Args:
            sample: see `Sample`.
            size: `(height, width)` of the result.
            rng: where chance comes from.
            sparse: keep single points instead of taking the nearest pixel.
            fill: the target's value where it is not valid.
            kind: what the target is; depth if left out.

        Returns: image `(h, w, 3)` float32, 0 to 255; target `(h, w)`; valid `(h, w)` bool.
        """
        kind = kind or KINDS["metric_depth"]
        height, width = sample.target.shape[:2]
        factor, stretch = rng.uniform(*self.rescale), rng.uniform(*self.stretch) ** 0.5
        tall, wide = height / stretch, width * stretch
        if self.longer_side is None:
            scale = factor * max(size[0] / tall, size[1] / wide)
        else:
            scale = factor * self.longer_side / max(tall, wide)

        def anywhere(free):
            return int(rng.integers(free + 1))

        rows = _span(height, scale / stretch, size[0], anywhere)
        columns = _span(width, scale * stretch, size[1], anywhere)
        cut = _cut(sample, rows, columns, sparse, kind)
        if self.shapes is not None:
            cut = self.shapes(cut, rng, kind)
        image = self._degraded(self._relight(cut.image, rng), rng)
        image, target, valid = _padded(image, cut, rows, columns, fill, kind)
        if rng.random() < self.flip:
            image, target, valid = image[:, ::-1], kind.mirrored(target), valid[:, ::-1]
        return image, target, valid

    def _relight(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        import cv2  # late: slow to import

        levels = (np.arange(256) / 255) ** rng.uniform(*self.gamma)
        factors = rng.uniform(*self.brightness) * rng.uniform(*self.color, 3)
        table = np.minimum(255 * levels[:, None] * factors, 255).astype(np.float32)
        image = cv2.LUT(image, table[:, None])
        if rng.random() < self.gray:
            image = np.repeat(image.mean(axis=-1, keepdims=True), 3, axis=-1)
        return image

    def _degraded(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        import cv2  # late: slow to import

        if self.blur[1] and (deviation := rng.uniform(*self.blur)):
            image = cv2.GaussianBlur(image, (0, 0), deviation)
        if self.noise[1] and (deviation := rng.uniform(*self.noise)):
            image = image + rng.normal(0, deviation, image.shape).astype(np.float32)
            image = np.clip(image, 0, 255)
        return image


PAPER_DEPTH = Augmentation(longer_side=384)
"""As in the paper, whose depth images do not fill the window: 384 is their longer side."""

PAPER_SEGMENTATION = Augmentation(longer_side=520, rescale=(0.5, 2.0))
"""As in the paper, for windows of 480 x 480."""


def centered(
    sample: Sample,
    size: tuple[int, int],
    sparse: bool = False,
    fill: float = 0,
    kind: TargetKind | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The centre of a sample resized to just cover the window, not random; for validation.

    Args and returns: as of `Augmentation.__call__`.
    """
    kind = kind or KINDS["metric_depth"]
    height, width = sample.target.shape[:2]
    scale = max(size[0] / height, size[1] / width)
    rows = _span(height, scale, size[0], _half)
    columns = _span(width, scale, size[1], _half)
    cut = _cut(sample, rows, columns, sparse, kind)
    return _padded(cut.image.astype(np.float32), cut, rows, columns, fill, kind)


class _Span(NamedTuple):
    """Along one axis: `source` pixels are resized to `length` and put at `start` of `side`."""

    source: slice
    length: int
    start: int
    side: int

    @property
    def target(self) -> slice:
        return slice(self.start, self.start + self.length)


def _span(length: int, scale: float, side: int, place: Callable[[int], int]) -> _Span:
    """What of an axis is seen through a window of `side`; `place` puts it in the free room."""
    resized = max(1, round(length * scale))
    if resized <= side:
        return _Span(slice(0, length), resized, place(side - resized), side)
    seen = min(length, max(1, round(side / scale)))
    first = place(length - seen)
    return _Span(slice(first, first + seen), side, 0, side)


def _half(free: int) -> int:
    return free // 2


def _cut(sample: Sample, rows: _Span, columns: _Span, sparse: bool, kind: TargetKind) -> Sample:
    image, target, valid = (array[rows.source, columns.source] for array in sample)
    size = rows.length, columns.length
    image = resize(image, size, "bilinear_antialias")
    return Sample(image, *kind.resized(target, valid, size, sparse))


def _padded(image, cut: Sample, rows: _Span, columns: _Span, fill: float, kind: TargetKind):
    """Image, target and valid at the window's size; unknown targets are `fill`."""
    target = kind.filled(cut.target, cut.valid, fill)
    size = rows.side, columns.side
    if target.shape[:2] == size:
        return image, target, cut.valid
    window = rows.target, columns.target
    canvases = (
        np.full((*size, 3), _PADDING, np.float32),
        np.full((*size, *target.shape[2:]), fill, target.dtype),
        np.zeros(size, bool),
    )
    for canvas, part in zip(canvases, (image, target, cut.valid), strict=True):
        canvas[window] = part
    return canvases
