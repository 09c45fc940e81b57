import numpy as np
import pytest
import tiny
from contracts import arrays, check_layer
from keras import ops

from keras_dpt.layers.feature_fusion import FeatureFusion, ResidualConvUnit
from keras_dpt.ops.resize import resize_bilinear

from .reference import conv_same, relu, weights

CHANNELS = 6


def maps(height, width, count=1):
    rng = np.random.default_rng(0)
    shape = (2, height, width, CHANNELS)
    return tuple(rng.normal(size=shape).astype("float32") for _ in range(count))


def unit(use_batch_norm=False):
    layer = ResidualConvUnit(CHANNELS, use_batch_norm)
    layer.build((None, None, None, CHANNELS))
    return tiny.randomize(layer)


def fusion(has_skip=True, use_batch_norm=False):
    layer = FeatureFusion(CHANNELS, has_skip, use_batch_norm)
    layer.build((None, None, None, CHANNELS))
    return tiny.randomize(layer)


@pytest.mark.parametrize("use_batch_norm", [False, True])
def test_unit_contract(use_batch_norm, tmp_path):
    check_layer(unit(use_batch_norm), [maps(4, 6), maps(3, 5)], tmp_path)


def test_unit_adds_to_the_map_as_it_was_before_the_relu():
    layer, (x,) = unit(), maps(3, 5)
    w = weights(layer)
    y = conv_same(relu(x), w["conv1/kernel"], w["conv1/bias"])
    y = conv_same(relu(y), w["conv2/kernel"], w["conv2/bias"])
    np.testing.assert_allclose(arrays(layer(x)), x + y, atol=1e-5)


def test_unit_with_batch_norm():
    layer, (x,) = unit(use_batch_norm=True), maps(3, 5)
    w = weights(layer)
    assert "conv1/bias" not in w and "conv2/bias" not in w

    def norm(y, name):
        y = (y - w[f"{name}/moving_mean"]) / np.sqrt(w[f"{name}/moving_variance"] + 1e-5)
        return y * w[f"{name}/gamma"] + w[f"{name}/beta"]

    y = norm(conv_same(relu(x), w["conv1/kernel"]), "norm1")
    y = norm(conv_same(relu(y), w["conv2/kernel"]), "norm2")
    np.testing.assert_allclose(arrays(layer(x)), x + y, atol=1e-5)


def test_batch_norm_learns_a_tenth_of_each_batch():
    layer, (x,) = unit(use_batch_norm=True), maps(3, 5)
    before = weights(layer)
    layer(x, training=True)
    after = weights(layer)
    y = conv_same(relu(x), before["conv1/kernel"])
    expected = 0.9 * before["norm1/moving_mean"] + 0.1 * y.mean((0, 1, 2))
    np.testing.assert_allclose(after["norm1/moving_mean"], expected, atol=1e-5)
    assert (after["norm2/moving_variance"] != before["norm2/moving_variance"]).all()


@pytest.mark.parametrize("use_batch_norm", [False, True])
@pytest.mark.parametrize("has_skip", [False, True])
def test_fusion_contract(has_skip, use_batch_norm, tmp_path):
    count = 2 if has_skip else 1
    batches = [maps(4, 6, count), maps(3, 5, count)]
    check_layer(fusion(has_skip, use_batch_norm), batches, tmp_path)


@pytest.mark.parametrize("has_skip", [False, True])
def test_fusion_projects_after_enlarging_as_far_as_numbers_tell(has_skip):
    layer = fusion(has_skip)
    x, skip = maps(3, 5, 2)
    y = ops.convert_to_tensor(x)
    if has_skip:
        y = y + layer.residual_unit1(ops.convert_to_tensor(skip))
    y = layer.residual_unit2(y)
    y = layer.projection(resize_bilinear(y, (6, 10), align_corners=True))
    result = layer(x, skip) if has_skip else layer(x)
    np.testing.assert_allclose(arrays(result), arrays(y), atol=1e-5)


def test_fusion_meets_the_next_level():
    layer = fusion()
    x, skip = maps(3, 5, 2)
    like = np.zeros((2, 5, 9, 4), "float32")  # the level above an odd grid
    assert layer(x, skip, size_like=like).shape == (2, 5, 9, CHANNELS)
    assert layer(x, skip).shape == (2, 6, 10, CHANNELS)
    assert layer.compute_output_shape(x.shape, skip.shape, like.shape) == (2, 5, 9, CHANNELS)


def test_deepest_level_owns_nothing_for_a_skip():
    assert not any("residual_unit1" in path for path in weights(fusion(has_skip=False)))


def test_skip_where_there_is_none_and_the_reverse():
    x, skip = maps(3, 5, 2)
    with pytest.raises(ValueError, match="has_skip=False.* was called with `skip`"):
        fusion(has_skip=False)(x, skip)
    with pytest.raises(ValueError, match="has_skip=True.* was called without `skip`"):
        fusion(has_skip=True)(x)


@pytest.mark.parametrize("use_batch_norm", [False, True])
def test_a_rectified_shortcut(use_batch_norm):
    layers = [ResidualConvUnit(CHANNELS, use_batch_norm, None, each) for each in (False, True)]
    (x,) = maps(3, 5)
    for layer in layers:
        layer.build(x.shape)
        tiny.randomize(layer)
    plain, rectified = (arrays(layer(x)) for layer in layers)
    np.testing.assert_allclose(rectified - plain, np.maximum(-x, 0), atol=1e-5)


@pytest.mark.parametrize(
    ("use_batch_norm", "use_bias", "expected"),
    [(False, None, True), (True, None, False), (False, False, False), (True, True, True)],
)
def test_which_units_have_biases(use_batch_norm, use_bias, expected):
    if use_batch_norm and use_bias:
        pytest.skip("no network has both")
    layer = FeatureFusion(CHANNELS, use_batch_norm=use_batch_norm, use_bias=use_bias)
    layer.build((None, None, None, CHANNELS))
    paths = weights(layer)
    for unit in (1, 2):
        for conv in (1, 2):
            assert (f"residual_unit{unit}/conv{conv}/bias" in paths) == expected
    assert "projection/bias" in paths


OTHERS = [
    {"rectified_shortcut": True, "out_channels": 3},
    {"use_bias": False, "use_projection": False},
]


@pytest.mark.parametrize("options", OTHERS)
def test_other_fusions(options, tmp_path):
    layer, (x, skip) = FeatureFusion(CHANNELS, **options), maps(3, 5, 2)
    layer.build(x.shape)
    tiny.randomize(layer)
    y = layer.residual_unit1(ops.convert_to_tensor(skip)) + ops.convert_to_tensor(x)
    y = layer.residual_unit2(y)
    y = layer.projection(y) if options.get("use_projection", True) else y
    expected = arrays(resize_bilinear(y, (6, 10), align_corners=True))
    np.testing.assert_allclose(arrays(layer(x, skip)), expected, atol=1e-5)
    assert layer.residual_unit1.rectified_shortcut == options.get("rectified_shortcut", False)
    check_layer(layer, [(x, skip), maps(4, 6, 2)], tmp_path)


def test_a_skip_of_another_size_is_stretched(tmp_path):
    layer = FeatureFusion(CHANNELS, stretch_skip=True)
    (x,), (skip,) = maps(4, 6), maps(3, 5)
    layer.build(x.shape)
    tiny.randomize(layer)
    stretched = arrays(resize_bilinear(skip, (4, 6), align_corners=False))
    np.testing.assert_allclose(arrays(layer(x, skip)), arrays(layer(x, stretched)), atol=1e-5)
    check_layer(layer, [(x, skip), (*maps(5, 7), *maps(6, 4))], tmp_path)


def test_only_a_projection_changes_the_width():
    with pytest.raises(ValueError, match="Only a projection can change the width"):
        FeatureFusion(CHANNELS, use_projection=False, out_channels=3)
