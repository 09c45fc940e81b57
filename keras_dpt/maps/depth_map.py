"""A depth map that knows what its numbers mean. NumPy and Pillow only, no Keras."""

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin

from keras_dpt.errors import DepthError
from keras_dpt.files import ending, written
from keras_dpt.images.disguises import disguise
from keras_dpt.images.masked import false_if_masked, nan_if_masked, refuse_masked
from keras_dpt.images.reading import PNG_COMPRESSION, load, without_pillow_warnings
from keras_dpt.maps.alignment import align_scale_shift
from keras_dpt.maps.array import ArrayResult, suffix_of
from keras_dpt.maps.metres import check_metres, warn_if_clipped, warn_if_not_metres
from keras_dpt.npy import read_npy

UNITS = {"relative_inverse_depth": None, "metric_depth": "m"}
DEPTH_SUFFIXES = (".npy", ".pfm", ".png")

_MILLIMETRE = 0.001
_PNG_LEVELS = 65535
_PNG_KEY = "keras_dpt."  # of the metadata: keras_dpt.kind, .unit, .scale, .offset


@dataclass(frozen=True, eq=False, repr=False)
class DepthMap(ArrayResult):
    """Depth values of one picture, with their kind and unit.

    NumPy takes it for the array of its values: `np.asarray(depth)`, `plt.imshow(depth)`.

    Args:
        values: `(H, W)` real, finite numbers; kept as float32 (a float32 array is not copied).
        kind: `"relative_inverse_depth"`, where larger is nearer and only an unknown scale and
            shift lead to 1 / metres; or `"metric_depth"`, metres along the optical axis, never
            negative.
        unit: None for relative maps, `"m"` for metric ones; filled in when left out.
        source: name of the picture, for messages and file names; not saved.

    Raises:
        DepthError: (a ValueError) values of another shape, not finite or not real; negative
            metres; unknown kind; a unit that does not belong to the kind.
    """

    values: np.ndarray
    kind: str
    unit: str | None = None
    source: str | os.PathLike | None = None

    def __post_init__(self):
        _check_kind(self.kind)
        unit = UNITS[self.kind] if self.unit is None else self.unit
        if unit != UNITS[self.kind]:
            raise DepthError(
                f"The unit of {self.kind} is {UNITS[self.kind]!r}. Received: {self.unit!r}."
            )
        refuse_masked(
            self.values, "Depth values", DepthError, "Fill them first: values.filled(fill_value)."
        )
        values = np.asarray(self.values)
        if values.dtype.kind not in "fiu":
            raise DepthError(f"Depth values must be real numbers. Received: dtype {values.dtype}.")
        if values.ndim != 2 or values.size == 0:
            raise DepthError(
                f"Depth values must be (H, W) and not empty. Received: shape {values.shape}. "
                "Drop batch and channel axes first."
            )
        with np.errstate(over="ignore"):  # what float32 cannot hold is reported just below
            values = values.astype(np.float32, copy=False)
        low, high = values.min(), values.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            bad = int(np.count_nonzero(~np.isfinite(values)))
            raise DepthError(
                f"{bad} of {values.size} depth values are NaN, infinite or too large for float32."
            )
        if self.kind == "metric_depth" and low < 0:
            raise DepthError(
                f"Metric depth cannot be negative. Received: values down to {low:.6g} m."
            )
        if self.kind == "metric_depth":
            warn_if_not_metres(values)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "unit", unit)

    def __repr__(self) -> str:
        height, width = self.values.shape
        unit = f" {self.unit}" if self.unit else ""
        source = f", source={str(self.source)!r}" if self.source is not None else ""
        return (
            f"DepthMap({height}x{width} {self.kind}, "
            f"{self.values.min():.4g}..{self.values.max():.4g}{unit}{source})"
        )

    @property
    def metres(self) -> np.ndarray:
        """`(H, W)` float32 metres.

        Raises:
            DepthError: (a ValueError) the map is relative, so metres are undefined.
        """
        if self.kind != "metric_depth":
            raise DepthError(
                "A relative map has no metres: its values are inverse depth up to an unknown scale "
                "and shift. Align it to known depths first: depth.to_metric(points=...).metres."
            )
        return self.values

    def save(self, file: str | os.PathLike | BinaryIO, format: str | None = None) -> None:
        """Write the values; the suffix of `file` chooses the format.

        - `.npy`: float32, exact. Holds no kind: name it again to `load`.
        - `.pfm`: float32, exact, little endian, rows from bottom to top. Holds no kind either.
        - `.png`: 16-bit grey with kind, unit, scale and offset as text metadata; value = scale *
          stored + offset. Metric maps up to 65.535 m are in whole millimetres (scale 0.001,
          offset 0), which other tools read too; other maps spread their range over 0..65535. Off
          by at most half a step (half of scale), and float32 rounding. Most viewers show it dark:
          for a picture, use `colorize`.

        The file appears complete or not at all; one that is there is replaced.

        Args:
            file: path; or a file object, such as `io.BytesIO`, open for writing in binary.
            format: "npy", "pfm" or "png"; needed for file objects.

        Raises:
            DepthError: unknown suffix or format, no such folder, or the file cannot be written.
        """
        writers = {".npy": _write_npy, ".pfm": _write_pfm, ".png": _write_png}
        hint = "For a coloured image: depth.colorize().save(path)."
        writer = writers[suffix_of(file, format, DEPTH_SUFFIXES, DepthError, hint)]
        with written(file, DepthError) as out:
            writer(out, self)

    @classmethod
    def load(cls, path: str | os.PathLike, kind: str | None = None) -> "DepthMap":
        """Read what `save` wrote.

        Args:
            path: a `.npy`, `.pfm` or `.png` file.
            kind: what the values are; needed for `.npy` and `.pfm`, which cannot say. A `.png`
                knows, and a different `kind` is refused.

        Raises:
            DepthError: missing or damaged file, unknown suffix, kind missing or contradicted, or
                a PNG without this package's metadata.
        """
        path = Path(path)
        suffix = _known_suffix(path)
        if kind is not None:
            _check_kind(kind)
        elif suffix != ".png":
            raise DepthError(
                f"{path} holds numbers but not what they mean. Pass kind=, one of "
                f"{', '.join(map(repr, UNITS))}."
            )
        if not path.is_file():
            raise DepthError(f"Cannot read {path}: there is no such file.")
        try:
            if suffix == ".png":
                values, stored_kind, unit = _read_png(path)
                if kind not in (None, stored_kind):
                    raise DepthError(f"it holds {stored_kind}, not {kind}.")
                return cls(values, stored_kind, unit, source=path)
            values = read_npy(path) if suffix == ".npy" else read_pfm(path)
            return cls(values, kind, source=path)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise nearly any type on damaged data
            raise DepthError(f"Cannot read {path}: {disguise(path) or error}") from error

    def colorize(
        self, colormap: str = "inferno", vmin: float | None = None, vmax: float | None = None
    ) -> Image.Image:
        """Draw the map in colours, near in the colours of the map's upper end.

        Colours are linear in the values, for metric maps reversed: `vmin` metres, the nearest, get
        the last colour (bright in the default map) and `vmax` the first. Values beyond the range
        get its end colours. With the same range, equal values have equal colours in all pictures.

        Args:
            colormap: name of a matplotlib colour map; `_r` at its end reverses it.
            vmin, vmax: ends of the range, in the unit of the values. Left out, the 2nd and the
                98th percentile of this map, so that a few extremes do not flatten the rest.

        Returns:
            RGB PIL image of the map's size.

        Raises:
            DepthError: unknown colour map, or vmin not below vmax.
        """
        colors = color_table(colormap)
        low, high = self._color_range(vmin, vmax)
        if low == high:  # a constant map gets the colour in the middle
            low, high = low - 1, high + 1
        position = self.values - np.float32(low)  # the steps below reuse its memory
        position *= np.float32(1 / (high - low))
        if self.kind == "metric_depth":
            np.subtract(1, position, out=position)
        # As matplotlib does it: 256 bins of equal width, 1 belongs to the last.
        position *= 256
        index = np.clip(position, 0, 255, out=position).astype(np.uint8)
        image = Image.fromarray(index)
        image.putpalette(colors.tobytes())
        return image.convert("RGB")

    def to_metric(
        self,
        points: np.ndarray | None = None,
        depth: np.ndarray | None = None,
        mask: np.ndarray | None = None,
        method: str = "least_squares",
        max_depth: float = 1000.0,
    ) -> "DepthMap":
        """Turn a relative map into metres with the help of some known depths.

        Scale and shift are fitted in inverse depth, where a relative map is linear, then
        depth = 1 / (scale * values + shift). Where that inverse depth falls below 1 / max_depth
        (sky; all that the fit puts behind infinity), depth is `max_depth`, never infinite or
        negative.

        Args:
            points: `(N, 3)` rows of (row, column, metres); positions are rounded to the nearest
                pixel centre, (0, 0) being the top left one. This or `depth`.
            depth: `(H, W)` metres.
            mask: `(H, W)`, true where known depths may be used; None for everywhere. Known
                depths that are 0, negative, NaN or infinite are never used.
            method: `"least_squares"`, `"median"` or `"ransac"`, see `align_scale_shift`. Two good
                points are enough; with wrong ones among them, give a dozen and take `"ransac"`.
            max_depth: the largest depth to answer, in metres.

        Returns:
            `DepthMap` of kind `metric_depth`, unit m, same size and source.

        Raises:
            DepthError: (a ValueError) the map is metric already; neither or both of `points` and
                `depth`; wrong shapes or positions; too few usable points; points that contradict
                the map.
        """
        if self.kind != "relative_inverse_depth":
            raise DepthError("This map is metric already; use its values, or .metres.")
        if (points is None) == (depth is None):
            raise DepthError("Pass either points (N, 3) or depth (H, W), and not both.")
        if not max_depth > 0 or not np.isfinite(max_depth):
            raise DepthError(f"max_depth must be above 0 m and finite. Received: {max_depth}.")
        if mask is not None and np.shape(mask) != self.values.shape:
            raise DepthError(f"mask is {np.shape(mask)} but the map is {self.values.shape}.")
        if points is not None:
            rows, columns, metres = self._at_points(points)
            prediction = self.values[rows, columns]
            mask = None if mask is None else false_if_masked(mask)[rows, columns]
        else:
            metres = nan_if_masked(depth)
            if metres.shape != self.values.shape:
                raise DepthError(f"depth is {metres.shape} but the map is {self.values.shape}.")
            prediction = self.values
        used = metres if mask is None else metres[false_if_masked(mask)]
        check_metres(used, max_depth, "depth" if points is None else "points")
        known = np.isfinite(metres) & (metres > 0)
        inverse = np.divide(1.0, metres, out=np.zeros_like(metres), where=known)
        scale, shift = align_scale_shift(prediction, inverse, mask, method)
        if scale <= 0:
            raise DepthError(
                f"The known depths contradict the map (fitted scale {scale:.3g}): where they are "
                "nearer, its values are not larger. Check that they are metres, not inverse depth, "
                "and that points are (row, column, metres)."
            )
        aligned = scale * self.values.astype(np.float64) + shift
        warn_if_clipped(aligned, max_depth)
        np.maximum(aligned, 1.0 / max_depth, out=aligned)
        return DepthMap(1.0 / aligned, "metric_depth", source=self.source)

    def _at_points(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        points = nan_if_masked(points)  # a masked distance is not known
        if points.ndim != 2 or points.shape[1] != 3:
            raise DepthError(
                f"points must be (N, 3): row, column, metres. Received: {points.shape}."
            )
        if not np.isfinite(points[:, :2]).all():
            raise DepthError("points: some rows or columns are NaN or infinite.")
        rows, columns = np.rint(points[:, :2]).astype(int).T
        height, width = self.values.shape
        outside = (rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)
        if outside.any():
            row, column, _ = points[outside.argmax()]
            raise DepthError(
                f"{outside.sum()} of {len(points)} points are outside the {height}x{width} map, "
                f"such as row {row:g}, column {column:g}. Points are (row, column, metres)."
            )
        return rows, columns, points[:, 2]

    def _color_range(self, vmin: float | None, vmax: float | None) -> tuple[float, float]:
        if vmin is None and vmax is None:
            low, high = np.percentile(self.values, (2, 98))
            if low == high:  # nearly everything is one plane: show the rest at least
                low, high = self.values.min(), self.values.max()
            return float(low), float(high)
        low = float(np.percentile(self.values, 2) if vmin is None else vmin)
        high = float(np.percentile(self.values, 98) if vmax is None else vmax)
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise DepthError(
                f"vmin must be below vmax and both finite. Received: {low:.6g} and {high:.6g}"
                f"{'' if None not in (vmin, vmax) else ', one of them from this map'}."
            )
        return low, high


def _check_kind(kind: str) -> None:
    if kind not in UNITS:
        raise DepthError(f"kind must be one of {', '.join(map(repr, UNITS))}. Received: {kind!r}.")


def _known_suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in DEPTH_SUFFIXES:
        raise DepthError(
            f"{path}: depth files end in {', '.join(DEPTH_SUFFIXES)}. Received: "
            f"{ending(path)}. "
            "For a coloured image: depth.colorize().save(path)."
        )
    return suffix


def _write_npy(file: BinaryIO, depth: DepthMap) -> None:
    np.save(file, depth.values, allow_pickle=False)


def _write_pfm(file: BinaryIO, depth: DepthMap) -> None:
    height, width = depth.values.shape
    # The sign of the last header number says little endian.
    file.write(f"Pf\n{width} {height}\n-1.0\n".encode("ascii"))
    file.write(depth.values[::-1].astype("<f4").tobytes())


def read_pfm(path: Path) -> np.ndarray:
    content = path.read_bytes()
    header = re.match(rb"(P[Ff])\s+(\d+)\s+(\d+)\s+([-+.\deE]+)\s", content)
    if header is None:
        raise DepthError("it is not a PFM file.")
    magic, width, height, scale = header.groups()
    if magic == b"PF":
        raise DepthError("it is a PFM of three channels; depth has one.")
    height, width = int(height), int(width)
    expected, got = 4 * height * width, len(content) - header.end()
    if got < expected:
        raise DepthError(f"it is cut off, with {got} of {expected} bytes of values.")
    # Readers agree to take the byte order from the scale's sign and to leave its size alone.
    dtype = "<f4" if float(scale) < 0 else ">f4"
    values = np.frombuffer(content, dtype, height * width, header.end())
    return values.reshape(height, width)[::-1].astype(np.float32)


def _write_png(file: BinaryIO, depth: DepthMap) -> None:
    low, high = float(depth.values.min()), float(depth.values.max())
    if depth.kind == "metric_depth" and np.rint(high / _MILLIMETRE) <= _PNG_LEVELS:
        scale, offset = _MILLIMETRE, 0.0
    else:
        # A constant map is all offset; any scale above 0 will do.
        scale, offset = (high - low) / _PNG_LEVELS or 1.0, low
    stored = depth.values.astype(np.float64)
    stored -= offset
    stored /= scale
    stored = np.clip(np.rint(stored, out=stored), 0, _PNG_LEVELS, out=stored).astype(np.uint16)
    metadata = PngImagePlugin.PngInfo()
    for key, value in {
        "kind": depth.kind,
        "unit": depth.unit or "",
        "scale": repr(scale),
        "offset": repr(offset),
        "formula": "value = scale * stored + offset",
    }.items():
        metadata.add_text(_PNG_KEY + key, value)
    image = Image.fromarray(stored)
    image.save(file, format="PNG", pnginfo=metadata, compress_level=PNG_COMPRESSION)


def _read_png(path: Path) -> tuple[np.ndarray, str, str | None]:
    with without_pillow_warnings():
        image = Image.open(path, formats=["PNG"])
    with image:
        load(image)
        try:
            kind, unit, scale, offset = (
                image.text[_PNG_KEY + key] for key in ("kind", "unit", "scale", "offset")
            )
        except KeyError as error:
            raise DepthError(
                f"the PNG lacks {error.args[0]}, so what its numbers mean is unknown. Convert them "
                "to metres yourself and make a DepthMap of them."
            ) from error
        if not image.mode.startswith("I"):
            raise DepthError(f"it was saved again with 8 bits (mode {image.mode}); depth has 16.")
        stored = np.asarray(image).astype(np.float64)
    return float(scale) * stored + float(offset), kind, unit or None


def color_table(colormap: str) -> np.ndarray:
    """A matplotlib colour map as `(256, 3)` uint8: far less memory for big maps than float RGBA.

    Raises: DepthError: there is no such colour map.
    """
    from matplotlib import colormaps  # late: slow to import, and only pictures need it

    if colormap not in colormaps:
        names = {name.lower(): name for name in colormaps}
        close = difflib.get_close_matches(str(colormap).lower(), names, n=3)
        hint = ", ".join(names[name] for name in close) or "inferno, magma, viridis, turbo"
        raise DepthError(f"There is no colour map {colormap!r}. Try {hint}.")
    return colormaps[colormap](np.linspace(0, 1, 256), bytes=True)[:, :3]
