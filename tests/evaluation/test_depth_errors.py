"""The float64 formulas against numbers by hand and independent libraries."""

import numpy as np
import pytest

from keras_dpt.errors import DepthError
from keras_dpt.evaluation.depth_errors import align, depth_errors, disparity_errors, whdr


def random_pair(seed=0, size=1000):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.5, 9, size)
    return truth * rng.lognormal(0.05, 0.3, size), truth


def test_by_hand():
    # 2 m seen as 1, 4 m as 5 (a factor of 1.25 exactly, which is not below it).
    errors = depth_errors([1.0, 5.0], [2.0, 4.0])
    g = np.array([-np.log(2), np.log(1.25)])
    expected = {
        "abs_rel": 0.375,
        "sq_rel": 0.375,
        "rmse": 1.0,
        "rmse_log": np.sqrt((g**2).mean()),
        "log10": (np.log10(2) + np.log10(1.25)) / 2,
        "silog": 100 * (np.log(1.25) + np.log(2)) / 2,
        "log_bias": g.mean(),
        "d1": 0.0,
        "d1_above": 1.0,
        "d2": 0.5,
        "d2_above": 0.5,
        "d3": 0.5,
        "d3_above": 0.5,
    }
    assert errors == pytest.approx(expected, abs=1e-12)


def test_agrees_with_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    p, t = random_pair()
    errors = depth_errors(p, t)
    ratio = np.maximum(p / t, t / p)
    expected = {
        "abs_rel": sklearn.mean_absolute_percentage_error(t, p),
        "rmse": sklearn.root_mean_squared_error(t, p),
        "rmse_log": sklearn.root_mean_squared_error(np.log(t), np.log(p)),
        "log10": sklearn.mean_absolute_error(np.log10(t), np.log10(p)),
        "sq_rel": sklearn.mean_squared_error(t, p, sample_weight=1 / t) * np.mean(1 / t),
        "d1": sklearn.accuracy_score(np.ones(t.size), ratio < 1.25),
    }
    assert {name: errors[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_agrees_with_torchmetrics():
    torchmetrics = pytest.importorskip("torchmetrics.functional")
    import torch

    p, t = random_pair(1)
    p, t = torch.tensor(p), torch.tensor(t)
    errors = depth_errors(p.numpy(), t.numpy())
    absolute = torchmetrics.mean_absolute_percentage_error(p, t)
    squared = torchmetrics.mean_squared_error(p, t, squared=False)
    assert errors["abs_rel"] == pytest.approx(float(absolute), abs=1e-6)
    assert errors["rmse"] == pytest.approx(float(squared), abs=1e-6)


def test_silog_is_blind_to_scale():
    p, t = random_pair(2)
    assert depth_errors(7 * p, t)["silog"] == pytest.approx(depth_errors(p, t)["silog"], abs=1e-9)
    assert depth_errors(7 * t, t)["silog"] == pytest.approx(0, abs=1e-9)


def test_least_squares_equals_numpy():
    rng = np.random.default_rng(3)
    x = rng.uniform(0, 9, 200)
    y = 0.3 * x + 2 + rng.normal(0, 0.1, 200)
    fitted = align(x, y, "least_squares")
    assert [fitted.scale, fitted.shift] == pytest.approx(np.polyfit(x, y, 1), abs=1e-6)
    np.testing.assert_allclose(fitted.apply(x), fitted.scale * x + fitted.shift)
    assert fitted.apply(x.astype("float32")).dtype == "float64"


def test_constant_prediction_becomes_the_mean():
    for value in (0.0, 5.0):
        fitted = align(np.full(3, value), np.array([1.0, 2.0, 6.0]), "least_squares")
        assert fitted.constant
        np.testing.assert_allclose(fitted.apply([value]), 3.0)


def test_median_scale_by_hand():
    fitted = align([2.0, 8.0, 1.0], [4.0, 4.0, 1.0], "median_scale")
    assert (fitted.scale, fitted.shift, fitted.constant) == (2.0, 0.0, False)
    assert align([0.0, 0.0], [1.0, 2.0], "median_scale").scale == 1.0


def test_disparity_by_hand():
    # Errors 1/8, 1/4, 1/8; standard deviation sqrt(1/8); mean deviation from the median 1/4.
    errors = disparity_errors([0.125, 0.5, 0.875], [0.25, 0.25, 1.0])
    assert errors == pytest.approx({"nrmse": 0.5, "nmae": 2 / 3}, abs=1e-12)
    constant = disparity_errors(np.full(4, 2.5), [1.0, 2.0, 3.0, 4.0])
    assert constant["nrmse"] == pytest.approx(1)


def test_whdr_by_hand():
    prediction = np.array([[1.0, 2.0], [3.0, 1.0]])
    pairs = [
        (0, 1, 0, 0, 1),  # right: 2 is nearer than 1
        (0, 0, 1, 0, 1),  # wrong
        (0, 0, 1, 1, -1),  # equal values, yet one is nearer: wrong
        (0, 0, 1, 1, 0),  # right
    ]
    assert whdr(prediction, pairs) == {"whdr": 0.5}
    assert whdr(prediction, pairs, tolerance=5)["whdr"] == 0.75


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: depth_errors([], []), "not be empty"),
        (lambda: depth_errors([1.0], [1.0, 2.0]), "must match"),
        (lambda: depth_errors([0.0], [1.0]), "above 0"),
        (lambda: depth_errors([np.nan], [1.0]), "above 0"),
        (lambda: disparity_errors([1.0, 2.0], [3.0, 3.0]), "3 everywhere"),
        (lambda: align([1.0], [1.0], "least_squares"), "at least two known values"),
        (lambda: align([1.0], [1.0], "magic"), "'magic'"),
        (lambda: whdr(np.ones((2, 2)), []), "at least one"),
        (lambda: whdr(np.ones((2, 3)), [(0, 0, 2, 0, 1)]), "outside the 2 x 3"),
        (lambda: whdr(np.ones((2, 3)), [(0, 3, 1, 0, 1)]), "outside the 2 x 3"),
        (lambda: whdr(np.ones((2, 3)), [(-1, 0, 1, 0, 1)]), "outside the 2 x 3"),
        (lambda: whdr(np.ones((2, 3)), [(0, 0, 1, -1, 1)]), "outside the 2 x 3"),
        (lambda: whdr(np.ones((2, 3)), [(0, 0, 1, 1)]), r"\(N, 5\).* Received: \(1, 4\)"),
        (lambda: whdr(np.ones((2, 2)), [(0, 0, 1, 0, 2)]), "relation"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(DepthError, match=message):
        call()
