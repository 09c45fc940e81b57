"""Gradient checkpointing: the same losses and gradients, made in another way."""

import contracts
import keras
import numpy as np
import pytest
import tiny
from keras import ops

from keras_dpt.errors import TrainingError

WITH_BLOCKS = [name for name in tiny.ENCODER_CONFIGS if name not in tiny.CONVOLUTIONAL]


def images(name):
    return tiny.images(1, *((28, 42) if name == "DINOv2Encoder" else (64, 64)))


def gradients(encoder, x):
    """Of a sum of all maps, by weight."""

    def loss(outputs):
        maps = [outputs[f"stage{n}"] for n in (1, 2, 3, 4)]
        return sum(n * ops.mean(ops.sin(ops.cast(y, "float32"))) for n, y in enumerate(maps, 1))

    return contracts.weight_gradients(encoder, loss, (x,))


@pytest.mark.compiles_long
@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_gradients_of_every_encoder_are_the_same(name):
    # Two of them: PyTorch would add the second gradients to the first.
    plain, encoder = (tiny.randomize(tiny.encoder(name)) for _ in range(2))
    tiny.backbone(encoder).enable_gradient_checkpointing()
    wanted, found = (list(gradients(e, images(name)).values()) for e in (plain, encoder))
    for again, gradient in zip(found, wanted, strict=True):
        np.testing.assert_allclose(again, gradient, rtol=0, atol=1e-5 * np.abs(gradient).max())


def test_blocks_are_computed_twice_and_only_for_gradients():
    encoder = tiny.encoder(num_layers=4)
    backbone, x = tiny.backbone(encoder), images("ViTEncoder")
    for enabled, expected in ((False, 1), (True, 2), (False, 1)):
        backbone.enable_gradient_checkpointing(enabled)
        assert _passes(encoder, x) == expected
    backbone.enable_gradient_checkpointing()
    outputs = encoder(ops.convert_to_tensor(x))
    backbone.enable_gradient_checkpointing(False)
    plain = encoder(ops.convert_to_tensor(x))
    for key, value in plain.items():
        np.testing.assert_array_equal(*map(ops.convert_to_numpy, (outputs[key], value)))


def _passes(encoder, x):
    """How often the MLP of a block runs for one gradient."""
    mlp = encoder.recomputed_layers()[1].mlp
    if keras.config.backend() == "jax":
        import jax

        weights = [v.value for v in encoder.trainable_variables]

        def loss(weights):
            state = [v.value for v in encoder.non_trainable_variables]
            return ops.sum(encoder.stateless_call(weights, state, x)[0]["stage4"])

        blocks = len(encoder.recomputed_layers())
        products = str(jax.make_jaxpr(jax.grad(loss))(weights)).count(" erf ")
        return products // blocks
    calls, call = [], mlp.call
    mlp.call = lambda x: calls.append(1) or call(x)
    gradients(encoder, x)
    del mlp.call
    return len(calls)


@pytest.mark.compiles_long
def test_fit_loses_the_same_and_files_know_nothing(tmp_path):
    losses, files = [], []
    x, y = tiny.images(4), np.ones((4, 64, 64, 1), "float32")
    for enabled in (False, True):
        model = tiny.depth()
        config = model.get_config()
        model.backbone.enable_gradient_checkpointing(enabled)
        model.compile(keras.optimizers.SGD(1e-3), "mae", metrics=None)
        losses.append(model.fit(x, y, batch_size=2, epochs=2, shuffle=False, verbose=0))
        assert str(model.get_config()) == str(config) or model.get_config() == config
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(tiny.run(loaded, x), tiny.run(model, x))
        assert all("call" not in vars(b) for b in loaded.backbone.image_encoder.recomputed_layers())
        files.append(tiny.run(loaded, x))
    first, second = (history.history["loss"] for history in losses)
    assert first[1] < first[0]
    np.testing.assert_allclose(second, first, rtol=1e-5)
    contracts.assert_close(files[1], files[0], 1e-4)


def test_encoders_without_blocks_are_refused():
    with pytest.raises(TrainingError, match="for transformer blocks. Received: ResNetEncoder"):
        tiny.backbone("ResNetEncoder").enable_gradient_checkpointing()
