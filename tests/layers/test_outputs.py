import keras
import numpy as np
import pytest
from contracts import arrays, check_layer

from keras_dpt.layers.outputs import (
    Clamped,
    InverseAffine,
    RelativeInverseDepth,
    ResizeLike,
    ScaledSigmoid,
)
from keras_dpt.ops.resize import resize_bilinear


def maps(height, width, channels=6):
    return np.random.default_rng(0).normal(size=(2, height, width, channels)).astype("float32")


def test_inverse_affine_contract(tmp_path):
    batches = [(np.abs(maps(4, 6, 1)),), (np.abs(maps(3, 5, 1)),)]
    layer = InverseAffine(0.25, 0.5)
    for policy in ("mixed_bfloat16", "mixed_float16"):
        # Metres are float32 under any policy.
        half = InverseAffine(0.25, 0.5, dtype=policy)
        assert keras.backend.standardize_dtype(half(batches[0][0]).dtype) == "float32"
    check_layer(layer, batches, tmp_path)


@pytest.mark.parametrize(
    "scale, shift, x, metres",
    [
        (0.25, 0.5, 0, 2),
        (0.25, 0.5, 6, 0.5),
        (0.00006016, 0.00579, 2000, 1 / (0.12032 + 0.00579)),  # KITTI
        (0.000305, 0.1378, 1000, 1 / (0.305 + 0.1378)),  # NYU
        (1, -5, 3, 1e8),  # below zero, infinitely far
    ],
)
def test_inverse_affine_by_hand(scale, shift, x, metres):
    result = InverseAffine(scale, shift)(np.array([[x]], "float32"))
    np.testing.assert_allclose(arrays(result), [[metres]], rtol=1e-6)


@pytest.mark.parametrize("layer", [ScaledSigmoid(20), Clamped(0.5, 10, 0.001)])
def test_metres_of_other_heads(layer, tmp_path):
    batches = [(maps(4, 6, 1),), (maps(3, 5, 1),)]
    check_layer(layer, batches, tmp_path)


def test_scaled_sigmoid_by_hand():
    values = arrays(ScaledSigmoid(80)(np.array([[-1e3, 0.0, np.log(3), 1e3]], "float32")))
    np.testing.assert_allclose(values, [[0, 40, 60, 80]], rtol=1e-6)


def test_clamped_by_hand():
    values = arrays(Clamped(0.01, 10, 0.001)(np.array([[0.0, 2.0, 50.0]], "float32")))
    np.testing.assert_allclose(values, [[0.01, 2.001, 10]], rtol=1e-6)


@pytest.mark.parametrize(
    "layer, kind, unit, bounds, activation",
    [
        (RelativeInverseDepth(), "relative_inverse_depth", None, (0, np.inf), "relu"),
        (InverseAffine(0.25, 0.5), "metric_depth", "m", (0, 2), "relu"),
        (ScaledSigmoid(20), "metric_depth", "m", (0, 20), None),
        (Clamped(0.001, 10), "metric_depth", "m", (0.001, 10), "relu"),
    ],
)
def test_what_the_output_is(layer, kind, unit, bounds, activation):
    assert (layer.kind, layer.unit, layer.range) == (kind, unit, bounds)
    assert layer.head_activation == activation
    values = np.array([0.5, 2.0])
    inverse = layer.to_inverse_depth(values)
    np.testing.assert_allclose(inverse, values if unit is None else [2, 0.5])
    np.testing.assert_allclose(layer.from_inverse_depth(inverse), values)


@pytest.mark.parametrize(
    ("scale", "shift", "farthest"), [(0.25, 0.0, 1e8), (0.25, -1.0, 1e8), (-0.1, 0.5, 1e8)]
)
def test_where_nothing_bounds_the_metres(scale, shift, farthest):
    assert InverseAffine(scale, shift).range == (0, farthest)


def test_no_depth_is_nearer_than_ten_nanometres():
    layer, values = ScaledSigmoid(20), np.array([0.0, -1.0, 1e-9, 4.0])
    for convert in (layer.to_inverse_depth, layer.from_inverse_depth):
        np.testing.assert_allclose(convert(values), [1e8, 1e8, 1e8, 0.25])


def test_resize_like(tmp_path):
    layer, x, like = ResizeLike(), maps(3, 5), maps(7, 6, 2)
    expected = arrays(resize_bilinear(x, (7, 6), align_corners=False))
    np.testing.assert_array_equal(arrays(layer(x, like)), expected)
    check_layer(layer, [(x, like), (maps(4, 6), maps(8, 9, 2))], tmp_path)


def test_relative_depth_is_float32_and_as_it_was(tmp_path):
    x = maps(3, 5, 1)
    np.testing.assert_array_equal(arrays(RelativeInverseDepth()(x)), x)
    check_layer(RelativeInverseDepth(), [(x,), (maps(4, 6, 1),)], tmp_path)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: InverseAffine(float("nan"), 1), "`scale` must be a finite number"),
        (lambda: ScaledSigmoid(0), "`max_depth` must be a finite number above 0. Received: 0"),
        (lambda: ScaledSigmoid(None), "`max_depth` must be"),
        (lambda: Clamped(3, 2), "below `max_depth`"),
        (lambda: Clamped(2, 2), "below `max_depth`"),
        (lambda: Clamped(-1, 2), "`min_depth` must be at least 0"),
        (lambda: Clamped(-2, -1), "`max_depth` must be a finite number above 0. Received: -1"),
        (lambda: Clamped(0, 2, float("inf")), "`offset` must be a finite number. Received: inf"),
        (lambda: InverseAffine(1, None), "`shift` must be a finite number. Received: None"),
        (lambda: InverseAffine(True, 1), "`scale` must be a finite number. Received: True"),
    ],
)
def test_numbers_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_relative_depth_is_float32_whatever_keras_computes_in():
    layer, usual = RelativeInverseDepth(), keras.config.floatx()
    keras.config.set_floatx("float16")
    try:
        result = layer(maps(3, 5, 1).astype("float16"))
    finally:
        keras.config.set_floatx(usual)
    assert keras.backend.standardize_dtype(result.dtype) == "float32"
