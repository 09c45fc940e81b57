import math

import keras
import numpy as np
import pytest
from contracts import differentiable
from keras import ops

from keras_dpt.ops.gelu import gelu


def reference(x):
    return np.array([v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in x])


def test_exact_form():
    x = np.linspace(-8, 8, 101).astype("float32")
    # The approximation by tanh is off by up to 5e-4.
    np.testing.assert_allclose(ops.convert_to_numpy(gelu(x)), reference(x), rtol=0, atol=1e-6)


def test_gradient():
    x = np.linspace(-6, 6, 41).astype("float32")
    _, gradient = differentiable(lambda x: ops.sum(gelu(x)))(x)
    step = 1e-5
    x = x.astype("float64")
    expected = (reference(x + step) - reference(x - step)) / (2 * step)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_keeps_half_precision(dtype):
    x = np.linspace(-4, 4, 17).astype("float32")
    y = gelu(ops.cast(ops.convert_to_tensor(x), dtype))
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    y = ops.convert_to_numpy(ops.cast(y, "float32"))
    np.testing.assert_allclose(y, reference(x), atol=2e-2)
