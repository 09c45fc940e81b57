"""Scale and shift by least squares on tensors: the one fit of losses and metrics.

`keras_dpt.maps.alignment` is its counterpart for NumPy arrays.
"""

from keras import ops

# Share of the prediction's largest value squared: below float32's rounding, a spread is that of a
# constant, which fits with any scale and gets none.
_CONSTANT = 1e-12


def aligned(prediction, target, valid):
    """Each prediction times a scale plus a shift, nearest to its target in squares.

    Args:
        prediction, target: `(B, N)` float32.
        valid: `(B, N)` bool: what counts.

    Returns: `(B, N)`; the target's mean where a prediction is constant. Values that are not valid
        mean nothing. Gradients flow through scale and shift; they are 0 where nothing is valid.
    Source: Ranftl et al. 2020 (arXiv 1907.01341), equation 4.
    """
    count = ops.sum(ops.cast(valid, "float32"), axis=1, keepdims=True)
    count = ops.maximum(count, 1.0)

    def centred(x):
        mean = ops.sum(ops.where(valid, x, 0.0), axis=1, keepdims=True) / count
        return mean, ops.where(valid, x - mean, 0.0)

    # Onto about 1 first, so that float32 neither loses nor overflows squares. The result does not
    # depend on it, so it has no gradient.
    largest = ops.max(ops.abs(ops.where(valid, prediction, 0.0)), axis=1, keepdims=True)
    largest = ops.stop_gradient(ops.where(largest > 0, largest, 1.0))
    _, x = centred(prediction / largest)
    mean, y = centred(target)
    spread = ops.sum(x * x, axis=1, keepdims=True)
    varies = spread > _CONSTANT * count
    covariance = ops.sum(x * y, axis=1, keepdims=True)
    scale = ops.where(varies, covariance / ops.where(varies, spread, 1.0), 0.0)
    return scale * x + mean
