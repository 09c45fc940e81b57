import numpy as np
import pytest

from keras_dpt.errors import KerasDPTError
from keras_dpt.maps.alignment import ALIGNMENT_METHODS, align_scale_shift

SCALE, SHIFT = 0.0123, 0.045


@pytest.fixture
def scene():
    """Prediction (40, 50) of the size DPT answers, and the inverse depth that it stands for."""
    prediction = np.random.default_rng(0).uniform(50, 2500, (40, 50))
    return prediction, SCALE * prediction + SHIFT


def with_outliers(target, share, seed=1):
    random = np.random.default_rng(seed)
    wrong = random.random(target.shape) < share
    return np.where(wrong, random.uniform(0.1, 3 * target.max(), target.shape), target)


@pytest.mark.parametrize("method", ALIGNMENT_METHODS)
@pytest.mark.parametrize("scale, shift", [(SCALE, SHIFT), (3e-5, 1e-9), (50.0, 1e4)])
def test_recovers_scale_and_shift(scene, method, scale, shift):
    prediction, _ = scene
    found = align_scale_shift(prediction, scale * prediction + shift, method=method)
    assert all(type(number) is float for number in found)
    np.testing.assert_allclose(found, (scale, shift), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("method", ALIGNMENT_METHODS)
def test_two_float32_points_are_enough(method):
    prediction = np.array([100, 300], np.float32)
    found = align_scale_shift(prediction, [0.5, 0.1 + 0.8], method=method)
    np.testing.assert_allclose(found, (0.002, 0.3), rtol=1e-9)


def test_least_squares_by_hand():
    # Means 1 and 3; sum of dx dy = 1 * 2 + 0 + 1 * 1 = 3, of dx dx = 2.
    assert align_scale_shift([0, 1, 2], [1, 4, 4]) == (1.5, 1.5)


def test_least_squares_has_no_residual_slope(scene):
    prediction, target = scene
    noisy = target + np.random.default_rng(2).normal(0, 0.5, target.shape)
    scale, shift = align_scale_shift(prediction, noisy, noisy > 0)
    expected = np.polyfit(prediction[noisy > 0], noisy[noisy > 0], 1)
    np.testing.assert_allclose((scale, shift), expected, rtol=1e-9)


def test_median_by_hand():
    # Medians 2 and 5; mean absolute deviations (2 + 1 + 0 + 1 + 6) / 5 = 2 and
    # (4 + 2 + 0 + 1 + 13) / 5 = 4: scale 2, shift 5 - 2 * 2.
    assert align_scale_shift([0, 1, 2, 3, 8], [1, 3, 5, 6, 18], method="median") == (2.0, 1.0)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.45])
def test_ransac_ignores_outliers(scene, share):
    prediction, target = scene
    found = align_scale_shift(prediction, with_outliers(target, share), method="ransac")
    np.testing.assert_allclose(found, (SCALE, SHIFT), rtol=1e-6)
    plain = align_scale_shift(prediction, with_outliers(target, share))
    assert abs(plain[0] / SCALE - 1) > 0.02


def test_ransac_with_noise_and_outliers(scene):
    prediction, target = scene
    noisy = target + np.random.default_rng(3).normal(0, 0.1, target.shape)
    mask = noisy > 0
    scale, shift = align_scale_shift(prediction, with_outliers(noisy, 0.3), mask, "ransac")
    assert abs(scale / SCALE - 1) < 0.005 and abs(shift - SHIFT) < 0.05


def test_ransac_among_few_points():
    prediction = np.array([1.0, 2, 3, 4, 5, 6, 7, 8])
    target = 2 * prediction + 1
    target[[2, 6]] = 100, 0.5
    np.testing.assert_allclose(align_scale_shift(prediction, target, method="ransac"), (2, 1))


def test_ransac_leaves_out_what_is_near_a_line_of_small_values():
    prediction = np.arange(1.0, 9)
    target = 1e-3 * prediction
    target[2] += 5e-9  # far beyond rounding
    scale, _ = align_scale_shift(prediction, target, method="ransac")
    np.testing.assert_allclose(scale, 1e-3, rtol=1e-9)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("others", [1, 300, 20_000])
def test_ransac_when_most_predictions_are_equal(seed, others):
    random = np.random.default_rng(seed)
    prediction = np.full(50_000, random.uniform(1, 9))
    prediction[random.permutation(50_000)[:others]] = random.uniform(10, 20)
    scale, shift = random.uniform(0.1, 1, 2)
    found = align_scale_shift(prediction, scale * prediction + shift, method="ransac", seed=seed)
    np.testing.assert_allclose(found, (scale, shift), rtol=1e-7)


def test_ransac_depends_on_the_seed_alone(scene):
    prediction, target = scene
    noisy = np.maximum(target + np.random.default_rng(4).normal(0, 2, target.shape), 0.01)
    first = align_scale_shift(prediction, noisy, method="ransac", seed=5)
    assert align_scale_shift(prediction, noisy, method="ransac", seed=5) == first
    assert align_scale_shift(prediction, noisy, method="ransac", seed=6) != first


def test_median_feels_a_gross_outlier_less_than_least_squares(scene):
    prediction, target = scene
    target.flat[prediction.argmax()] *= 30
    errors = {}
    for method in ALIGNMENT_METHODS:
        scale, shift = align_scale_shift(prediction, target, method=method)
        errors[method] = abs(scale / SCALE - 1)
    assert errors["ransac"] < 1e-6 < errors["median"] < 0.7 * errors["least_squares"]


@pytest.mark.parametrize("method", ALIGNMENT_METHODS)
def test_invalid_points_never_count(scene, method):
    prediction, target = scene
    expected = align_scale_shift(prediction, target, method=method)
    target[0, :5] = 0, -3, np.nan, np.inf, -np.inf
    prediction[1, :2] = np.nan, np.inf
    mask = np.ones(target.shape, np.uint8)
    mask[2] = 0
    target[2] = 1e6
    np.testing.assert_allclose(
        align_scale_shift(prediction, target, mask, method), expected, rtol=1e-9
    )


@pytest.mark.parametrize("method", ALIGNMENT_METHODS)
@pytest.mark.parametrize(
    "prediction, target, mask, says",
    [
        ([1, 2, 3], [0, 0, 0], None, "Received: 3, of which 0 can"),
        ([1, 2, 3], [1, 0, np.nan], None, "Received: 3, of which 1 can"),
        ([1, 2, 3], [1, 2, 3], [True, False, False], "Received: 3, of which 1 can"),
        ([7, 7, 8], [1, 2, 0], None, "7 at all 2 valid points"),
        ([1, 2, 3], [1, 2], None, "(2,)"),
        ([1, 2, 3], [1, 2, 3], [True], "mask is (1,)"),
    ],
)
def test_errors(prediction, target, mask, says, method):
    with pytest.raises(ValueError) as caught:
        align_scale_shift(prediction, target, mask, method)
    assert isinstance(caught.value, KerasDPTError)
    assert says in str(caught.value)


def test_unknown_method():
    with pytest.raises(ValueError, match="ransac. Received: 'lsq'"):
        align_scale_shift([1, 2], [1, 2], method="lsq")
