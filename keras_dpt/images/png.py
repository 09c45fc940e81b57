"""Whether a PNG file is whole and undamaged: Pillow looks at neither, unless asked twice."""

import struct
import zlib
from typing import BinaryIO

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
# Of Adam7's passes: first column, first row, step across, step down.
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_PIECE = 1 << 20


class DamagedPNG(ValueError):
    """What is wrong with a PNG file."""


def check_png(file: BinaryIO) -> None:
    """Check each chunk's sum of a PNG file, and that its pixels are all there.

    Pillow takes a flipped bit for another pixel, and rows that are not there for black ones. Costs
    about half as much again as decoding.

    Args: file: open for reading in binary, and seekable; its position is kept.
    Raises: DamagedPNG: what is wrong.
    """
    start = file.tell()
    try:
        file.seek(0)
        _check(file)
    finally:
        file.seek(start)


def _check(file: BinaryIO) -> None:
    if file.read(8) != _SIGNATURE:
        raise DamagedPNG("it is no PNG file")
    missing, inflate, is_first = None, zlib.decompressobj(), True
    while True:
        head = file.read(8)
        if len(head) < 8:
            raise DamagedPNG("it is cut off")
        length, kind = struct.unpack(">I4s", head)
        if is_first and (kind != b"IHDR" or length != 13):
            raise DamagedPNG("it does not begin with its header")
        crc = zlib.crc32(kind)
        left = length
        while left:
            piece = file.read(min(left, _PIECE))
            if not piece:
                raise DamagedPNG("it is cut off")
            left -= len(piece)
            crc = zlib.crc32(piece, crc)
            if is_first:
                missing = _bytes_of_pixels(piece)
            elif kind == b"IDAT" and missing > 0:
                missing -= _inflated(inflate, piece, missing)
        if file.read(4) != struct.pack(">I", crc):
            name = kind.decode("latin-1")
            raise DamagedPNG(f"the checksum of its chunk {name!r} is wrong")
        is_first = False
        if kind == b"IEND":
            break
    if missing > 0:
        raise DamagedPNG("rows of pixels are missing")


def _inflated(inflate, piece: bytes, wanted: int) -> int:
    """How many bytes of pixels a piece of an IDAT chunk gives, of those that are wanted."""
    count = 0
    while piece and count < wanted and not inflate.eof:
        try:
            count += len(inflate.decompress(piece, _PIECE))
        except zlib.error as error:
            raise DamagedPNG(f"its pixels cannot be decompressed ({error})") from error
        piece = inflate.unconsumed_tail
    return count


def _bytes_of_pixels(header: bytes) -> int:
    """Length of the decompressed rows, each with its filter's byte."""
    width, height, bits, color, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if color not in _CHANNELS or bits not in (1, 2, 4, 8, 16):
        raise DamagedPNG("its header makes no sense")
    bits *= _CHANNELS[color]
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total
