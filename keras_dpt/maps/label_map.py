"""A picture's classes, pixel by pixel, that know their names and colours. NumPy and Pillow only."""

import colorsys
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from keras_dpt.errors import LabelError
from keras_dpt.files import ending, written
from keras_dpt.images.disguises import disguise
from keras_dpt.images.masked import refuse_masked
from keras_dpt.images.reading import load, read_image, without_pillow_warnings
from keras_dpt.maps.array import ArrayResult, suffix_of
from keras_dpt.npy import read_npy
from keras_dpt.schema import ListOf, Text, checked, parsed_json

LABEL_SUFFIXES = (".npy", ".png")

_PNG_KEY = "keras_dpt."  # of the metadata: keras_dpt.kind, .class_names, .ignore_index
_KIND = "labels"
_NAMES = ListOf(Text(1000), 1, 65536)


@dataclass(frozen=True, eq=False, repr=False)
class LabelMap(ArrayResult):
    """The class of every pixel of one picture.

    NumPy takes it for the array of its labels: `np.asarray(labels)`, `plt.imshow(labels)`.

    Args:
        labels: `(H, W)` class ids, integers from 0; kept as uint8 if they fit, else as int32.
        class_names: one name per class, all different.
        palette: `(classes, 3)` RGB colours, 0 to 255; left out, `default_palette`.
        confidence: `(H, W)` float32, the probability of the class, 0 to 1; None
            if that is unknown.
        ignore_index: id of pixels without a class, as in data sets; predictions have none.
        source: name of the picture, for messages and file names; not saved.

    Raises:
        LabelError: (a ValueError) labels of another shape or type, ids that are neither a class nor
            `ignore_index`, names, colours or confidence that do not go with them.
    """

    _array_name = "labels"

    labels: np.ndarray
    class_names: Sequence[str]
    palette: Sequence[Sequence[int]] | None = None
    confidence: np.ndarray | None = None
    ignore_index: int = 255
    source: str | os.PathLike | None = None

    def __post_init__(self):
        names = check_class_names(self.class_names)
        check_ignore_index(self.ignore_index, len(names))
        palette = default_palette(len(names)) if self.palette is None else self.palette
        advice = f"Fill them with the label of unknown pixels: .filled({self.ignore_index})."
        refuse_masked(self.labels, "Labels", LabelError, advice)
        refuse_masked(self.confidence, "Confidence", LabelError, "Fill them: .filled(0).")
        labels = np.asarray(self.labels)
        if labels.dtype.kind not in "iu":
            raise LabelError(f"Labels must be integers. Received: dtype {labels.dtype}.")
        if labels.ndim != 2 or labels.size == 0:
            raise LabelError(
                "Labels must be (H, W) and not empty. Received: "
                f"shape {labels.shape}. Drop batch and "
                "channel axes first."
            )
        wrong = ((labels < 0) | (labels >= len(names))) & (labels != self.ignore_index)
        if wrong.any():
            raise LabelError(
                f"Labels must be class ids from 0 to {len(names) - 1}, or {self.ignore_index} for "
                f"none. Received: {labels[wrong][0]}."
            )
        confidence = self.confidence
        if confidence is not None:
            confidence = np.asarray(confidence).astype("float32", copy=False)
            if confidence.shape != labels.shape:
                raise LabelError(f"Confidence is {confidence.shape} but labels {labels.shape}.")
        small = max(len(names) - 1, self.ignore_index) <= 255 and self.ignore_index >= 0
        object.__setattr__(self, "labels", labels.astype("uint8" if small else "int32", copy=False))
        object.__setattr__(self, "class_names", names)
        object.__setattr__(self, "palette", check_palette(palette, len(names)))
        object.__setattr__(self, "confidence", confidence)

    def __repr__(self) -> str:
        height, width = self.labels.shape
        largest = list(self.shares().items())[:3]
        largest = ", ".join(f"{name} {share:.0%}" for name, share in largest)
        source = f", source={str(self.source)!r}" if self.source is not None else ""
        ids = np.flatnonzero(self._counts())
        ids = f" {ids[0]}..{ids[-1]}" if len(ids) else ""
        return (
            f"LabelMap({height}x{width} {self.kind}{ids} of {len(self.class_names)} classes: "
            f"{largest or 'none of them'}{source})"
        )

    @property
    def kind(self) -> str:
        """What the values are: "labels"."""
        return _KIND

    def shares(self) -> dict[str, float]:
        """Share of the picture's labelled pixels that each class has, largest first.

        Classes that do not appear are left out; the shares sum to 1 unless no pixel has a class.
        """
        counts = self._counts()
        total = max(counts.sum(), 1)
        order = np.argsort(-counts, kind="stable")
        return {self.class_names[i]: float(counts[i] / total) for i in order if counts[i]}

    def save(self, file: str | os.PathLike | BinaryIO, format: str | None = None) -> None:
        """Write the labels; the suffix of `file` chooses the format.

        - `.png`: indexed colours. Stored numbers are the class ids themselves (0 is the first
          class, where the original's script writes id + 1), seen through the palette; names and
          `ignore_index` travel as text metadata. For at most 256 ids.
        - `.npy`: the ids alone.

        Confidence is not written. The file appears complete or not at all; one that is there is
        replaced.

        Args:
            file: path; or a file object, such as `io.BytesIO`, open for writing in binary.
            format: "npy" or "png"; needed for file objects.

        Raises:
            LabelError: unknown suffix or format, too many classes for PNG, no such folder, or
                the file cannot be written.
        """
        hint = "For a coloured image: labels.colorize().save(path)."
        suffix = suffix_of(file, format, LABEL_SUFFIXES, LabelError, hint)
        if suffix == ".png" and self.labels.dtype != np.uint8:
            raise LabelError(
                f"{file}: a PNG with a palette holds ids from 0 to 255, this map has "
                f"{len(self.class_names)} classes and ignores {self.ignore_index}. Save .npy."
            )
        with written(file, LabelError) as out:
            if suffix == ".png":
                _write_png(out, self)
            else:
                np.save(out, self.labels, allow_pickle=False)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike,
        class_names: Sequence[str] | None = None,
        palette: Sequence[Sequence[int]] | None = None,
    ) -> "LabelMap":
        """Read what `save` wrote, or any indexed or 8-bit grey PNG of class ids.

        Args:
            path: a `.png` or `.npy` file.
            class_names: names of the classes; needed for files that do not hold them.
            palette: colours of the classes; left out, the file's own, else `default_palette`.

        Raises:
            LabelError: missing or damaged file, unknown suffix, no names, or ids beyond them.
        """
        path = Path(path)
        suffix = _known_suffix(path)
        if not path.is_file():
            raise LabelError(f"Cannot read {path}: there is no such file.")
        ignore_index = 255
        try:
            if suffix == ".png":
                labels, names, colors, ignore_index = _read_png(path)
            else:
                labels = read_npy(path)
                names = colors = None
        except MemoryError:
            raise
        except Exception as error:  # decoders raise nearly any type on damaged data
            raise LabelError(f"Cannot read {path}: {disguise(path) or error}") from error
        if class_names is None and names is None:
            raise LabelError(f"{path} holds class ids but not their names. Pass class_names=.")
        if class_names is not None and list(class_names) != names:
            names, colors = class_names, None
        colors = colors if palette is None else palette
        try:
            return cls(labels, names, colors, ignore_index=ignore_index, source=path)
        except LabelError as error:
            raise LabelError(f"{path}, {len(names)} class names: {error}") from error

    def colorize(self) -> Image.Image:
        """Draw each pixel in its class's colour, black without a class.

        Returns: RGB PIL image of the map's size.
        """
        return Image.fromarray(self._colors()[self._slots()])

    def overlay(self, photo, alpha: float = 0.5, legend: bool = False) -> Image.Image:
        """Lay the colours over the photo; where there is no class, the photo remains as it is.

        Args:
            photo: path, PIL image or array of the map's size, as for `predict_image`.
            alpha: 0 shows the photo only, 1 the colours only.
            legend: put the legend on the right of it, in letters that suit the photo's size.

        Returns: RGB PIL image of the map's size, wider with the legend.
        Raises:
            LabelError: the photo has another size, or `alpha` is not from 0 to 1.
            keras_dpt.ImageError: the photo cannot be read.
        """
        if not 0 <= alpha <= 1:
            raise LabelError(f"alpha must be from 0 (photo) to 1 (colours). Received: {alpha}.")
        pixels = read_image(photo)
        if pixels.shape[:2] != self.labels.shape:
            raise LabelError(
                f"The photo is {pixels.shape[0]}x{pixels.shape[1]} (height x width) but the labels "
                f"{self.labels.shape[0]}x{self.labels.shape[1]}. Pass the image they belong to."
            )
        slots = self._slots()
        weight = np.full(len(self.class_names) + 1, alpha, "float32")
        weight[-1] = 0
        mixed = np.empty(pixels.shape, "uint8")
        colors = self._colors().astype("float32")
        for channel in range(3):  # one at a time: big photos are big enough
            plane = pixels[..., channel].astype("float32")
            plane += weight[slots] * (colors[:, channel][slots] - plane)
            mixed[..., channel] = np.rint(plane)
        overlay = Image.fromarray(mixed)
        return self._beside_legend(overlay) if legend else overlay

    def legend(self, text_size: int = 16, max_classes: int | None = 30) -> Image.Image:
        """Draw the colour, name and share of each class in the picture, largest first.

        Args:
            text_size: height of the text in pixels.
            max_classes: the most classes to show; None for all that appear.

        Returns: RGB PIL image as large as it needs to be.
        """
        colors = dict(zip(self.class_names, self.palette, strict=True))
        shares = list(self.shares().items())[:max_classes]
        lines = [(f"{name}  {_percent(share)}", colors[name]) for name, share in shares]
        lines = lines or [("no class", (0, 0, 0))]
        font = ImageFont.load_default(text_size)
        gap, step = text_size // 2, text_size + text_size // 2
        text_left = gap + step
        text_width = max(font.getlength(text) for text, _ in lines)
        size = (round(text_left + text_width + gap), gap + step * len(lines))
        image = Image.new("RGB", size, "white")
        draw = ImageDraw.Draw(image)
        for line, (text, color) in enumerate(lines):
            top = gap + line * step
            draw.rectangle((gap, top, gap + text_size, top + text_size), tuple(color), "black")
            draw.text((text_left, top + text_size // 2), text, "black", font, anchor="lm")
        return image

    def _beside_legend(self, picture: Image.Image) -> Image.Image:
        """The picture with the legend on its right, as many classes as there is room for."""
        text_size = max(12, picture.height // 25)
        room = (picture.height - text_size // 2) // (text_size + text_size // 2)
        legend = self.legend(text_size, max_classes=max(1, room))
        both = Image.new(
            "RGB", (picture.width + legend.width, max(picture.height, legend.height)), "white"
        )
        both.paste(picture, (0, 0))
        both.paste(legend, (picture.width, 0))
        return both

    def _slots(self) -> np.ndarray:
        """Labels with the number of classes in place of `ignore_index`."""
        return np.where(self._has_class(), self.labels, len(self.class_names))

    def _colors(self) -> np.ndarray:
        """Colours of the slots: `(classes + 1, 3)` uint8."""
        return np.array([*self.palette, (0, 0, 0)], "uint8")

    def _has_class(self) -> np.ndarray:
        return self.labels != self.ignore_index

    def _counts(self) -> np.ndarray:
        return np.bincount(self.labels[self._has_class()], minlength=len(self.class_names))


def default_palette(num_classes: int) -> tuple[tuple[int, int, int], ...]:
    """Colours that differ well between neighbouring ids: hues a golden section apart."""
    colors = []
    for i in range(num_classes):
        hue, row = (0.6180339887 * i) % 1, i // 8 % 3
        rgb = colorsys.hsv_to_rgb(hue, (0.75, 0.5, 1.0)[row], (0.9, 1.0, 0.6)[row])
        colors.append(tuple(round(255 * value) for value in rgb))
    return tuple(colors)


def check_class_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names as a tuple. Raises LabelError: none at all, not text, or two alike."""
    if isinstance(names, str) or not names or not all(isinstance(name, str) for name in names):
        raise LabelError(f"class_names must be a list of names. Received: {names!r}.")
    names = tuple(names)
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise LabelError(f"class_names must all be different; {doubles[0]!r} is there twice.")
    return names


def check_ignore_index(ignore_index: int, num_classes: int) -> None:
    """Raises LabelError: it is the id of a class, which would never be learnt or counted."""
    if 0 <= ignore_index < num_classes:
        raise LabelError(
            f"ignore_index {ignore_index} is the id of one of the {num_classes} classes. Choose a "
            "value that is not a class id, such as -1, and give it to pixels without a class."
        )


def check_palette(palette, num_classes: int) -> tuple[tuple[int, int, int], ...]:
    """Colours as tuples. Raises LabelError: not one RGB colour, 0 to 255, for each class."""
    colors = np.asarray(palette)
    if (
        colors.shape != (num_classes, 3)
        or colors.dtype.kind not in "iu"
        or colors.min() < 0
        or colors.max() > 255
    ):
        raise LabelError(
            f"palette must be {num_classes} colours (red, green, blue), whole numbers from 0 to "
            f"255. Received: shape {colors.shape}, dtype {colors.dtype}."
        )
    return tuple(tuple(color) for color in colors.tolist())


def _known_suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in LABEL_SUFFIXES:
        raise LabelError(
            f"{path}: label files end in {', '.join(LABEL_SUFFIXES)}. Received: "
            f"{ending(path)}. "
            "For a coloured image: labels.colorize().save(path)."
        )
    return suffix


def _write_png(file: BinaryIO, label_map: LabelMap) -> None:
    palette = np.zeros((256, 3), "uint8")
    palette[: len(label_map.palette)] = label_map.palette
    metadata = PngImagePlugin.PngInfo()
    metadata.add_text(_PNG_KEY + "kind", _KIND)
    metadata.add_text(_PNG_KEY + "ignore_index", str(label_map.ignore_index))
    metadata.add_itxt(_PNG_KEY + "class_names", json.dumps(label_map.class_names))
    image = Image.fromarray(label_map.labels)
    image.putpalette(palette.tobytes())
    image.save(file, format="PNG", pnginfo=metadata)


def _read_png(path: Path) -> tuple[np.ndarray, list[str] | None, list | None, int]:
    with without_pillow_warnings():
        image = Image.open(path, formats=["PNG"])
    with image:
        load(image)
        if image.mode not in ("P", "L"):
            raise LabelError(f"it is an image of mode {image.mode}, not one of class ids.")
        names = image.text.get(_PNG_KEY + "class_names")
        if names is not None:
            names = parsed_json(names, "the list of class names", LabelError)
            checked(names, _NAMES, "the list of class names", LabelError)
        colors = None
        if names is not None and image.mode == "P":
            flat = image.getpalette()[: 3 * len(names)]
            flat += [0] * (3 * len(names) - len(flat))  # encoders drop unused colours at the end
            colors = np.reshape(flat, (-1, 3))
        ignore_index = int(image.text.get(_PNG_KEY + "ignore_index", 255))
        return np.asarray(image), names, colors, ignore_index


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}" if share >= 0.001 else "< 0.1%"
