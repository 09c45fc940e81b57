"""Tiny data sets on disk."""

import numpy as np
from PIL import Image


def photo(height=12, width=16, seed=0):
    """`(height, width, 3)` uint8 noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), "uint8")


def save(path, array):
    """Write an array as a picture, making the folders on the way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def depth_pairs(root, count=5, height=12, width=16):
    """`root/rgb/N.png` and `root/depth/N.png`, millimetres, all pixels of the N-th 1000 (N + 1)."""
    for i in range(count):
        save(root / "rgb" / f"{i}.png", photo(height, width, i))
        depth = np.full((height, width), 1000 * (i + 1), "uint16")
        depth[0] = 0
        save(root / "depth" / f"{i}.png", depth)


def label_pairs(root, count=3, images="rgb", targets="seg", suffix=".jpg", ids=(0, 1, 11)):
    """Pictures of stripes of class ids."""
    for i in range(count):
        save(root / images / f"{i}{suffix}", photo(seed=i))
        save(root / targets / f"{i}.png", np.resize(np.array(ids, "uint8"), (12, 16)))
