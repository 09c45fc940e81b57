"""Labels and sample weights in the one shape `(B, H, W)`."""

from keras import ops


def without_channel(labels):
    """`(B, H, W)` of labels `(B, H, W)` or `(B, H, W, 1)`."""
    return ops.squeeze(labels, axis=-1) if len(labels.shape) == 4 else labels


def per_pixel(sample_weight, labels):
    """Sample weights as float32 of the shape of `labels`.

    Args:
        sample_weight: one per image, `(B,)` or `(B, 1)`, or per pixel, `(B, H, W)` or
            `(B, H, W, 1)`.
        labels: `(B, H, W)`.
    """
    weight = ops.cast(ops.convert_to_tensor(sample_weight), "float32")
    if len(weight.shape) >= 3:
        return without_channel(weight)
    return ops.broadcast_to(ops.reshape(weight, (-1, 1, 1)), ops.shape(labels))
