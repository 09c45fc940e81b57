"""The one rule for the values of pixels, wherever arrays of images are taken. NumPy only."""

import numpy as np

from keras_dpt.errors import ImageError

# Resizing and changes of colour overshoot: so far outside of 0 to 255 values are clipped.
_OVERSHOOT = 64
# No image of 0 to 255 that shows anything is as dark as this, but all others' values are: those of
# 0 to 1, -1 to 1, and with mean 0 and standard deviation 1.
_DARKEST = 4


def pixel_values(array: np.ndarray, name: str) -> np.ndarray:
    """Bring pixels of any dtype to 0 to 255, the range of image files.

    | dtype                          | becomes                                            |
    |--------------------------------|----------------------------------------------------|
    | uint8                          | uint8, as it is                                    |
    | other integers, 0 to 255       | uint8                                              |
    | uint16                         | float32, value / 257                               |
    | bool                           | uint8, 0 or 255                                    |
    | float, 0 to 255                | as it is; up to 64 outside of the range is clipped |

    Floats are 0 to 255, as in `keras.utils.load_img` and `img_to_array`, `tf.io.decode_image`,
    keras-hub's image converters and `uint8_array.astype("float32")`. What goes from 0 to 1 is
    refused, not guessed: a guess per image would take a dark one of 0 to 255 for a bright one of 0
    to 1, and none would tell.

    Args:
        array: one image or a batch of them, judged together.
        name: what it is called in messages.

    Raises: ImageError: floats that all are within a range such as 0 to 1 or -1 to 1; other values
        outside of 0 to 255; values that are not finite; another dtype.
    """
    if array.dtype == np.uint8 or array.size == 0:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:  # of either byte order
        return array.astype(np.float32) / np.float32(257)  # 65535 = 257 * 255
    if array.dtype.kind in "iu":
        low, high = array.min(), array.max()
        if low < 0 or high > 255:
            raise ImageError(
                f"{name}: integers must be in 0..255. Received: {low} to {high}. Convert 16-bit "
                "values to uint16, which is scaled."
            )
        return array.astype(np.uint8)
    if array.dtype.kind != "f":
        raise ImageError(
            f"{name}: pixels cannot be {array.dtype}. Pass uint8 or floats from 0 to 255."
        )
    return _floats(array, name)


def _floats(array: np.ndarray, name: str) -> np.ndarray:
    low, high = array.min(), array.max()  # either one is NaN if any value is
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = int(np.count_nonzero(~np.isfinite(array)))
        raise ImageError(f"{name}: {bad} of {array.size} values are NaN or infinite. Replace them.")
    is_small = low >= -_DARKEST and high <= _DARKEST and not low == high == 0
    if is_small and (high <= 1 or not np.array_equal(array, np.rint(array))):
        raise ImageError(
            f"{name}: float pixels must go from 0 to 255, as in files. Received: {low:.4g} to "
            f"{high:.4g}. Multiply images of 0 to 1 by 255, and undo any other normalisation."
        )
    if low < -_OVERSHOOT or high > 255 + _OVERSHOOT:
        raise ImageError(
            f"{name}: float pixels must go from 0 to 255, as in files. Received: {low:.4g} to "
            f"{high:.4g}. Convert 16-bit values to uint16, which is scaled."
        )
    return array if low >= 0 and high <= 255 else np.clip(array, 0, 255)


def as_integers(pixels: np.ndarray) -> np.ndarray:
    """What `read_image` returned as uint8 or uint16, which it reads as the same pixels again.

    Floats would not do: those of a very dark 16-bit image are taken for 0 to 1, and refused.
    """
    return pixels if pixels.dtype == np.uint8 else np.rint(pixels * 257).astype(np.uint16)
