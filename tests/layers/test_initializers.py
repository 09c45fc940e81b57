import keras
import numpy as np
import pytest
from keras import ops

from keras_dpt.layers.initializers import (
    HostTruncatedNormal,
    HostVarianceScaling,
    decoder_initializer,
    default_initializer,
)


@pytest.mark.parametrize(
    "ours, keras_own",
    [
        (default_initializer(), keras.initializers.GlorotUniform(1)),
        (decoder_initializer(), keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform", 1)),
        (HostTruncatedNormal(stddev=0.02), keras.initializers.TruncatedNormal(0, 0.02, seed=1)),
    ],
    ids=["default", "decoder", "truncated"],
)
def test_distribution_is_that_of_keras(ours, keras_own):
    shape = (3, 3, 64, 32)
    a, b = (ops.convert_to_numpy(x(shape)) for x in (ours, keras_own))
    assert a.dtype == "float32" and a.shape == shape
    # 18,432 draws: means within four standard errors, spreads and extremes within a few per cent.
    assert abs(a.mean()) < 4 * b.std() / a.size**0.5
    assert a.std() == pytest.approx(b.std(), rel=0.03)
    assert np.abs(a).max() == pytest.approx(np.abs(b).max(), rel=0.03)


def test_same_seed_same_values():
    for make in (HostVarianceScaling, HostTruncatedNormal):
        one, two, other = make(seed=1), make.from_config(make(seed=1).get_config()), make(seed=2)
        np.testing.assert_array_equal(one((4, 5)), two((4, 5)))
        assert np.any(ops.convert_to_numpy(one((4, 5))) != ops.convert_to_numpy(other((4, 5))))


def test_global_seed_is_obeyed():
    keras.utils.set_random_seed(3)
    one = default_initializer()((4, 5))
    keras.utils.set_random_seed(3)
    np.testing.assert_array_equal(default_initializer()((4, 5)), one)


def test_half_precision():
    assert keras.backend.standardize_dtype(default_initializer()((4, 5), "bfloat16").dtype) == (
        "bfloat16"
    )
