"""Images to another size, by the rules of OpenCV and of Pillow. No Keras."""

import numpy as np
from PIL import Image

RESIZE_METHODS = (
    "bicubic",
    "bicubic_antialias",
    "bilinear",
    "bilinear_aligned",
    "bilinear_antialias",
    "nearest",
)
_PILLOW_FILTERS = {
    "bicubic_antialias": Image.Resampling.BICUBIC,
    "bilinear_antialias": Image.Resampling.BILINEAR,
}


def resize(image: np.ndarray, size: tuple[int, int], method: str = "bicubic") -> np.ndarray:
    """Resample to another size. Pixel centres are at half-integers, but for `bilinear_aligned`.

    | method               | kernel                                                  | result      |
    |----------------------|---------------------------------------------------------|-------------|
    | `bicubic`            | cubic, a = -0.75, no antialiasing, may overshoot        | float32     |
    | `bicubic_antialias`  | cubic, a = -0.5, widened when shrinking, on grey levels | uint8       |
    | `bilinear`           | linear, no antialiasing                                 | float32     |
    | `bilinear_aligned`   | linear, corner pixels' centres onto each other          | float32     |
    | `bilinear_antialias` | linear, widened when shrinking, on grey levels          | uint8       |
    | `nearest`            | the nearest pixel                                       | input dtype |

    `bicubic` is what isl-org/DPT does to pictures (OpenCV) and to depth (PyTorch);
    `bilinear_aligned` is what Depth Anything V2 does to depth; those with
    `_antialias` are what transformers' image processor does (Pillow), for which floats are
    first rounded and clipped to 0..255. Borders are replicated. If the size does not change,
    neither do the values, except for that rounding.

    Args:
        image: `(H, W)` or `(H, W, C)`, numbers.
        size: `(height, width)` of the result.
        method: one of the names above.

    Returns:
        `(height, width)` or `(height, width, C)`.

    Raises:
        ValueError: another shape, size or method.

    Source: OpenCV `INTER_CUBIC` and `INTER_LINEAR`; Pillow `BICUBIC` and `BILINEAR`.
    """
    image = np.asarray(image)
    height, width = (int(side) for side in size)
    if method not in RESIZE_METHODS:
        raise ValueError(
            f"method must be one of {', '.join(RESIZE_METHODS)}. Received: {method!r}."
        )
    if image.ndim not in (2, 3) or image.size == 0:
        raise ValueError(
            f"image must be (H, W) or (H, W, C) and not empty. Received: {image.shape}."
        )
    if height < 1 or width < 1:
        raise ValueError(f"size must be (height, width), both at least 1. Received: {size}.")

    if method == "nearest":
        rows, columns = (
            # floor((i + 1/2) * source / target) in whole numbers, so that ties never wobble.
            (2 * np.arange(target) + 1) * source // (2 * target)
            for target, source in zip((height, width), image.shape[:2], strict=True)
        )
        return image[rows[:, None], columns]
    if method in _PILLOW_FILTERS:
        if image.dtype != np.uint8:
            image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        if image.shape[:2] == (height, width):
            return image.copy()
        return _resize_with_pillow(image, (width, height), _PILLOW_FILTERS[method])

    if image.shape[:2] == (height, width):
        return image.astype(np.float32)
    image = np.asarray(image, dtype=np.float32)
    if method == "bilinear_aligned":
        return _aligned(_aligned(image, height, 0), width, 1)
    import cv2  # late: pictures that keep their size never need it

    interpolation = {"bicubic": cv2.INTER_CUBIC, "bilinear": cv2.INTER_LINEAR}[method]
    resized = cv2.resize(image, (width, height), interpolation=interpolation)
    return resized.reshape(height, width, *image.shape[2:])  # OpenCV drops a single channel


def _aligned(image: np.ndarray, length: int, axis: int) -> np.ndarray:
    """Resize one axis linearly, first and last entries onto each other."""
    source = image.shape[axis]
    # In whole numbers until the division, so that every pixel that can be hit exactly is.
    numerator, denominator = np.arange(length) * (source - 1), max(length - 1, 1)
    low = numerator // denominator
    fraction = ((numerator - low * denominator) / denominator).astype(np.float32)
    fraction = fraction.reshape((-1,) + (1,) * (image.ndim - 1 - axis))
    high = np.minimum(low + 1, source - 1)
    below, above = image.take(low, axis), image.take(high, axis)
    return below + fraction * (above - below)


def _resize_with_pillow(
    image: np.ndarray, size: tuple[int, int], filter: Image.Resampling
) -> np.ndarray:
    if image.ndim == 3 and image.shape[-1] != 3:
        # One by one: Pillow would take two or four channels for alpha and weight colours by it.
        channels = [
            _resize_with_pillow(image[..., i], size, filter) for i in range(image.shape[-1])
        ]
        return np.stack(channels, axis=-1)
    return np.array(Image.fromarray(image).resize(size, filter))
