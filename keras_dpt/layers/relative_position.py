"""Indices of attention biases that depend on the offset of two cells of a grid."""

import functools

import numpy as np
from keras import ops


def pair_rows(size):
    """The row of a table of biases for each pair of cells.

    A table has `(2 h - 1) * (2 w - 1)` rows, one for each offset (rows, columns) from a key to a
    query, from `(1 - h, 1 - w)` to `(h - 1, w - 1)`, row by row.

    Args: size: `(h, w)` of the grid; integers or scalar integer tensors.
    Returns: `(h * w, h * w)` int32, queries by keys; NumPy if the sizes are integers.
    Source: Liu et al. 2021 (arXiv 2103.14030), section 3.2; microsoft/Swin-Transformer
        `models/swin_transformer.py`, `relative_position_index`.
    """
    known = all(isinstance(side, int) for side in size)
    return _known_rows(*size) if known else _rows(ops, *size)


@functools.lru_cache(maxsize=32)
def _known_rows(height, width):
    return _rows(np, height, width)


def _rows(xp, height, width):
    cells = xp.arange(height * width, dtype="int32")
    row, column = cells // width, cells % width
    rows = row[:, None] - row[None] + (height - 1)
    columns = column[:, None] - column[None] + (width - 1)
    return rows * (2 * width - 1) + columns
