"""Labels and sample weights in the one shape `(B, H, W)`."""

from keras import ops


def without_channel(maps):
    """`(B, H, W)` of maps `(B, H, W)` or `(B, H, W, 1)`."""
    return ops.squeeze(maps, axis=-1) if len(maps.shape) == 4 else maps


def of_known_rank(maps):
    """Maps as they are; `(B, H, W)` where TensorFlow does not know how many axes they have.

    It forgets that in a model that has been given `(B, H, W)` and `(B, H, W, 1)`.
    """
    if getattr(getattr(maps, "shape", None), "rank", 0) is not None:
        return maps
    import tensorflow as tf

    return tf.ensure_shape(tf.reshape(maps, tf.shape(maps)[:3]), (None, None, None))


def class_ids(labels, ignore_index):
    """Class ids `(B, H, W)`, int32, of labels in any form.

    Args:
        labels: ids `(B, H, W)` or `(B, H, W, 1)`, or one-hot `(B, H, W, C)`.
        ignore_index: the id of pixels that are 0 for every class of one-hot labels.
    """
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) == 4 and labels.shape[-1] not in (1, None):
        labels = ops.cast(labels, "float32")
        ids = ops.cast(ops.argmax(labels, axis=-1), "int32")
        return ops.where(ops.max(labels, axis=-1) > 0, ids, ignore_index)
    return ops.cast(without_channel(labels), "int32")


def is_per_image(sample_weight):
    """Whether weights are one per image: `(B,)`, `(B, 1)`, `(B, 1, 1)` or `(B, 1, 1, 1)`."""
    shape = tuple(sample_weight.shape)
    return len(shape) <= 2 or all(side == 1 for side in shape[1:])


def per_pixel(sample_weight, labels):
    """Sample weights as float32 of the shape of `labels`.

    Args:
        sample_weight: one per image, `(B,)` or with axes of 1, or whatever can be broadcast to
            `(B, H, W)` or `(B, H, W, 1)`.
        labels: `(B, H, W)`.
    """
    weight = ops.cast(ops.convert_to_tensor(sample_weight), "float32")
    if is_per_image(weight):
        weight = ops.reshape(weight, (-1, 1, 1))
    return ops.broadcast_to(without_channel(weight), ops.shape(labels))
