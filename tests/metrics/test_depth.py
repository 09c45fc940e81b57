import keras
import numpy as np
import pytest
from contracts import arrays

import keras_dpt
from keras_dpt.errors import DepthError
from keras_dpt.evaluation.depth_errors import align, depth_errors, whdr
from keras_dpt.metrics import (
    RMSE,
    WHDR,
    AbsRel,
    Delta1,
    Delta2,
    Delta3,
    Log10,
    RMSELog,
    SILog,
    SqRel,
)

METRICS = [AbsRel, SqRel, RMSE, RMSELog, Log10, SILog, Delta1, Delta2, Delta3]


def measured(metric, *batches):
    """The result of a metric after batches of `(truth, prediction, sample_weight)`."""
    for truth, prediction, *weight in batches:
        metric.update_state(truth, prediction, *weight)
    return float(arrays(metric.result()))


def random_depth(seed=0, batch=3, height=9, width=13):
    """Truth with holes and a prediction, metres, and where the truth is known."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.5, 9, (batch, height, width)).astype("float32")
    prediction = (truth * rng.lognormal(0, 0.3, truth.shape)).astype("float32")
    known = rng.uniform(size=truth.shape) < 0.7
    return np.where(known, truth, 0), prediction, known


# Two pixels, metres: 2 seen as 1 (factor 2), 4 seen as 5 (factor 1.25 exactly).
BY_HAND = {
    AbsRel: (1 / 2 + 1 / 4) / 2,
    SqRel: (1 / 2 + 1 / 4) / 2,
    RMSE: 1.0,
    RMSELog: np.sqrt((np.log(2) ** 2 + np.log(1.25) ** 2) / 2),
    Log10: (np.log10(2) + np.log10(1.25)) / 2,
    SILog: 100 * (np.log(1.25) + np.log(2)) / 2,
    Delta1: 0.0,
    Delta2: 0.5,
    Delta3: 0.5,
}


@pytest.mark.parametrize("metric", METRICS)
def test_by_hand(metric):
    truth, prediction = np.array([[[2.0, 4.0]]]), np.array([[[1.0, 5.0]]])
    assert measured(metric(), (truth, prediction)) == pytest.approx(BY_HAND[metric], abs=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_equals_float64_formulas(metric):
    truth, prediction, known = random_depth()
    expected = [depth_errors(p[k], t[k]) for t, p, k in zip(truth, prediction, known, strict=True)]
    expected = np.mean([values[metric.default_name] for values in expected])
    # Known pixels may be marked by the truth, or by sample weights above any nonsense.
    nonsense = np.where(known, truth, 1e9).astype("float32")
    weight = known.astype("float32")[..., None]
    for batch in (
        (truth, prediction),
        (nonsense, prediction, weight),
        (truth[..., None], prediction[..., None]),
    ):
        assert measured(metric(), batch) == pytest.approx(expected, rel=2e-6, abs=1e-6)


@pytest.mark.parametrize("max_depth", [None, 6.0])
@pytest.mark.parametrize("metric", METRICS)
def test_aligned_equals_float64_formulas(metric, max_depth):
    truth, prediction, known = random_depth(1)
    inverse = np.divide(1, truth, where=known, out=np.zeros_like(truth))
    relative = (40 / prediction + 7).astype("float32")
    expected = []
    for t, p, k in zip(inverse, relative, known, strict=True):
        aligned = align(p[k], t[k], "least_squares").apply(p[k].astype("float64"))
        aligned = np.maximum(aligned, 1 / max_depth if max_depth else t[k].min())
        kept = t[k] > 1 / max_depth if max_depth else np.ones(k.sum(), bool)
        errors = depth_errors(1 / aligned[kept], 1 / t[k][kept].astype("float64"))
        expected.append(errors[metric.default_name])
    value = measured(metric(aligned=True, max_depth=max_depth), (inverse, relative))
    assert value == pytest.approx(np.mean(expected), rel=1e-5, abs=2e-6)


def test_mean_is_over_images_not_batches():
    truth, prediction, _ = random_depth(2)
    first, rest = np.array([1, 0, 0]), np.array([0, 1, 1])
    whole = measured(AbsRel(), (truth, prediction))
    parts = measured(AbsRel(), (truth, prediction, first), (truth, prediction, rest))
    assert parts == pytest.approx(whole, rel=1e-6)
    weighted = measured(AbsRel(), (truth, prediction, first))
    alone = np.where(first[:, None, None] > 0, truth, 0)
    assert weighted == pytest.approx(measured(AbsRel(), (alone, prediction)), rel=1e-6)
    assert weighted != pytest.approx(whole, rel=1e-3)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("metric", METRICS)
def test_holes_and_degenerate_predictions_give_numbers(metric, aligned):
    truth, prediction, _ = random_depth(3)
    alone = measured(metric(aligned=aligned), (truth, prediction))
    blank = np.stack([np.zeros_like(truth[0]), *np.full_like(truth[1:], np.nan)])
    counted = measured(metric(aligned=aligned), (truth, prediction), (blank, prediction))
    assert counted == pytest.approx(alone, rel=1e-6)
    assert np.isnan(measured(metric(aligned=aligned), (blank, prediction)))
    for constant in (0.0, 3.0):
        value = measured(metric(aligned=aligned), (truth, np.full_like(truth, constant)))
        assert np.isfinite(value)
    holes_are_nan = np.where(truth > 0, truth, np.nan)
    assert measured(metric(aligned=aligned), (holes_are_nan, prediction)) == pytest.approx(alone)


def test_constant_prediction_is_aligned_to_the_mean():
    truth, _, known = random_depth(7)
    value = measured(AbsRel(aligned=True), (truth, np.full_like(truth, 8)))
    errors = [np.abs(t[k] / t[k].mean() - 1).mean() for t, k in zip(truth, known, strict=True)]
    assert value == pytest.approx(np.mean(errors), rel=1e-5)


def test_agrees_with_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    truth, prediction, _ = random_depth(4)
    truth[1:] = 0
    t, p = truth[truth > 0], prediction[truth > 0]
    pairs = {
        AbsRel: sklearn.mean_absolute_percentage_error(t, p),
        RMSE: sklearn.root_mean_squared_error(t, p),
        RMSELog: sklearn.root_mean_squared_error(np.log(t), np.log(p)),
        Log10: sklearn.mean_absolute_error(np.log10(t), np.log10(p)),
    }
    for metric, expected in pairs.items():
        assert measured(metric(), (truth, prediction)) == pytest.approx(expected, rel=1e-6)


def test_in_fit():
    inputs = keras.Input((None, None, 1))
    model = keras.Model(inputs, keras.layers.Rescaling(1.0)(inputs))
    model.compile(loss="mse", metrics=[AbsRel(), Delta1(aligned=True)])
    truth, prediction, _ = random_depth(5)
    logs = model.test_on_batch(prediction[..., None], truth[..., None], return_dict=True)
    assert logs["abs_rel"] == pytest.approx(measured(AbsRel(), (truth, prediction)), rel=1e-5)
    expected = measured(Delta1(aligned=True), (truth, prediction))
    assert logs["d1"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_config(metric):
    metric = metric(aligned=True, min_depth=0.1, max_depth=80.0, name="other")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert again.get_config() == metric.get_config()
    assert (again.name, again.max_depth) == ("other", 80.0)


def test_refusals():
    with pytest.raises(DepthError, match="min_depth"):
        AbsRel(min_depth=10.0, max_depth=1.0)
    with pytest.raises(DepthError, match=r"\(4, 4\) does not match prediction size \(8, 8\)"):
        AbsRel().update_state(np.ones((1, 4, 4)), np.ones((1, 8, 8)))
    assert issubclass(keras_dpt.DepthError, ValueError)


@pytest.mark.parametrize("metric", [Delta1, Delta2, Delta3])
def test_complements_are_the_other_pixels(metric):
    truth, prediction, _ = random_depth(8)
    share = measured(metric(), (truth, prediction))
    other = metric(complement=True)
    assert measured(other, (truth, prediction)) == pytest.approx(1 - share, abs=1e-6)
    assert 0 < share < 1 and other.name == f"{metric.default_name}_complement"
    assert metric.from_config(other.get_config()).complement


@pytest.mark.parametrize("tolerance", [0.0, 0.5])
def test_disagreement_with_people(tolerance):
    rng = np.random.default_rng(0)
    prediction = rng.integers(0, 4, (3, 6, 7)).astype("float32")  # ties are frequent
    points = [rng.integers(0, side, (3, 40)) for side in (6, 7, 6, 7)]
    pairs = np.stack([*points, rng.integers(-1, 2, (3, 40))], axis=-1)
    expected = np.mean(
        [whdr(p, q, tolerance)["whdr"] for p, q in zip(prediction, pairs, strict=True)]
    )
    assert measured(WHDR(tolerance), (pairs, prediction[..., None])) == pytest.approx(expected)
    filled = np.concatenate([pairs, np.full((3, 5, 5), 9)], axis=1) % [6, 7, 6, 7, 10]
    filled[:, :40] = pairs
    assert measured(WHDR(tolerance), (filled, prediction)) == pytest.approx(expected)
    weighed = measured(WHDR(tolerance), (pairs, prediction, np.array([0, 1, 0])))
    assert weighed == pytest.approx(whdr(prediction[1], pairs[1], tolerance)["whdr"])
    assert WHDR.from_config(WHDR(tolerance).get_config()).tolerance == tolerance


def test_ordinal_pairs_by_hand():
    prediction = np.array([[[3.0, 1.0]]])
    pairs = np.array([[[0, 0, 0, 1, 1], [0, 1, 0, 0, 1], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]]])
    assert measured(WHDR(), (pairs, prediction)) == 0.5  # the second and the third are wrong
