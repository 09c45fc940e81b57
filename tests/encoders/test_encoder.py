"""What holds for every encoder in `ENCODERS`, a new one included."""

import keras
import numpy as np
import pytest
import tiny
from contracts import check_graph, predict

from keras_dpt.encoders import ENCODERS


def test_every_encoder_is_tested():
    assert set(tiny.ENCODER_CONFIGS) == set(ENCODERS)


@pytest.mark.compiles_long
@pytest.mark.parametrize("name", ENCODERS)
def test_any_multiple_of_16(name):
    # Gradients, files and precision are checked where encoders are used: tests/models.
    check_graph(tiny.encoder(name), [(32, 64), (48, 80)])


@pytest.mark.parametrize("name", ENCODERS)
def test_outputs_are_what_the_taps_promise(name):
    encoder = tiny.encoder(name)
    outputs = encoder(keras.Input((48, 80, 3)))
    expected = {f"stage{n}": tap.channels for n, tap in enumerate(encoder.taps, 1)}
    for n, tap in enumerate(encoder.taps, 1):
        if tap.num_prefix_tokens:
            expected[f"prefix{n}"] = tap.channels
    assert {key: x.shape[-1] for key, x in outputs.items()} == expected
    for n, tap in enumerate(encoder.taps, 1):
        assert outputs[f"stage{n}"].shape[1] * 5 == outputs[f"stage{n}"].shape[2] * 3
        if tap.num_prefix_tokens:
            assert outputs[f"stage{n}"].shape == (None, 3, 5, tap.channels)
            assert outputs[f"prefix{n}"].shape == (None, 1, tap.channels)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("size", [(64, 72), (40, 64)])
def test_sides_that_are_no_multiples_are_refused(name, size):
    encoder = tiny.encoder(name)
    with pytest.raises(ValueError, match=f"multiples of 16. Received: {size[0]} x {size[1]}"):
        encoder(tiny.images(1, *size))


@pytest.mark.compiles_long
@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="others know every size")
@pytest.mark.parametrize("name", ENCODERS)
def test_sides_known_at_run_time_are_refused_too(name):
    encoder = tiny.encoder(name)
    for size in ((32, 32), (48, 48), (64, 32)):  # after the second, TensorFlow traces for any size
        predict(encoder, (tiny.images(1, *size),))
    with pytest.raises(Exception, match="multiples of 16"):
        predict(encoder, (tiny.images(1, 64, 72),))


@pytest.mark.parametrize("name", ENCODERS)
def test_lora_layers_are_there(name):
    encoder = tiny.encoder(name)
    found = [layer.name for layer in encoder._flatten_layers()]
    assert all(found.count(layer) == 4 for layer in encoder.default_lora_layer_names())


@pytest.mark.parametrize("name", ENCODERS)
def test_a_fixed_size(name):
    encoder = tiny.encoder(name, image_shape=(64, 96, 3))
    assert encoder.get_config()["image_shape"] == (64, 96, 3)
    assert encoder.output["stage4"].shape == (None, 4, 6, 32)


@pytest.mark.parametrize("name", ENCODERS)
def test_stored_positions_of_another_grid_keep_their_shape(name):
    encoder = tiny.encoder(name, position_grid=(5, 7))
    shapes = {v.path: tuple(v.shape) for v in encoder.variables}
    assert shapes["position_embedding/position_embedding"] == (1, 36, 32)
    assert shapes["position_embedding/class_token"] == (1, 1, 32)


def blocks(encoder):
    """Numbers of the transformer blocks that were built."""
    paths = [v.path for v in encoder.variables]
    return sorted({int(p.split("/")[0][6:]) for p in paths if p.startswith("block_")})


@pytest.mark.parametrize("name", ENCODERS)
def test_nothing_is_built_after_the_last_tap(name):
    config = tiny.ENCODER_CONFIGS[name]
    indices = config["out_indices"]
    encoder = tiny.encoder(name, num_layers=9, out_indices=indices)
    assert blocks(encoder) == list(range(indices[-1] + 1))
    assert encoder.get_config()["num_layers"] == 9
    other = [v.path for v in encoder.variables if not v.path.startswith("block_")]
    convolutional = ("stem/", "stage_", "mbconv_")
    assert not [p for p in other if "norm" in p and not p.startswith(convolutional)]


@pytest.mark.compiles_long
@pytest.mark.parametrize("name", ENCODERS)
def test_taps_follow_their_blocks(name):
    """Cutting a block's shortcut off changes its own tap and later ones, no earlier one."""
    encoder = tiny.randomize(tiny.encoder(name))
    indices = tiny.ENCODER_CONFIGS[name]["out_indices"]
    x = (tiny.images(1, 32, 32),)
    before = predict(encoder, x)
    last = encoder.get_layer(f"block_{indices[-1]}")
    last.mlp.dense2.bias.assign(last.mlp.dense2.bias + 1.0)
    after = predict(encoder, x)
    # The last tap is the last block's output: it moves by exactly what was added.
    np.testing.assert_allclose(after["stage4"] - before["stage4"], 1, atol=1e-5)
    np.testing.assert_allclose(after["prefix4"] - before["prefix4"], 1, atol=1e-5)
    np.testing.assert_array_equal(after["stage3"], before["stage3"])
