import keras
import numpy as np
import pytest
import tiny
from keras import ops

import keras_dpt
from keras_dpt.errors import TrainingError
from keras_dpt.optimizers import matching_rule
from keras_dpt.training import OptimizersByPath, optimizer_with_rates, warmup_cosine

HEAD = "depth_head"
RATES = {HEAD: 1e-2, ".": 1e-3}
X = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
Y = np.random.default_rng(1).normal(size=(8, 1)).astype("float32")


def network(dtype=None):
    """Two layers, of which the path says that they are encoder and decoder."""
    encoder = keras.layers.Dense(5, activation="tanh", dtype=dtype, name="block_0")
    head = keras.layers.Dense(1, dtype=dtype, name="depth_head")
    model = keras.Sequential([keras.Input((6,)), encoder, head])
    rng = np.random.default_rng(2)
    model.set_weights([rng.normal(size=w.shape).astype("float32") for w in model.get_weights()])
    return model


def trained(optimizer, steps=1, dtype=None):
    model = network(dtype)
    model.compile(optimizer, "mse")
    for _ in range(steps):
        model.train_on_batch(X, Y)
    return model


def arrays(variables):
    return [ops.convert_to_numpy(v) for v in variables]


def rate_of(model, variable):
    """The rate at which a weight of a compiled model is trained."""
    return float(model.optimizer.by_weight(variable).learning_rate)


@pytest.mark.parametrize("name", tiny.ENCODER_CONFIGS)
def test_default_rates_are_of_encoder_and_decoder(name):
    model = tiny.depth(name)
    fine = model.backbone.image_encoder.fine_tuning_rate
    assert fine == (5e-6 if name == "DINOv2Encoder" else 1e-5)
    model.compile()
    slow = {id(v) for v in model.backbone.image_encoder.trainable_variables}
    assert slow and len(slow) < len(model.trainable_variables)
    for variable in model.trainable_variables:
        expected = fine if id(variable) in slow else 10 * fine
        assert rate_of(model, variable) == pytest.approx(expected), variable.path


def test_names_of_layers_do_not_matter():
    """An encoder whose layers are called like a decoder's is an encoder all the same."""
    image = keras.Input((None, None, 3))
    outputs = {
        f"stage{n}": keras.layers.Conv2D(4, 4, strides=4 * 2 ** (n - 1), name=f"fusion_{n}_head")(
            keras.layers.ZeroPadding2D(2)(image)
        )
        for n in (1, 2, 3, 4)
    }

    class Odd(keras_dpt.Encoder):
        taps = tuple(keras_dpt.Tap(4, stride, reassemble=False) for stride in (4, 8, 16, 32))

        def __init__(self):
            super().__init__(image, outputs)

    model = keras_dpt.DPTDepth(
        keras_dpt.DPTBackbone(Odd(), fusion_channels=8), head_channels=(4, 4)
    )
    model.compile()
    for variable in model.backbone.image_encoder.trainable_variables:
        assert rate_of(model, variable) == pytest.approx(1e-5)


def trained_tiny(model, **fit):
    x, y = tiny.images(2, 32, 32), np.random.default_rng(0).uniform(0.1, 1, (2, 32, 32, 1))
    return model.fit(x, y, epochs=2, verbose=0, **fit)


def test_the_rate_reads_and_sets_and_columns_are_stable():
    model = tiny.depth()
    model.compile()
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-4)
    model.optimizer.learning_rate = 2e-4
    assert float(model.optimizer.group("encoder").learning_rate) == pytest.approx(2e-5)
    assert float(model.optimizer.group("decoder").learning_rate) == pytest.approx(2e-4)
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    history = trained_tiny(model, callbacks=[schedule]).history
    columns = {"learning_rate", "learning_rate_encoder", "learning_rate_decoder"}
    found = {name for name in history if name.startswith("learning_rate")}
    assert found <= columns and found, found
    assert float(model.optimizer.learning_rate) == pytest.approx(5e-5)
    assert float(model.optimizer.group("encoder").learning_rate) == pytest.approx(5e-6)


@pytest.mark.compiles_long
def test_reduce_on_plateau():
    model = tiny.depth()
    model.compile()
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=0, min_delta=1e9)
    trained_tiny(model, callbacks=[plateau])
    assert float(model.optimizer.learning_rate) < 1e-4


def test_adapters_have_the_decoders_rate():
    model = tiny.depth()
    model.backbone.enable_lora(2)
    model.compile()
    adapters = [v for v in model.trainable_variables if v.name.startswith("lora_")]
    assert adapters
    for variable in adapters:
        assert rate_of(model, variable) == pytest.approx(1e-4)
    model.compile(learning_rate={"encoder": 1e-5, "decoder": 1e-4, "adapters": 1e-3})
    assert rate_of(model, adapters[0]) == pytest.approx(1e-3)
    trained_tiny(model)


@pytest.mark.compiles_long
def test_weights_that_changed_after_training_began_are_named():
    model = tiny.depth()
    model.compile()
    trained_tiny(model)
    model.backbone.enable_lora(2)
    with pytest.raises(TrainingError, match="Call `compile` after `enable_lora`"):
        trained_tiny(model)


@pytest.mark.compiles_long
def test_groups_go_on_from_a_file(tmp_path):
    model = tiny.depth()
    model.compile()
    trained_tiny(model)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    slow = again.backbone.image_encoder.trainable_variables[0]
    assert rate_of(again, slow) == pytest.approx(1e-5)
    for a, b in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_allclose(*arrays([a, b]), rtol=1e-6)
    for network in (model, again):
        keras.utils.set_random_seed(0)
        trained_tiny(network, shuffle=False)
    for a, b in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_groups_and_patterns_are_not_mixed():
    with pytest.raises(TrainingError, match="by group .* or by pattern, not both"):
        optimizer_with_rates({"encoder": 1e-5, ".": 1e-4})
    with pytest.raises(TrainingError, match="known to DPTDepth"):
        optimizer_with_rates({"encoder": 1e-5, "decoder": 1e-4}).build(
            network().trainable_variables
        )


@pytest.mark.compiles_long
@pytest.mark.parametrize(
    "options, dtype",
    [
        ({}, None),
        ({"clipnorm": 0.1}, None),
        ({"weight_decay": 0.1}, None),
        ({"gradient_accumulation_steps": 2}, None),
        ({}, "mixed_bfloat16"),
        ({}, "mixed_float16"),
    ],
    ids=str,
)
def test_each_weight_moves_at_its_own_rate(options, dtype):
    """One step of Adam moves a weight by its own gradient: compare with one rate for all."""
    steps = options.get("gradient_accumulation_steps", 1)
    moved = trained(optimizer_with_rates(RATES, **options), steps, dtype).get_weights()
    slow = trained(keras.optimizers.Adam(1e-3, **options), steps, dtype).get_weights()
    fast = trained(keras.optimizers.Adam(1e-2, **options), steps, dtype).get_weights()
    for ours, expected in zip(moved, slow[:2] + fast[2:], strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-7)
    assert all(np.abs(a - b).max() > 1e-4 for a, b in zip(slow, fast, strict=True))


def test_one_number_is_one_ordinary_optimizer():
    optimizer = optimizer_with_rates(1e-3, keras.optimizers.SGD, momentum=0.9)
    assert isinstance(optimizer, keras.optimizers.SGD)
    assert float(optimizer.learning_rate) == pytest.approx(1e-3)
    assert optimizer.momentum == 0.9


def test_the_first_matching_rule_holds():
    assert matching_rule({"norm": 1, "^block_": 2, ".": 3}, "block_3/norm1/gamma") == "norm"
    assert matching_rule({"^block_": 2, "norm": 1}, "block_3/norm1/gamma") == "^block_"


def test_a_weight_without_a_rate_is_an_error():
    rules = {"^block_": 1e-3}  # paths in `Sequential` begin with its name
    message = r"No learning rate for the weight .*block_0/kernel.*'\^block_'.*'\.' matches every"
    with pytest.raises(TrainingError, match=message):
        optimizer_with_rates(rules, variables=network().trainable_variables)
    with pytest.raises(TrainingError, match=message):
        optimizer_with_rates(rules).build(network().trainable_variables)


def test_rules_for_frozen_weights_are_left_out():
    """An optimizer of no weights is never built, which `SwapEMAWeights` takes for a mistake."""
    model = network()
    model.layers[0].trainable = False
    optimizer = optimizer_with_rates(RATES, variables=model.trainable_variables, use_ema=True)
    model.compile(optimizer, "mse")
    model.fit(X, Y, callbacks=[keras.callbacks.SwapEMAWeights(swap_on_epoch=True)], verbose=0)
    assert len(optimizer.optimizers) == 1


def test_saved_training_goes_on(tmp_path):
    """Through a .keras file, with schedules, weight averages and the second Adam's moments."""

    def optimizer():
        rates = {HEAD: warmup_cosine(1e-2, 10), ".": 1e-3}
        return optimizer_with_rates(rates, use_ema=True, ema_momentum=0.9)

    expected = trained(optimizer(), steps=6)
    trained(optimizer(), steps=3).save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    for _ in range(3):
        model.train_on_batch(X, Y)
    for a, b in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    pairs = zip(
        arrays(model.optimizer.variables), arrays(expected.optimizer.variables), strict=True
    )
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8)


def test_config():
    by_path = OptimizersByPath({"a": keras.optimizers.SGD(0.5), ".": keras.optimizers.Adam(0.25)})
    again = OptimizersByPath.from_config(by_path.get_config())
    assert list(again.rules) == ["a", "."]
    assert [float(o.learning_rate) for o in again.values()] == [0.5, 0.25]


def test_warmup_cosine():
    rate = warmup_cosine(1.0, 100, warmup=0.1, start=0.02, end=0.01)
    values = np.array([float(rate(i)) for i in (0, 5, 10, 55, 100)])
    np.testing.assert_allclose(values, [0.02, 0.51, 1.0, 0.505, 0.01], atol=1e-3)
