"""PNG files that are damaged or too short are refused, wherever the package reads them."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from keras_dpt.datasets.readers import read_depth
from keras_dpt.errors import DataError, DepthError, ImageError, LabelError
from keras_dpt.images.png import DamagedPNG, check_png
from keras_dpt.images.reading import read_image
from keras_dpt.maps.depth_map import DepthMap
from keras_dpt.maps.label_map import LabelMap

# `(width, height, bits, colour type)` of all that PNG knows.
KINDS = [(b, 0) for b in (1, 2, 4, 8, 16)] + [(8, 2), (16, 2), (8, 4), (16, 4), (8, 6), (16, 6)]


def png(width, height, bits=8, color=2, interlace=0, rows=None, level=6):
    """A PNG of random pixels made by hand; `rows` cuts its pixels, not its chunks."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    rng = np.random.default_rng(0)
    steps = [(0, 0, 1, 1)]
    if interlace:
        steps = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4)]
        steps += [(1, 0, 2, 2), (0, 1, 1, 2)]
    data = b""
    for left, top, across, down in steps:
        columns, lines = len(range(left, width, across)), len(range(top, height, down))
        if columns:
            for _ in range(lines if rows is None else min(rows, lines)):
                data += b"\0" + rng.bytes((columns * bits * channels + 7) // 8)

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, interlace)
    body = zlib.compress(data, level)
    parts = [body[: len(body) // 2], body[len(body) // 2 :]]
    content = b"".join(chunk(b"IDAT", part) for part in parts)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + content + chunk(b"IEND", b"")


@pytest.mark.parametrize("interlace", [0, 1])
@pytest.mark.parametrize("bits, color", KINDS)
def test_whole_files_of_every_kind_pass(bits, color, interlace):
    for size in ((1, 1), (5, 3), (17, 48)):
        content = png(*size, bits, color, interlace)
        file = io.BytesIO(content)
        file.seek(4)
        check_png(file)
        assert file.tell() == 4
        Image.open(io.BytesIO(content)).load()  # what we wrote is a PNG
    with pytest.raises(DamagedPNG, match="rows of pixels are missing"):
        check_png(io.BytesIO(png(17, 48, bits, color, interlace, rows=1)))


def test_a_picture_of_5_rows_that_promises_48(tmp_path):
    path = tmp_path / "short.png"
    path.write_bytes(png(64, 48, rows=5))
    with pytest.raises(ImageError, match="short.png .*rows of pixels are missing"):
        read_image(path)
    with Image.open(path) as image, pytest.raises(ImageError, match="rows of pixels are missing"):
        read_image(image)
    path.write_bytes(png(64, 48, 16, 0, rows=5))
    with pytest.raises(DataError, match="rows of pixels are missing"):
        read_depth(path)


def readers(tmp_path):
    """Files of ours as PNG, and the function and error that read them."""
    rng = np.random.default_rng(0)
    depth = DepthMap(rng.uniform(1, 9, (12, 16)), "metric_depth")
    labels = LabelMap(rng.integers(0, 3, (12, 16)), ["a", "b", "c"])
    photo = Image.fromarray(rng.integers(0, 256, (12, 16, 3), "uint8"))
    for name, thing, read, error in (
        ("depth", depth, DepthMap.load, DepthError),
        ("labels", labels, LabelMap.load, LabelError),
        ("photo", photo, read_image, ImageError),
        ("truth", depth, read_depth, DataError),
    ):
        path = tmp_path / f"{name}.png"
        thing.save(path)
        yield path, read, error


def test_no_flipped_bit_is_read_as_another_picture(tmp_path):
    for path, read, error in readers(tmp_path):
        content = path.read_bytes()
        read(path)
        for position in range(8, len(content), 7):
            damaged = bytearray(content)
            damaged[position] ^= 1 << position % 8
            path.write_bytes(damaged)
            with pytest.raises(error, match=path.name):
                read(path)


def test_no_cut_file_is_read(tmp_path):
    for path, read, error in readers(tmp_path):
        content = path.read_bytes()
        for length in range(1, len(content), max(1, len(content) // 40)):
            path.write_bytes(content[:length])
            with pytest.raises(error, match=path.name):
                read(path)


@pytest.mark.parametrize("suffix", ["jpg", "tif", "bmp", "gif", "ppm", "webp", "jp2", "tga"])
def test_other_formats_cut_off(tmp_path, suffix):
    path = tmp_path / f"photo.{suffix}"
    y, x = np.mgrid[:64, :96]
    Image.fromarray(np.stack([2 * x, 3 * y, x + y], -1).astype("uint8")).save(path)
    content = path.read_bytes()
    read_image(path)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match=path.name):
        read_image(path)
