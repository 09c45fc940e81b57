"""Sides of images that a network can take."""

import keras


def check_sides(shape, multiple, advised=None):
    """Raise a ValueError if a side of `shape`, `(B, H, W, C)`, is not such a multiple.

    A TensorFlow graph for sizes that are not known yet raises when it runs.

    Args:
        shape: of images; sides are integers, `None` or a backend's scalars.
        multiple: what sides must be multiples of.
        advised: what the message advises to set `multiple_of` to; `multiple` by default.
    """
    height, width = shape[1:3]
    known = isinstance(height, int) and isinstance(width, int)
    received = f" Received: {height} x {width} (height x width)." if known else ""
    message = (
        f"Image sides must be multiples of {multiple}.{received} Resize the images, or use "
        f"`predict_image`, with {advised or multiple} as `multiple_of` of the image converter."
    )
    for side in (height, width):
        if isinstance(side, int):
            if side % multiple:
                raise untouched(message)
        elif side is not None and keras.config.backend() == "tensorflow":
            import tensorflow as tf

            # Else a convolution would silently leave out the last rows or columns.
            tf.debugging.assert_equal(side % multiple, 0, message=message)


def check_size(shape, fixed):
    """Raise a ValueError if images of `shape` `(B, H, W, C)` are not of a fixed size.

    Args: shape: as in `check_sides`. fixed: `(height, width)`, or `None` for any.
    """
    sides = tuple(shape[1:3])
    if fixed is None or not all(isinstance(side, int) for side in sides) or sides == tuple(fixed):
        return
    raise untouched(
        f"{one_size_only('This encoder', fixed)} Received: {sides[0]} x {sides[1]}. Set "
        f"`image_size={tuple(fixed)}` and `keep_aspect_ratio=False` in the image converter."
    )


def one_size_only(name, size):
    """The sentence that begins every message about a network of one size, `(height, width)`.

    Args: name: of the network, or "This encoder".
    """
    return f"{name} takes images of {size[0]} x {size[1]} (height x width) only."


def untouched(message):
    """A ValueError to which Keras adds nothing when it comes out of a layer's `call`."""
    error = ValueError(message)
    error._keras_call_info_injected = True
    return error
