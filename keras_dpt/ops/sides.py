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
    message = (
        f"Image sides must be multiples of {multiple}. Received: {height} x {width} (height x "
        f"width). Set `multiple_of` of the image converter to {advised or multiple}, or resize the "
        "images."
    )
    for side in (height, width):
        if isinstance(side, int):
            if side % multiple:
                error = ValueError(message)
                error._keras_call_info_injected = True  # Keras then adds nothing to the sentence
                raise error
        elif side is not None and keras.config.backend() == "tensorflow":
            import tensorflow as tf

            # Else a convolution would silently leave out the last rows or columns.
            tf.debugging.assert_equal(side % multiple, 0, message=message)
