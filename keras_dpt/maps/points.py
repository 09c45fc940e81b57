"""Depth maps as coloured points in space, and files of them. NumPy only; trimesh writes the files.

Camera coordinates are OpenCV's: x to the right, y down, z forward along the optical axis, metres.
Pixels are counted as there: the centre of the first one is at (0, 0), its corner at (-0.5, -0.5).
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from keras_dpt.errors import DepthError
from keras_dpt.extras import install_command
from keras_dpt.files import written
from keras_dpt.images.masked import refuse_masked
from keras_dpt.images.reading import read_image, without_pillow_warnings
from keras_dpt.maps.array import ArrayResult, suffix_of
from keras_dpt.maps.depth_map import DepthMap

POINT_SUFFIXES = (".ply", ".glb", ".gltf")

# Beyond it no lens is a pinhole; focal lengths in mm or in shares of the width end up there.
_WIDEST_FOV = 150.0
_DIAGONAL_OF_35_MM_FILM = math.hypot(36, 24)
_EXIF_IFD, _EXIF_FOCAL_LENGTH_35_MM = 0x8769, 0xA405


class Pinhole(NamedTuple):
    """A camera without distortion, in pixels: focal lengths and principal point."""

    fx: float
    fy: float
    cx: float
    cy: float

    def resized(self, size: tuple[int, int], new_size: tuple[int, int]) -> "Pinhole":
        """The camera of the same pictures after resizing; sizes are `(height, width)`."""
        y, x = (new / old for old, new in zip(size, new_size, strict=True))
        # Corners scale, not pixel centres, which are half a pixel away.
        return Pinhole(
            self.fx * x, self.fy * y, (self.cx + 0.5) * x - 0.5, (self.cy + 0.5) * y - 0.5
        )

    def fov(self, width: int) -> float:
        """Horizontal field of view of pictures of this width, in degrees."""
        left, right = self.cx + 0.5, width - 0.5 - self.cx
        return math.degrees(math.atan(left / self.fx) + math.atan(right / self.fx))


def pinhole(
    size: tuple[int, int],
    intrinsics: Sequence | np.ndarray | None = None,
    intrinsics_size: tuple[int, int] | None = None,
    fov: float | None = None,
    focal_mm: float | None = None,
    sensor_mm: float | None = None,
) -> Pinhole:
    """The camera of pictures of `size` `(height, width)`, from what is known of it.

    Exactly one of three ways:

    Args:
        size: of the pictures, in pixels.
        intrinsics: `(fx, fy, cx, cy)` in pixels, or the matrix `[[fx, 0, cx], [0, fy, cy],
            [0, 0, 1]]`.
        intrinsics_size: `(height, width)` that the camera was calibrated at, if it is another
            than `size`; the intrinsics are then rescaled.
        fov: horizontal field of view in degrees. Phones' main cameras have about 65 to 70.
        focal_mm, sensor_mm: focal length and the sensor's side along the pictures' width, both
            in millimetres. With a focal length "equivalent to 35 mm film", that side is 36 for
            landscape and 24 for portrait pictures of aspect 3:2.

    With the last two, pixels are square and the principal point is in the middle.

    Raises:
        DepthError: (a ValueError) none or several of the three, values that make no camera, or a
            field of view over 150 degrees, where units were confused.
    """
    ways = {"intrinsics": intrinsics, "fov": fov, "focal_mm and sensor_mm": focal_mm or sensor_mm}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) != 1:
        raise DepthError(
            "What the camera saw must be known in exactly one way: intrinsics, fov, or focal_mm "
            "and sensor_mm. Received: "
            f"{' and '.join(given) or 'none'}. A phone's main camera has a fov "
            "of about 65 to 70 degrees."
        )
    if intrinsics_size is not None and intrinsics is None:
        raise DepthError("intrinsics_size belongs to intrinsics; the other ways fit any size.")
    height, width = size
    if intrinsics is not None:
        camera = _pinhole_of(intrinsics)
        if intrinsics_size is not None:
            if len(intrinsics_size) != 2 or min(intrinsics_size) < 1:
                raise DepthError(
                    f"intrinsics_size is (height, width). Received: {intrinsics_size}."
                )
            camera = camera.resized(intrinsics_size, size)
    elif fov is not None:
        if not 0 < fov < 180:
            raise DepthError(f"fov must be above 0 and below 180 degrees. Received: {fov:g}.")
        camera = _centred(width / 2 / math.tan(math.radians(fov) / 2), size)
    else:
        if not focal_mm or not sensor_mm or not (0 < focal_mm < 1e5 and 0 < sensor_mm < 1e5):
            raise DepthError(
                "focal_mm and sensor_mm are two lengths above 0 that belong together. Received: "
                f"{focal_mm} and {sensor_mm}."
            )
        camera = _centred(focal_mm / sensor_mm * width, size)
    if camera.fov(width) > _WIDEST_FOV:
        raise DepthError(
            f"A focal length of {camera.fx:.4g} pixels in pictures {width} pixels wide means a "
            f"field of view of {camera.fov(width):.0f} degrees, which no pinhole camera has. "
            "Intrinsics are in pixels; for millimetres take focal_mm and sensor_mm."
        )
    return camera


def exif_fov(path: str | os.PathLike) -> float | None:
    """The horizontal field of view that a photo's EXIF implies, in degrees.

    Reads the focal length equivalent to 35 mm film, which compares diagonals of pictures. It holds
    for photos that were never cropped.

    Returns: None if the file has no such entry or is no picture.
    """
    try:
        with without_pillow_warnings(), Image.open(path) as image:
            exif = image.getexif().get_ifd(_EXIF_IFD)
            focal = float(exif.get(_EXIF_FOCAL_LENGTH_35_MM, 0))
        height, width = read_image(path).shape[:2]  # upright
    except Exception:  # metadata are damaged in many ways; the photo itself may be fine
        return None
    if not focal > 0:
        return None
    film_width = _DIAGONAL_OF_35_MM_FILM * width / math.hypot(width, height)
    return math.degrees(2 * math.atan(film_width / 2 / focal))


def depth_to_points(
    depth: DepthMap,
    photo=None,
    *,
    intrinsics: Sequence | np.ndarray | None = None,
    intrinsics_size: tuple[int, int] | None = None,
    fov: float | None = None,
    focal_mm: float | None = None,
    sensor_mm: float | None = None,
    max_depth: float | None = None,
    max_points: int | None = None,
    max_tilt: float | None = None,
) -> "PointCloud":
    """Put each pixel of a metric depth map where the camera saw it.

    Args:
        depth: a `DepthMap` in metres. A relative one has no shape in space: align it first with
            `depth.to_metric(points=...)`.
        photo: path, PIL image or array of the map's size, for the colours; None for none.
        intrinsics, intrinsics_size, fov, focal_mm, sensor_mm: the camera, see `pinhole`; exactly
            one way.
        max_depth: leave out points farther than this, in metres.
        max_points: keep every n-th row and column only, so that there are at most so many.
        max_tilt: leave out pixels where the surface is turned away by more than so many degrees,
            0 to 90, from facing the camera. Between a thing and what is behind it, estimated maps
            pass through all depths, as if a surface ran along the line of sight; 85 leaves those
            points out and keeps floors up to about 11 camera heights away.

    Pixels of depth 0, which means unknown, give no point.

    Returns: a `PointCloud`, its points in the order of the pixels, row by row.
    Raises:
        DepthError: (a ValueError) a relative map, no or several ways to describe the camera, a
            photo of another size, a tilt that is no angle, or no point left.
        keras_dpt.ImageError: the photo cannot be read.

    Example:

    ```python
    import keras_dpt

    depth = keras_dpt.DPTDepth.from_preset("dpt_hybrid_nyu").predict_image("room.jpg")
    keras_dpt.depth_to_points(depth, "room.jpg", fov=65).save("room.glb")
    ```
    """
    z = _metres(depth)
    size = z.shape
    check_tilt(max_tilt)
    camera = pinhole(size, intrinsics, intrinsics_size, fov, focal_mm, sensor_mm)
    step = _step(size, max_points)
    rows, columns = np.arange(0, size[0], step), np.arange(0, size[1], step)
    kept = z > 0
    if max_tilt is not None:
        kept &= _slope(z, camera) <= math.tan(math.radians(max_tilt))
    z, kept = z[::step, ::step], kept[::step, ::step]
    if max_depth is not None:
        kept &= z <= max_depth
    if not kept.any():
        raise DepthError(
            f"No point is left: of {z.size} depths, none is above 0"
            + (f" and up to max_depth, {max_depth:g} m" if max_depth is not None else "")
            + (f" and tilted by at most max_tilt, {max_tilt:g} degrees." if max_tilt else ".")
        )
    x = z * ((columns - camera.cx) / camera.fx).astype("float32")
    y = z * ((rows - camera.cy) / camera.fy).astype("float32")[:, None]
    points = np.stack([x[kept], y[kept], z[kept]], axis=-1)
    if photo is None:
        return PointCloud(points)
    pixels = read_image(photo)
    if pixels.shape[:2] != size:
        raise DepthError(
            f"The photo is {pixels.shape[0]}x{pixels.shape[1]} (height x width) but the depth map "
            f"{size[0]}x{size[1]}. Pass the image it belongs to."
        )
    return PointCloud(points, np.rint(pixels[::step, ::step][kept]).astype("uint8"))


@dataclass(frozen=True, eq=False, repr=False)
class PointCloud(ArrayResult):
    """Points in space, in camera coordinates: x right, y down, z forward, metres.

    NumPy takes it for the array of its points: `np.asarray(cloud)`.

    Args:
        points: `(N, 3)` real, finite numbers, kept as float32.
        colors: `(N, 3)` uint8 RGB, or None.

    Raises: DepthError: (a ValueError) other shapes or dtypes, or no point at all.
    """

    _array_name = "points"

    points: np.ndarray
    colors: np.ndarray | None = None

    def __post_init__(self):
        advice = "Leave them out: points[~points.mask.any(axis=1)]."
        refuse_masked(self.points, "Points", DepthError, advice)
        refuse_masked(self.colors, "Colours", DepthError, "Fill them: .filled(0).")
        points = np.asarray(self.points, dtype="float32")
        if points.ndim != 2 or points.shape[1] != 3 or not len(points):
            raise DepthError(
                f"Points must be (N, 3) and not empty. Received: shape {points.shape}."
            )
        if not np.isfinite(points).all():
            raise DepthError("Some points are NaN, infinite or too large for float32.")
        if self.colors is not None:
            colors = np.asarray(self.colors)
            if colors.shape != points.shape or colors.dtype != np.uint8:
                raise DepthError(
                    f"Colours must be uint8 of shape {points.shape}, as the points. Received: "
                    f"{colors.dtype} of shape {colors.shape}."
                )
        object.__setattr__(self, "points", points)

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        low, high = self.points.min(axis=0), self.points.max(axis=0)
        box = ", ".join(
            f"{axis} {a:.3g}..{b:.3g}" for axis, a, b in zip("xyz", low, high, strict=True)
        )
        return f"PointCloud({len(self)} points, {box} m)"

    def save(self, file: str | os.PathLike | BinaryIO, format: str | None = None) -> None:
        """Write the points; the suffix of `file` chooses the format.

        - `.ply`: binary, little endian, camera coordinates as they are (y down).
        - `.glb`: glTF 2.0 in one binary file; axes turned as glTF wants them, y up and the camera
          looking along -z, so that viewers show the scene upright; colours in linear light.
        - `.gltf`: the same as text, with the data inside.

        Needs trimesh (extra `points`). The file appears complete or not at all;
        one that is there is replaced.

        Args:
            file: path; or a file object, such as `io.BytesIO`, open for writing in binary.
            format: "ply", "glb" or "gltf"; needed for file objects.

        Raises: DepthError: unknown suffix or format, no trimesh, no such folder, or it cannot be
            written.
        """
        suffix = check_point_file(file, format)
        content = self._ply() if suffix == ".ply" else self._gltf(binary=suffix == ".glb")
        with written(file, DepthError) as out:
            out.write(content)

    def _ply(self) -> bytes:
        import trimesh

        return trimesh.PointCloud(self.points, self.colors).export(file_type="ply")

    def _gltf(self, binary: bool) -> bytes:
        import trimesh
        from trimesh.exchange.gltf import export_gltf

        colors = None if self.colors is None else _TO_LINEAR_LIGHT[self.colors]
        cloud = trimesh.PointCloud(self.points * np.float32([1, -1, -1]), colors)
        scene = trimesh.Scene(cloud)
        if binary:
            return scene.export(file_type="glb", tree_postprocessor=_show_colors_as_they_are)
        files = export_gltf(scene, embed_buffers=True, tree_postprocessor=_show_colors_as_they_are)
        return files["model.gltf"]


def check_tilt(max_tilt: float | None) -> None:
    """Raise a DepthError unless this is None or an angle between 0 and 90 degrees."""
    if max_tilt is not None and not 0 < max_tilt < 90:
        raise DepthError(f"max_tilt must be above 0 and below 90 degrees. Received: {max_tilt}.")


def check_point_file(file: str | os.PathLike | BinaryIO, format: str | None = None) -> str:
    """The suffix of a file of points, or of a file object's format, that can be written.

    Raises: DepthError: unknown suffix, no such folder, or trimesh is missing.
    """
    suffix = suffix_of(file, format, POINT_SUFFIXES, DepthError)
    if not hasattr(file, "write") and not Path(file).parent.is_dir():
        raise DepthError(f"Cannot write {file}: there is no folder {Path(file).parent}. Make it.")
    try:
        import trimesh  # noqa: F401
    except ImportError as error:
        raise DepthError(
            f"Files of points are written by trimesh: {install_command('points')}"
        ) from error
    return suffix


def _metres(depth: DepthMap) -> np.ndarray:
    if not isinstance(depth, DepthMap):
        raise DepthError(
            "depth is a DepthMap, which knows its unit. Received: "
            f"{type(depth).__name__}. For an array "
            'of metres: DepthMap(array, "metric_depth").'
        )
    if depth.kind != "metric_depth":
        raise DepthError(
            "A relative map has no shape in space: its scale and shift are unknown, and a wrong "
            "shift bends walls. Align it to two or more known depths, depth.to_metric(points="
            "[(row, column, metres), ...]), or take a metric preset."
        )
    return depth.metres


def _slope(z: np.ndarray, camera: Pinhole) -> np.ndarray:
    """Tangent of the angle between a surface and one that faces the camera, for each pixel.

    One step sideways is `z / focal length` metres long, so the tangent is the change of log(z) per
    pixel times the focal length. Of the two neighbours in a row or a column the steeper counts;
    unknown ones (depth 0) don't.
    """
    log = np.log(np.where(z > 0, z, np.nan))
    squares = np.zeros(z.shape, "float32")
    for axis, focal in ((0, camera.fy), (1, camera.fx)):
        change = np.nan_to_num(np.abs(np.diff(log, axis=axis))) * np.float32(focal)
        before, after = [(0, 0), (0, 0)], [(0, 0), (0, 0)]
        before[axis], after[axis] = (1, 0), (0, 1)
        squares += np.maximum(np.pad(change, before), np.pad(change, after)) ** 2
    return np.sqrt(squares)


def _pinhole_of(intrinsics) -> Pinhole:
    values = np.asarray(intrinsics, dtype=np.float64)
    if values.shape == (3, 3):
        if values[0, 1] or values[1, 0] or not np.array_equal(values[2], (0, 0, 1)):
            raise DepthError(
                "intrinsics as a matrix must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], without "
                f"skew. Received: {values.tolist()}."
            )
        values = values[[0, 1, 0, 1], [0, 1, 2, 2]]
    if values.shape != (4,):
        raise DepthError(
            f"intrinsics are (fx, fy, cx, cy) or 3 x 3. Received: shape {values.shape}."
        )
    if not np.isfinite(values).all() or min(values[:2]) <= 0:
        raise DepthError(
            f"Focal lengths must be above 0 and all finite. Received: {values.tolist()}."
        )
    return Pinhole(*values.tolist())


def _centred(focal: float, size: tuple[int, int]) -> Pinhole:
    height, width = size
    return Pinhole(focal, focal, (width - 1) / 2, (height - 1) / 2)


def _step(size: tuple[int, int], max_points: int | None) -> int:
    """Every how many rows and columns leave at most `max_points`."""
    if max_points is None:
        return 1
    if max_points < 1:
        raise DepthError(f"max_points must be at least 1. Received: {max_points}.")
    step = max(1, math.isqrt(size[0] * size[1] // max_points))
    while math.ceil(size[0] / step) * math.ceil(size[1] / step) > max_points:
        step += 1
    return step


def _linear_light() -> np.ndarray:
    """For each 8-bit sRGB value, the 8-bit one that glTF wants for the colours of points."""
    value = np.arange(256) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return np.rint(255 * linear).astype("uint8")


_TO_LINEAR_LIGHT = _linear_light()


def _show_colors_as_they_are(tree: dict) -> None:
    """Alter the glTF material: no lamp shines on a photo's points, and no grey is mixed in."""
    ours = {
        "pbrMetallicRoughness": {"baseColorFactor": [1, 1, 1, 1], "metallicFactor": 0},
        "extensions": {"KHR_materials_unlit": {}},
    }
    # New ones: trimesh's own is one dictionary for all exports of a process.
    tree["materials"] = [material | ours for material in tree["materials"]]
    tree["extensionsUsed"] = [*tree.get("extensionsUsed", []), "KHR_materials_unlit"]
