"""Boxes and ellipsoids of exact depth in front of training images. NumPy and OpenCV only.

The depth of a depth camera is blurred and torn at the edges of objects; a computed surface ends
exactly where its pixels end. Its texture is cropped from the image itself.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from keras_dpt.datasets.kinds import TargetKind
from keras_dpt.datasets.source import Sample
from keras_dpt.errors import DataError

# Pixels at the rim that are mixed with what is behind them, as a lens and a sensor do.
_RIM = 0.6
# A camera's focal length in units of the picture's longer side, as photographs have it.
_FOCAL = (0.8, 1.4)


@dataclass(frozen=True)
class Shapes:
    """Shapes in front of training images: how many, how large and how near.

    A shape is a box, a flat board or an ellipsoid, turned at random and seen through a pinhole
    camera, so its depth is exact at each pixel. It hides what is behind it and is hidden by what is
    nearer. Its texture is a crop of the image, lit from a random side.

    Args:
        share: share of the images that get shapes, 0 to 1.
        count: lowest and highest number of shapes in an image.
        size: range of the diameter, in units of the image's shorter side.
        nearer: range of how far in front of the scene behind it a shape stands, in units of the
            scene's own range of inverse depth, from its 5th to its 95th percentile.

    Raises: DataError: (a ValueError) a range whose end is below its start, or numbers below 0.
    Source: the idea of learning edges from computed depth is that of Yang et al. 2024 (Depth
        Anything V2, arXiv 2406.09414), section 3; the shapes are this package's.
    """

    share: float = 0.5
    count: tuple[int, int] = (1, 4)
    size: tuple[float, float] = (0.15, 0.6)
    nearer: tuple[float, float] = (0.05, 0.8)

    def __post_init__(self):
        if not 0 <= self.share <= 1:
            raise DataError(f"shapes: share goes from 0 to 1. Received: {self.share}.")
        for name in ("count", "size", "nearer"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise DataError(f"shapes: {name} is (lowest, highest). Received: {(low, high)}.")

    def __call__(self, sample: Sample, rng: np.random.Generator, kind: TargetKind) -> Sample:
        """Put shapes in front of a sample; the same `rng` state gives the same result.

        Args:
            sample: image `(H, W, 3)`, target and valid `(H, W)`.
            rng: where chance comes from.
            kind: what the target is: depth or inverse depth.

        Returns: the sample with the shapes, the image uint8; the sample itself where chance
            gives none, or nothing of its depth is known.
        Raises: DataError: the target is neither depth nor inverse depth.
        """
        if rng.random() >= self.share or not sample.valid.any():
            return sample
        inverse = kind.inverted(sample.target, sample.valid)
        low, high = np.percentile(inverse[sample.valid], (5, 95))
        # A wall seen from the front has no range of its own.
        scene_range = max(high - low, 0.1 * high)
        image, covered = sample.image.astype(np.float32), np.zeros(sample.valid.shape, bool)
        inverse = inverse.astype(np.float32)
        camera = _Camera(sample.valid.shape, rng.uniform(*_FOCAL))
        for _ in range(rng.integers(self.count[0], self.count[1] + 1)):
            shape = self._placed(inverse, scene_range, camera, rng)
            near, texture_at, light = camera.see(*shape)
            front = near > inverse
            if not front.any():
                continue
            texture = _textured(sample.image, texture_at, rng) * light[..., None]
            image = _mixed(image, texture, front)
            inverse = np.where(front, near, inverse)
            covered |= front
        target = np.where(covered, kind.inverted(inverse, covered), sample.target)
        image = np.round(image).astype(np.uint8)
        return Sample(image, target.astype(sample.target.dtype), sample.valid | covered)

    def _placed(self, inverse, scene_range, camera, rng):
        """Centre, axes and half lengths of a shape before what is at a random pixel, and its kind.

        Lengths are in units of the depth: metres, where the target is metric.
        """
        height, width = inverse.shape
        row, column = rng.uniform(0, height), rng.uniform(0, width)
        diameter = rng.uniform(*self.size) * min(height, width)
        rows = slice(max(0, int(row - diameter / 2)), int(row + diameter / 2) + 1)
        columns = slice(max(0, int(column - diameter / 2)), int(column + diameter / 2) + 1)
        behind = np.percentile(inverse[rows, columns], 90)
        depth = 1 / (behind + rng.uniform(*self.nearer) * scene_range)
        centre = depth * camera.ray(row, column)
        half = 0.5 * diameter / camera.focal * depth * rng.uniform(0.5, 1.0, 3)
        is_round = rng.random() < 0.3
        if not is_round and rng.random() < 0.4:
            half[2] *= 0.02  # a board
        axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        light = rng.normal(size=3)
        return centre, axes, half, is_round, light / np.linalg.norm(light)


class _View(NamedTuple):
    """Of each pixel: inverse depth, 0 beside the shape; texture coordinates; brightness."""

    inverse: np.ndarray
    texture_at: np.ndarray
    light: np.ndarray


class _Camera:
    """A pinhole camera that looks along z at `shape` `(height, width)` pixels."""

    def __init__(self, shape, focal):
        self.height, self.width = shape
        self.focal = focal * max(shape)
        rows, columns = np.mgrid[: self.height, : self.width]
        self.rays = np.stack(self._direction(rows, columns), axis=-1)

    def _direction(self, rows, columns):
        x = (columns + 0.5 - self.width / 2) / self.focal
        y = (rows + 0.5 - self.height / 2) / self.focal
        return x, y, np.ones_like(x)

    def ray(self, row, column):
        """The direction `(x, y, 1)` that a pixel looks in."""
        return np.array(self._direction(row, column))

    def see(self, centre, axes, half, is_round, light) -> _View:
        """Every pixel's ray against one shape, in the shape's own axes, where its half is 1."""
        origin = -centre @ axes / half
        rays = self.rays @ axes / half
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = _sphere(origin, rays) if is_round else _cube(origin, rays)
            hit = np.isfinite(depth) & (depth > 0)
            inverse = np.where(hit, 1 / depth, 0).astype(np.float32)
        at = origin + np.where(hit, depth, 0)[..., None] * rays
        if is_round:
            normal, texture_at = at, at[..., :2]
        else:
            face = np.abs(at).argmax(axis=-1)
            normal = np.sign(at) * (face[..., None] == np.arange(3))
            others = np.array([(1, 2), (2, 0), (0, 1)])[face]
            texture_at = np.take_along_axis(at, others, axis=-1)
        normal = normal / half @ axes.T
        length = np.maximum(np.linalg.norm(normal, axis=-1), 1e-12)
        brightness = 0.9 + 0.35 * (normal @ light) / length
        return _View(inverse, texture_at, brightness.astype(np.float32))


def _sphere(origin, rays):
    """Depth at which rays meet the unit sphere; not finite where they do not."""
    a, b, c = (rays**2).sum(-1), rays @ origin, origin @ origin - 1
    return (-b - np.sqrt(b * b - a * c)) / a


def _cube(origin, rays):
    """Depth at which rays enter the cube from -1 to 1; not finite where they do not."""
    sides = (-1 - origin) / rays, (1 - origin) / rays
    enter = np.minimum(*sides).max(axis=-1)
    leave = np.maximum(*sides).min(axis=-1)
    return np.where(enter < leave, enter, np.inf)


def _textured(image, texture_at, rng):
    """Colours of a random crop of the picture at texture coordinates from -1 to 1."""
    import cv2  # late: slow to import

    height, width = image.shape[:2]
    scale = rng.uniform(0.1, 0.5, 2) * (height, width)
    middle = rng.uniform(scale, (height, width) - scale)
    rows = np.clip(middle[0] + scale[0] * texture_at[..., 0], 0, height - 1)
    columns = np.clip(middle[1] + scale[1] * texture_at[..., 1], 0, width - 1)
    maps = columns.astype(np.float32), rows.astype(np.float32)
    texture = cv2.remap(image.astype(np.float32), *maps, cv2.INTER_LINEAR)
    return texture * rng.uniform(0.7, 1.3, 3).astype(np.float32)


def _mixed(image, texture, front):
    """The texture where it is in front; at its rim part of what is behind shines through."""
    import cv2  # late: slow to import

    share = cv2.GaussianBlur(front.astype(np.float32), (0, 0), _RIM)
    share = np.where(front, share, 0)[..., None]
    return np.clip(share * texture + (1 - share) * image, 0, 255).astype(np.float32)
