"""Sizes of images: the preprocessor's `image_size` and the network's `image_shape` agree."""

import numbers


def checked_size(size):
    """`(height, width)` as a tuple of `int`s; one number is for both, `None` stays as it is.

    Raises: ValueError: anything else than one or two whole numbers above 0.
    """
    if size is None:
        return None
    values = tuple(size) if isinstance(size, list | tuple) or hasattr(size, "__len__") else (size,)
    whole = all(isinstance(v, numbers.Integral) and not isinstance(v, bool) for v in values)
    if len(values) in (1, 2) and whole and min(values) > 0:
        return int(values[0]), int(values[-1])
    hint = ""
    if len(values) == 3 and values[-1] == 3:
        hint = " Leave out the channels."
    raise ValueError(
        "`image_size` must be (height, width), one or two whole numbers above 0. "
        f"Received: {size!r}.{hint}"
    )


def set_sizes(task, image_size=None, image_shape=None):
    """Give a task's preprocessor the size that was asked for, and that of a fixed network.

    Args:
        task: a task.
        image_size: `(height, width)` for the preprocessor, or `None`.
        image_shape: `(height, width, 3)` that the backbone was built for, or `None`.

    Raises: ValueError: the two contradict each other, or there is no preprocessor to set.
    """
    size, fixed = checked_size(image_size), tuple(image_shape or (None, None))[:2]
    if size and any(side not in (None, own) for side, own in zip(fixed, size, strict=True)):
        raise ValueError(
            f"`image_size` and `image_shape` have to agree. Received: image_size={size}, "
            f"image_shape={tuple(image_shape)}. One of them is enough."
        )
    converter = getattr(task.preprocessor, "image_converter", None)
    if converter is None:
        if size:
            raise ValueError("`image_size` is the preprocessor's, and there is no preprocessor.")
        return
    if size:
        converter.image_size = size
    if fixed != (None, None):
        old = converter.image_size or fixed
        converter.image_size = tuple(side or other for side, other in zip(fixed, old, strict=True))
        converter.keep_aspect_ratio = False  # all photos get this one shape


def check_size_of_network(task, shapes):
    """Raise ValueError if the network was built for one size and images have another.

    Args: task: a task. shapes: `(h, w, 3)` of images after conversion.
    """
    expected = tuple(task.backbone.input.shape[1:3])
    for shape in shapes:
        if any(e not in (None, s) for e, s in zip(expected, shape[:2], strict=True)):
            height, width = ("any" if side is None else side for side in expected)
            raise ValueError(
                f"The network was built for images of {height} x {width} (height x width), its "
                f"`image_shape`, but the preprocessor makes {shape[0]} x {shape[1]} of this one. "
                f"Set `model.preprocessor.image_size = ({height}, {width})` and "
                "`model.preprocessor.image_converter.keep_aspect_ratio = False`."
            )
