"""Images in and out: find them, read them, write them. NumPy and Pillow only, no Keras."""

import glob
import logging
import os
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from keras_dpt.errors import ImageError
from keras_dpt.files import written_whole
from keras_dpt.images.disguises import disguise
from keras_dpt.images.left_out import is_learnt, what_was_left_out
from keras_dpt.images.masked import refuse_masked
from keras_dpt.images.pixels import pixel_values
from keras_dpt.images.png import check_png

logger = logging.getLogger("keras_dpt")

# fmt: off
IMAGE_SUFFIXES = (
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png",
    ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
)
# fmt: on
# Of zlib's 9 levels: a depth map takes a quarter of the default level's time and 6 % more room.
PNG_COMPRESSION = 2

# Floats of files a little outside [0, 1], as colour conversion leaves them, are clipped.
_FLOAT_TOLERANCE = 1e-3

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Python's warning filters belong to the whole process, so threads take turns changing them.
_warning_filters = threading.Lock()


@contextmanager
def without_pillow_warnings() -> Iterator[None]:
    """Silence what Pillow says of big pictures and odd metadata; its errors still come through."""
    with _warning_filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_image(source: "str | os.PathLike | Image.Image | np.ndarray") -> np.ndarray:
    """Read one picture as RGB.

    | source                                   | becomes                                       |
    |------------------------------------------|-----------------------------------------------|
    | path, PIL image                          | uint8, turned upright by its EXIF orientation |
    | 16-bit grey file, `I;16` PIL image       | float32, value / 257                          |
    | 16-bit colour file                       | uint8, the high bytes (all Pillow decodes)    |
    | float file (TIFF), `F` PIL image         | float32, value * 255; must be in [0, 1]       |
    | array                                    | as `keras_dpt.images.pixels.pixel_values` has |
    |                                          | it: integers and floats are 0 to 255          |

    Grey is repeated over the three channels. Alpha is dropped, not composited, so transparent
    pixels show the colour stored beneath, as upstream and `Image.convert("RGB")` do. An animation
    gives its first frame. Colour profiles are ignored.

    Args:
        source: a path, a PIL image, or an array (or anything NumPy makes one of, such as a CPU
            tensor) of shape `(H, W)`, `(H, W, 1)`, `(H, W, 3)` RGB or `(H, W, 4)` RGBA.

    Returns:
        `(H, W, 3)` uint8 or float32, always in 0..255. It may share memory with a given array.

    Raises:
        ImageError: missing, empty, damaged or unknown file; more pixels than twice
            `PIL.Image.MAX_IMAGE_PIXELS` (about 179 million); an array of another shape, dtype or
            range, or with values that are masked or not finite. The message names the source.
    """
    if isinstance(source, (str, os.PathLike)):
        return _read_file(Path(source))
    if isinstance(source, Image.Image):
        filename = getattr(source, "filename", "")
        return _decode(source, str(filename) or f"PIL image of mode {source.mode}")
    if isinstance(source, (list, tuple)) or not hasattr(source, "__array__"):
        raise ImageError(
            f"An image is a path, a PIL image or an array, not a {type(source).__name__}."
        )
    if getattr(source, "is_result", False):
        raise ImageError(
            f"A {type(source).__name__} is no image: pass the photo that it was made of."
        )
    refuse_masked(source, "The image", ImageError, "Fill them first: image.filled(0).")
    if str(getattr(source, "dtype", "")) == "torch.bfloat16":  # NumPy has no such numbers
        source = source.float()
    try:
        array = np.asarray(source)
    except Exception as error:
        raise ImageError(
            f"{type(source).__name__} cannot be turned into a NumPy array ({error}). "
            f"{_advice_for_tensor(source)}"
        ) from error
    if array.dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        array = array.astype(np.float32)
    return _array_to_rgb(array, f"array of shape {array.shape} and dtype {array.dtype}")


def pixels_promised(path: str | os.PathLike) -> int:
    """How many pixels a picture file says it has, without decoding any; 0 if it says nothing."""
    try:
        with without_pillow_warnings(), Image.open(path) as image:
            return image.width * image.height
    except Image.DecompressionBombError as error:
        numbers = re.findall(r"\d+", str(error))
        return int(numbers[0]) if numbers else 0
    except Exception:  # `read_image` says what is wrong
        return 0


def write_picture(picture: Image.Image, path: str | os.PathLike) -> None:
    """Write a picture as a PNG file, which appears complete or not at all.

    Raises: ImageError: no such folder, or the system refuses to write.
    """
    with written_whole(Path(path), ImageError) as file:
        picture.save(file, format="PNG", compress_level=PNG_COMPRESSION)


def find_images(paths: Sequence[str | os.PathLike]) -> list[Path]:
    """List the picture files that files, folders and patterns stand for.

    A folder gives the pictures in it and in its subfolders, sorted, known by their suffix
    (`IMAGE_SUFFIXES`); hidden files and folders are skipped. Images of kinds that cannot be read
    as they are, such as HEIC without pillow-heif, are left out and named in a warning of the
    logger "keras_dpt". A pattern (`*`, `?`, `[...]`, `**`)
    gives the pictures and folders that it matches, in the same way. Any other name is kept as it
    is, whatever its suffix and even if it is missing: `read_image` says so when its turn comes,
    and the other pictures need not suffer.

    Args:
        paths: names of files and folders, or patterns; a single one is fine too.

    Returns:
        The files, in the order of `paths`, each once.

    Raises:
        ImageError: a folder or pattern without a picture, or no path at all.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    if not paths:
        raise ImageError("No image was named; give files, folders or patterns.")
    found: dict[str, Path] = {}
    others: list[Path] = []
    for given in paths:
        path = Path(given)
        if not str(given):  # an unset shell variable must not mean the current folder
            raise ImageError("An image's name is empty.")
        if os.path.isdir(path):
            files = _images_below(path, others)
            where = f"The folder {path} holds"
        elif glob.has_magic(str(given)) and not os.path.exists(path):
            files = []
            for match in map(Path, sorted(glob.glob(str(given), recursive=True))):
                if match.is_dir():
                    files += _images_below(match, others)
                elif _has_image_suffix(match):
                    files.append(match)
                else:
                    others.append(match)
            where = f"The pattern {given} matches"
        else:
            files = [path]
        if not files:
            raise ImageError(
                f"{where} no image. Images are known by their suffix "
                f"({', '.join(IMAGE_SUFFIXES)}); name a file itself to read any other. "
                f"{what_was_left_out(others)}".rstrip()
            )
        for file in files:
            found.setdefault(os.path.abspath(file), file)
    if sentences := what_was_left_out(others):
        logger.warning("%s", sentences)
    return list(found.values())


def _read_file(path: Path) -> np.ndarray:
    try:
        stat = path.stat()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if path.is_dir():
        raise ImageError(f"{path} is a folder. Name an image file in it.")
    if not path.is_file():
        raise ImageError(f"{path} is not a regular file. Copy the image into one first.")
    if stat.st_size == 0:
        raise ImageError(f"{path} is empty (0 bytes). Copy or download it again.")
    try:
        with without_pillow_warnings():
            image = Image.open(path)
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{path} has too many pixels: {str(error).rstrip('.')}. Shrink it, or raise "
            "PIL.Image.MAX_IMAGE_PIXELS if you trust the file and have the memory."
        ) from error
    except UnidentifiedImageError as error:
        advice = disguise(path) or "Convert it to PNG or JPEG."
        raise ImageError(
            f"{path} is not an image in a format that Pillow can read, whatever its name says. "
            f"{advice}"
        ) from error
    except MemoryError:
        raise
    except Exception as error:
        if getattr(error, "errno", None):  # from the system, not from a decoder
            raise _unreadable(path, error) from error
        raise _damaged(str(path), error) from error
    with image:
        return _decode(image, str(path))


def _decode(image: Image.Image, name: str) -> np.ndarray:
    """Any PIL image, loaded or not, to `(H, W, 3)`; it is left as it was."""
    is_waiting = bool(getattr(image, "tile", None))  # its pixels are still in the file
    try:
        if 0 in image.size:
            raise ImageError(f"{name} has no pixels (size {image.size}).")
        if image.format == "EPS":  # Pillow would have another program run it
            raise ImageError(f"{name} is a PostScript program. Convert it to PNG first.")
        if image.mode == "LAB":
            # Pillow would copy L, a, b into R, G, B.
            raise ImageError(f"{name} is in CIE Lab colours. Convert it to RGB first.")
        load(image)
        is_16_bit = image.mode.startswith("I;16") or (
            image.mode == "I" and image.format in ("PNG", "PPM")
        )
        image = _upright(image)
        if is_16_bit:
            return _array_to_rgb(np.asarray(image).astype(np.uint16), name)
        if image.mode in ("I", "F"):
            array, name = np.asarray(image), f"{name} (mode {image.mode})"
            array = _float_file(array, name) if image.mode == "F" else array
            return _as_rgb(array) if image.mode == "F" else _array_to_rgb(array, name)
        if image.mode in ("P", "PA"):
            image = image.convert("RGBA")  # straight to RGB, Pillow may warn of transparency
        elif image.mode == "La":
            image = image.convert("LA")
        return np.array(image.convert("RGB"))
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise nearly any type on damaged data
        if _is_closed(image, error, is_waiting):
            raise ImageError(
                f"{name} was closed before its pixels were read. Pass it inside its `with` block, "
                "call `load()` there, or pass the path."
            ) from error
        raise _damaged(name, error) from error


def load(image: Image.Image) -> None:
    """Decode a picture that Pillow has opened, if it is not yet; a damaged PNG raises."""
    # Where a file was decoded already, it is too late: Pillow has closed it.
    file = getattr(image, "fp", None)
    if image.format == "PNG" and file is not None and file.seekable():
        check_png(file)
    image.load()


def _is_closed(image: Image.Image, error: Exception, was_waiting: bool) -> bool:
    """Whether `error` is due to a PIL image that was closed, so that it has nothing to read."""
    return (was_waiting and getattr(image, "fp", None) is None) or "closed" in str(error)


def _upright(image: Image.Image) -> Image.Image:
    try:
        with without_pillow_warnings():
            orientation = image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # unreadable metadata is no reason to refuse good pixels
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _advice_for_tensor(tensor) -> str:
    """What to do with a tensor that NumPy cannot read, as true as its attributes tell."""
    device = str(getattr(tensor, "device", ""))
    if getattr(tensor, "requires_grad", False):
        return "Detach it first: tensor.detach().cpu()."
    if device and "cpu" not in device.lower():
        return "Move it to the CPU first: tensor.cpu()."
    return "Convert it to a NumPy array of uint8, or of float32 from 0 to 1, first."


def _unreadable(path: Path, error: Exception) -> ImageError:
    hint = missing_hint(path) if isinstance(error, FileNotFoundError) else ""
    reason = getattr(error, "strerror", None) or error
    return ImageError(f"{path} cannot be read: {reason}.{hint}")


def missing_hint(path: Path) -> str:
    """What to do about a file that is not there."""
    if path.parts[0].lower() in ("http:", "https:"):  # `Path` has made one slash of two
        return " URLs are not supported: download it first, and pass the file."
    return " Check the name."


def _damaged(name: str, error: Exception) -> ImageError:
    return ImageError(
        f"{name} cannot be decoded ({error}). It is damaged or cut off: copy or download it again, "
        "or re-save it as PNG or JPEG."
    )


def _array_to_rgb(array: np.ndarray, name: str) -> np.ndarray:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4):
        hint = ""
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            hint = " Move the channels last: array.transpose(1, 2, 0)."
        elif array.ndim == 4:
            hint = " Pass the images of a batch as a list."
        raise ImageError(f"{name}: expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).{hint}")
    if array.size == 0:
        raise ImageError(f"{name}: it has no pixels.")
    array = array[..., :3]
    array = pixel_values(array, name)
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    return _as_rgb(array)


def _as_rgb(array: np.ndarray) -> np.ndarray:
    """Pixels `(H, W)`, `(H, W, 1)` or `(H, W, 3)` with three channels."""
    if array.ndim == 2:
        array = array[..., None]
    if array.shape[-1] == 1:
        array = np.repeat(array, 3, axis=-1)
    return np.ascontiguousarray(array)


def _float_file(array: np.ndarray, name: str) -> np.ndarray:
    """Pixels of a float file, where 1 is white."""
    low, high = array.min(), array.max()  # either one is NaN if any value is
    if not (low >= -_FLOAT_TOLERANCE and high <= 1 + _FLOAT_TOLERANCE):
        raise ImageError(
            f"{name}: a float file must hold 0 to 1. Received: {low:.6g} to {high:.6g}. Save it "
            "with 8 or 16 bits."
        )
    return np.clip(array.astype(np.float32), 0, 1) * np.float32(255)


def _images_below(folder: Path, others: list[Path]) -> list[Path]:
    """Images in a folder and its subfolders; other files are added to `others`."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in files if not name.startswith(".")]
    others += [path for path in found if not _has_image_suffix(path)]
    return sorted(filter(_has_image_suffix, found))


def _has_image_suffix(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES or is_learnt(path)
