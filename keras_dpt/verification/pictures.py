"""Three images that come with the package, drawn by it: the same pixels on every machine."""

import numpy as np

NAMES = ("corridor", "street", "grain")


def picture(name, height, width):
    """An image to compare networks on.

    Args: name: one of `NAMES`. height, width: in pixels.
    Returns: `(height, width, 3)` uint8.
    """
    y, x = np.mgrid[0:height, 0:width].astype("float64")
    y, x = 2 * (y + 0.5) / height - 1, 2 * (x + 0.5) / width - 1
    image = {"corridor": _corridor, "street": _street, "grain": _grain}[name](y, x)
    image += np.random.default_rng(0).normal(0, 0.02, image.shape)
    return np.round(255 * image.clip(0, 1)).astype("uint8")


def _corridor(y, x):
    """Floor, walls and ceiling that run to a door, in checks: planes at known angles."""
    depth = 1 / np.maximum(np.maximum(abs(x), abs(y)), 0.15)
    side = abs(x) > abs(y)
    across = np.where(side, y, x) * depth
    check = (np.floor(4 * depth) + np.floor(3 * across)) % 2
    colours = np.array([[0.75, 0.7, 0.6], [0.45, 0.3, 0.2], [0.85, 0.85, 0.9]])
    surface = np.where(side, 0, np.where(y > 0, 1, 2))
    shade = (0.55 + 0.45 * check) * (1.2 / (1 + 0.25 * depth))
    image = colours[surface] * shade[..., None]
    image[np.maximum(abs(x), abs(y)) < 0.15] = (0.15, 0.25, 0.5)
    return image


def _street(y, x):
    """Sky, road and three blocks in front of each other."""
    sky = np.stack([0.5 - 0.2 * y, 0.7 - 0.15 * y, 0.95 + 0 * y], axis=-1)
    road = (0.35 + 0.1 * np.sin(40 / (abs(y) + 0.1)))[..., None] * np.ones(3)
    image = np.where((y > 0)[..., None], road, sky)
    blocks = ((-0.7, 0.35, -0.6, 0.25), (0.5, 0.4, -0.3, 0.4), (0.05, 0.2, 0.0, 0.7))
    for number, (centre, half, top, bottom) in enumerate(blocks):
        inside = (abs(x - centre) < half) & (y > top) & (y < bottom)
        windows = (np.sin(30 * x) > 0.3) & (np.sin(24 * y + number) > 0.2)
        colour = np.array([[0.7, 0.4, 0.3], [0.5, 0.5, 0.55], [0.8, 0.1, 0.1]])[number]
        image[inside] = colour
        image[inside & windows] = 0.25 * colour
    return image


def _grain(y, x):
    """Noise of five scales and a gradient: what no photo has, and every position counts."""
    rng = np.random.default_rng(1)
    image = np.stack([0.5 + 0.2 * x, 0.5 - 0.2 * y, 0.5 + 0.1 * x * y], axis=-1)
    height, width = y.shape
    for cell in (64, 32, 16, 8, 1):
        rows, columns = -(-height // cell), -(-width // cell)
        noise = rng.uniform(-0.15, 0.15, (rows, columns, 3))
        image += noise.repeat(cell, axis=0).repeat(cell, axis=1)[:height, :width]
    return image
