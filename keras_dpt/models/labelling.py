"""From scores on the network's grid to one class per pixel of a photo. NumPy only, no Keras.

A photo of 12 million pixels with 150 classes has 7 GB of scores. They never exist at once: the
photo is filled tile by tile.
"""

from collections.abc import Iterator

import numpy as np

# Scores held at once while a photo is labelled: 32 MB of float32.
_TILE_VALUES = 8_000_000


def label_pixels(logits: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The most likely class of each pixel of a photo, and how likely it is.

    The logits are resized bicubically (a = -0.75, no antialiasing), as in the original's script,
    then the largest one wins.

    Args:
        logits: `(h, w, C)` float scores, up to a constant per pixel: logits or log probabilities.
        size: `(height, width)` of the photo.

    Returns: labels `(height, width)`, uint8 up to 256 classes, else int32; and their softmax
        probability `(height, width)` float32.
    Source: isl-org/DPT `run_segmentation.py`.
    """
    logits = np.asarray(logits, "float32")
    labels = np.empty(size, "uint8" if logits.shape[-1] <= 256 else "int32")
    confidence = np.empty(size, "float32")
    for rows, columns, tile in resized_tiles(logits, size, cubic_weights):
        labels[rows, columns] = tile.argmax(axis=-1)
        tile -= tile.max(axis=-1, keepdims=True)
        confidence[rows, columns] = 1 / np.exp(tile, out=tile).sum(axis=-1)
    return labels, confidence


def resized_tiles(
    scores: np.ndarray, size: tuple[int, int], weights
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Resize `(h, w, C)` maps piece by piece.

    Args:
        scores: `(h, w, C)` float32.
        size: `(height, width)` of the result.
        weights: `cubic_weights` or `linear_weights`.

    Yields: rows and columns of a tile, and its values `(rows, columns, C)`, which are the caller's.
    """
    by_row, by_column = (weights(*sides) for sides in zip(scores.shape[:2], size, strict=True))
    side = max(16, int((_TILE_VALUES / scores.shape[-1]) ** 0.5))
    for rows in _slices(size[0], side):
        row_weights, source_rows = _needed(by_row[rows])
        for columns in _slices(size[1], side):
            column_weights, source_columns = _needed(by_column[columns])
            # Only the patch under the tile takes part, so the products stay small.
            patch = scores[source_rows, source_columns]
            flat = row_weights @ patch.reshape(patch.shape[0], -1)
            yield rows, columns, column_weights @ flat.reshape(-1, *patch.shape[1:])


def cubic_weights(old: int, new: int) -> np.ndarray:
    """Interpolation weights `(new, old)` float32: cubic with a = -0.75, pixel centres at halves."""
    position = (np.arange(new) + 0.5) * old / new - 0.5
    low = np.floor(position).astype(int)
    weights = np.zeros((new, old))
    for tap in (-1, 0, 1, 2):
        distance = np.abs(position - low - tap)
        near = (1.25 * distance - 2.25) * distance**2 + 1
        far = ((-0.75 * distance + 3.75) * distance - 6) * distance + 3
        # Beyond the border the outermost pixel is repeated.
        column = np.clip(low + tap, 0, old - 1)
        np.add.at(weights, (np.arange(new), column), np.where(distance <= 1, near, far))
    return weights.astype("float32")


def linear_weights(old: int, new: int) -> np.ndarray:
    """Interpolation weights `(new, old)` float32: linear, pixel centres at halves."""
    position = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    distance = np.abs(position[:, None] - np.arange(old))
    return np.maximum(1 - distance, 0).astype("float32")


def _slices(length: int, side: int) -> list[slice]:
    return [slice(start, min(start + side, length)) for start in range(0, length, side)]


def _needed(weights: np.ndarray) -> tuple[np.ndarray, slice]:
    """The columns that are not all zero, and where they are."""
    used = np.flatnonzero(weights.any(axis=0))
    where = slice(used[0], used[-1] + 1)
    return weights[:, where], where
