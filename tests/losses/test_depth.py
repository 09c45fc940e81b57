import functools
import math

import keras
import numpy as np
import pytest
from contracts import differentiable
from keras import ops

from keras_dpt.losses import GradientMatchingLoss, ScaleInvariantLogLoss, ScaleShiftInvariantLoss

from .reference import gradient_matching, scale_invariant_log, scale_shift_invariant

# Name: class, arguments, the formula once more.
LOSSES = {
    "ssi": (ScaleShiftInvariantLoss, {}, scale_shift_invariant),
    "ssi_mse": (
        ScaleShiftInvariantLoss,
        {"alignment": "least_squares", "trim": 0.0},
        scale_shift_invariant,
    ),
    "gradient": (GradientMatchingLoss, {}, gradient_matching),
    "silog": (ScaleInvariantLogLoss, {}, scale_invariant_log),
    "silog_root": (
        ScaleInvariantLogLoss,
        {"variance_focus": 0.85, "root": True, "weight": 10.0},
        scale_invariant_log,
    ),
}
SHAPE = (2, 12, 10, 1)  # odd enough for four scales
NEVER_VALID = (0.0, -3.0, math.nan, math.inf, -math.inf)


def make(name, **options):
    loss, defaults, _ = LOSSES[name]
    return loss(**defaults | options)


def reference(name, target, prediction, **options):
    _, defaults, formula = LOSSES[name]
    return formula(target, prediction, **defaults | options)


@functools.cache
def value_and_gradient(name, **options):
    """Function of target, prediction, weight to the loss and its gradient by the prediction."""
    loss = make(name, **options)
    both = differentiable(lambda prediction, target, *weight: loss(target, prediction, *weight))
    return lambda target, prediction, *weight: both(prediction, target, *weight)


def maps(seed=0, low=1.0, high=9.0):
    return np.random.default_rng(seed).uniform(low, high, SHAPE).astype("float32")


def with_valid(target, share):
    """`target` with all but a share of its pixels made invalid, in every way that there is."""
    count = 1 if share == "one" else round(share * target[0].size)
    target = target.copy()
    for image in target:
        flat = image.reshape(-1)
        invalid = np.random.default_rng(5).permutation(flat.size)[count:]
        flat[invalid] = np.resize(NEVER_VALID, len(invalid))
    return target


@pytest.mark.parametrize("share", [0, "one", 0.01, 0.4, 1])
@pytest.mark.parametrize("name", LOSSES)
def test_formula(name, share):
    target, prediction = with_valid(maps(0), share), maps(1, 0.1, 5)
    value, gradient = value_and_gradient(name)(target, prediction)
    assert value == pytest.approx(reference(name, target, prediction), rel=1e-4, abs=1e-6)
    assert np.isfinite(gradient).all()
    invalid = ~(np.isfinite(target) & (np.nan_to_num(target) > 0))
    assert (gradient[invalid] == 0).all()
    # One pixel has neither scale nor neighbours; log depth knows its value all the same.
    if share not in (0, "one", 0.01) or (name.startswith("silog") and share != 0):
        assert np.any(gradient)


@pytest.mark.parametrize(
    "name, options",
    [
        ("ssi", {"trim": 0.0}),
        ("ssi", {"trim": 0.5, "gradient_weight": 2.0, "scales": 2}),
        ("ssi", {"gradient_weight": 0.0}),
        ("ssi_mse", {"trim": 0.3, "scales": 3}),
        ("ssi_mse", {"gradient_weight": 0.0}),
        ("gradient", {"weight": 2.0, "scales": 1}),
        ("silog", {"variance_focus": 1.0}),
        ("silog", {"variance_focus": 0.0}),
        ("silog_root", {"variance_focus": 0.5, "weight": 3.0}),
    ],
)
def test_options(name, options):
    target, prediction = with_valid(maps(0), 0.7), maps(1)
    value, _ = value_and_gradient(name, **options)(target, prediction)
    assert value == pytest.approx(reference(name, target, prediction, **options), rel=1e-4)
    loss = make(name, **options)
    config = loss.get_config()
    assert options.items() <= config.items()
    assert type(loss).from_config(config).get_config() == config


@pytest.mark.parametrize(
    "loss, name",
    [
        (ScaleShiftInvariantLoss, "scale_shift_invariant"),
        (GradientMatchingLoss, "gradient_matching"),
        (ScaleInvariantLogLoss, "scale_invariant_log"),
    ],
)
def test_names(loss, name):
    assert loss().name == name and loss(name="other").name == "other"


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_the_slope(name):
    target, prediction = with_valid(maps(0), 0.6), maps(1)
    _, gradient = value_and_gradient(name)(target, prediction)
    direction = np.random.default_rng(3).normal(size=SHAPE)
    step = 1e-6
    ahead, behind = (
        reference(name, target, prediction.astype("float64") + sign * step * direction)
        for sign in (1, -1)
    )
    slope = (ahead - behind) / (2 * step)
    assert np.sum(gradient.astype("float64") * direction) == pytest.approx(slope, rel=1e-3)


# --- What must never break training


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    "target, prediction",
    [
        (np.full(SHAPE, 3, "float32"), maps(1)),
        (maps(0), np.full(SHAPE, 3, "float32")),
        (np.full(SHAPE, 3, "float32"), np.full(SHAPE, 3, "float32")),
        (maps(0), np.zeros(SHAPE, "float32")),
        (maps(0), maps(0)),
        (maps(0) * 1e4, maps(1) * 1e-4),
        (maps(0), maps(1) * 1e-8),
        (with_valid(maps(0), 0), np.zeros(SHAPE, "float32")),
        (with_valid(maps(0), "one"), np.zeros(SHAPE, "float32")),
    ],
    ids=[
        "constant target",
        "constant prediction",
        "both constant",
        "zero prediction",
        "perfect prediction",
        "large and small",
        "nearly zero prediction",
        "nothing valid",
        "one pixel valid",
    ],
)
def test_finite_and_bounded(name, target, prediction):
    value, gradient = value_and_gradient(name)(target, prediction)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", LOSSES)
def test_perfect_prediction_costs_nothing(name):
    value, _ = value_and_gradient(name)(maps(0), maps(0))
    assert value == pytest.approx(0, abs=5e-6)


def test_blind_to_scale_and_shift():
    target, prediction = with_valid(maps(0), 0.7), maps(1)
    value, _ = value_and_gradient("ssi")(target, prediction)
    moved, gradient = value_and_gradient("ssi")(target, 40 * prediction + 7)
    assert moved == pytest.approx(value, rel=1e-4)
    # Hence no gradient along either: training cannot drift that way.
    assert abs(gradient.sum()) < 1e-4 * np.abs(gradient).sum()
    assert abs((gradient * prediction).sum()) < 1e-3 * np.abs(gradient * prediction).sum()


def test_log_loss_is_half_blind_to_scale():
    target, prediction = maps(0), maps(1)
    blind = value_and_gradient("silog", variance_focus=1.0)
    assert blind(target, 3 * prediction)[0] == pytest.approx(blind(target, prediction)[0], rel=1e-4)
    # With lambda 1/2, a factor e alone costs half of the squared error of one.
    assert value_and_gradient("silog")(target, math.e * target)[0] == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_value_of_an_invalid_pixel_never_matters(name):
    evaluate = value_and_gradient(name)
    target, prediction = maps(0), maps(1)
    target[:, 3:7, 2:9] = 0
    expected, expected_gradient = evaluate(target, prediction)
    for value in NEVER_VALID:
        target[:, 3:7, 2:9] = value
        result, gradient = evaluate(target, prediction)
        assert result == expected
        np.testing.assert_array_equal(gradient, expected_gradient)
    prediction[:, 3:7, 2:9] = 1e6  # nor what was predicted there
    result, gradient = evaluate(target, prediction)
    assert result == expected
    np.testing.assert_array_equal(gradient, expected_gradient)


@pytest.mark.parametrize("name", LOSSES)
def test_sample_weight_marks_valid_pixels(name):
    loss = value_and_gradient(name)
    target, prediction = maps(0), maps(1)
    mask = np.random.default_rng(4).uniform(size=SHAPE) < 0.6
    expected, _ = loss(np.where(mask, target, 0), prediction)
    assert expected != pytest.approx(loss(target, prediction)[0], rel=1e-3)
    spoilt = np.where(mask, target, np.nan).astype("float32")
    for weight in (mask.astype("float32"), mask, 5 * mask[..., 0].astype("float32")):
        assert loss(spoilt, prediction, weight)[0] == pytest.approx(expected)


@pytest.mark.parametrize("name", LOSSES)
def test_sample_weight_of_whole_images(name):
    loss = value_and_gradient(name)
    target, prediction = maps(0), maps(1)
    alone = [loss(target[i : i + 1], prediction[i : i + 1])[0] for i in range(2)]
    assert loss(target, prediction)[0] == pytest.approx(np.mean(alone), rel=1e-5)
    weighed, _ = loss(target, prediction, np.array([1, 0], "float32"))
    assert weighed == pytest.approx(alone[0] / 2, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_channel_axis_may_be_missing(name):
    loss = value_and_gradient(name)
    target, prediction = maps(0), maps(1)
    expected, _ = loss(target, prediction)
    assert loss(target[..., 0], prediction)[0] == pytest.approx(expected)
    assert loss(target[..., 0], prediction[..., 0])[0] == pytest.approx(expected)


@pytest.mark.compiles_long
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_predictions(name, dtype):
    target, prediction = maps(0), maps(1)
    result = make(name)(target, ops.cast(prediction, dtype))
    assert keras.backend.standardize_dtype(result.dtype) == "float32"
    expected, _ = value_and_gradient(name)(target, prediction)
    assert float(result) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("name", LOSSES)
def test_targets_of_another_size_are_refused(name):
    with pytest.raises(ValueError, match=r"Targets are \(12, 10\) but predictions \(6, 10\)"):
        make(name)(maps(0), maps(1)[:, ::2])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_gradients_in_half_precision(name, dtype):
    """Of a dead head's zeros, of a perfect and of a constant prediction, of hardly any truth."""
    target, prediction = maps(0)[0], maps(1)[0]
    zero, constant = np.zeros_like(target), np.full_like(target, 3)
    known = {share: with_valid(target[None], share)[0] for share in (0, "one", 0.01)}
    pairs = [(target, zero), (target, target), (target, constant), (constant, prediction)]
    pairs += [(constant, zero), *((truth, prediction) for truth in known.values())]
    targets, predictions = (np.stack(x) for x in zip(*pairs, strict=True))
    loss = make(name)
    value, gradient = differentiable(lambda x, y: loss(y, ops.cast(x, dtype)))(predictions, targets)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_what_is_compared_is_zero_where_nothing_is_known():
    """Whatever a later term does with the residual, unknown pixels have none."""
    from keras_dpt.losses.depth import _aligned, _normalize

    target, prediction = (ops.convert_to_tensor(maps(i)[..., 0]) for i in range(2))
    valid = np.ones(target.shape, bool)
    valid[:, 3:7, 2:9] = False
    known = ops.convert_to_tensor(valid)
    for residual in (_aligned(prediction, target, known), _normalize(prediction, known)):
        residual = ops.convert_to_numpy(residual)
        assert (residual[~valid] == 0).all() and (residual[valid] != 0).mean() > 0.9
