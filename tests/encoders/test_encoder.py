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
@pytest.mark.parametrize("name", tiny.ANY_SIZE)
def test_any_multiple_of_the_largest_stride(name):
    # Gradients, files and precision are checked where encoders are used: tests/models.
    encoder = tiny.encoder(name)
    step = encoder.required_multiple
    check_graph(encoder, [(2 * step, 4 * step), (3 * step, 5 * step)])


@pytest.mark.parametrize("name", tiny.ANY_SIZE)
def test_outputs_are_what_the_taps_promise(name):
    encoder = tiny.encoder(name)
    step = encoder.required_multiple
    outputs = encoder(keras.Input((3 * step, 5 * step, 3)))
    expected = {f"stage{n}": tap.channels for n, tap in enumerate(encoder.taps, 1)}
    for n, tap in enumerate(encoder.taps, 1):
        if tap.num_prefix_tokens:
            expected[f"prefix{n}"] = tap.channels
    assert {key: x.shape[-1] for key, x in outputs.items()} == expected
    for n, tap in enumerate(encoder.taps, 1):
        assert outputs[f"stage{n}"].shape[1] * 5 == outputs[f"stage{n}"].shape[2] * 3
        if tap.num_prefix_tokens:
            assert outputs[f"stage{n}"].shape == (None, 3, 5, tap.channels)
            prefix = (None, tap.num_prefix_tokens, tap.channels)
            assert outputs[f"prefix{n}"].shape == prefix


@pytest.mark.parametrize("name", tiny.ANY_SIZE)
@pytest.mark.parametrize("steps", [(4, 4.5), (2.5, 4)])
def test_sides_that_are_no_multiples_are_refused(name, steps):
    encoder = tiny.encoder(name)
    step = encoder.required_multiple
    size = [int(n * step) for n in steps]
    with pytest.raises(ValueError, match=f"multiples of {step}. Received: {size[0]} x {size[1]}"):
        encoder(tiny.images(1, *size))


@pytest.mark.compiles_long
@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="others know every size")
@pytest.mark.parametrize("name", tiny.ANY_SIZE)
def test_sides_known_at_run_time_are_refused_too(name):
    encoder = tiny.encoder(name)
    step = encoder.required_multiple
    for size in ((2, 2), (3, 3), (4, 2)):  # after the second, TensorFlow traces for any size
        predict(encoder, (tiny.images(1, *(n * step for n in size)),))
    with pytest.raises(Exception, match=f"multiples of {step}"):
        predict(encoder, (tiny.images(1, 4 * step, 4 * step + 2),))


@pytest.mark.parametrize("name", [name for name in ENCODERS if name not in tiny.CONVOLUTIONAL])
def test_lora_layers_are_there(name):
    encoder = tiny.encoder(name)
    found = [layer.name for layer in encoder._flatten_layers()]
    assert all(found.count(layer) == 4 for layer in encoder.default_lora_layer_names())


@pytest.mark.parametrize("name", tiny.ANY_SIZE)
def test_a_fixed_size(name):
    step = tiny.encoder(name).required_multiple
    encoder = tiny.encoder(name, image_shape=(4 * step, 6 * step, 3))
    assert encoder.get_config()["image_shape"] == (4 * step, 6 * step, 3)
    assert encoder.output["stage4"].shape == (None, 4, 6, encoder.taps[3].channels)


@pytest.mark.parametrize("name", [name for name in ENCODERS if name not in tiny.ANY_SIZE])
def test_one_size_only(name):
    encoder = tiny.encoder(name)
    assert encoder.fixed_size == (64, 64) and encoder.image_shape == (64, 64, 3)
    outputs = encoder(keras.Input((64, 64, 3)))
    for n, tap in enumerate(encoder.taps, 1):
        side = 64 // tap.stride
        assert outputs[f"stage{n}"].shape == (None, side, side, tap.channels)
    with pytest.raises(
        ValueError, match=r"images of 64 x 64 \(h.* only\. Received: image_shape=\(32, 64"
    ):
        tiny.encoder(name, image_shape=(32, 64, 3))
    with pytest.raises(ValueError, match="windows of `window_size=3` do not fill"):
        tiny.encoder(name, window_size=3)


@pytest.mark.parametrize("name", tiny.WITH_POSITIONS)
def test_stored_positions_of_another_grid_keep_their_shape(name):
    encoder = tiny.encoder(name, position_grid=(5, 7))
    shapes = {v.path: tuple(v.shape) for v in encoder.variables}
    assert shapes["position_embedding/position_embedding"] == (1, 36, 32)
    assert shapes["position_embedding/class_token"] == (1, 1, 32)


@pytest.mark.parametrize("name", tiny.WITH_TOKENS)
def test_nothing_is_built_after_the_last_tap(name):
    indices = tiny.ENCODER_CONFIGS[name]["out_indices"]
    encoder = tiny.encoder(name, num_layers=9, out_indices=indices)
    assert len(encoder.attention_blocks()) == indices[-1] + 1
    assert encoder.get_config()["num_layers"] == 9
    shallow = tiny.encoder(name, num_layers=4, out_indices=indices)
    paths = [variable.path for variable in encoder.variables]
    assert paths == [variable.path for variable in shallow.variables]
    final_norm = any(path.startswith("norm/") for path in paths)
    assert final_norm == getattr(encoder, "apply_final_norm", False)


@pytest.mark.compiles_long
@pytest.mark.parametrize("name", tiny.WITH_TOKENS)
def test_taps_follow_their_blocks(name):
    """What the last block adds moves its own tap, everywhere, and no earlier one."""
    encoder = tiny.randomize(tiny.encoder(name))
    step = encoder.required_multiple
    x = (tiny.images(1, 2 * step, 2 * step),)
    before = predict(encoder, x)
    last = encoder.attention_blocks()[-1]
    bias = last.mlp.dense2.bias
    bias.assign(bias + np.linspace(0, 2, bias.shape[0], dtype="float32"))
    after = predict(encoder, x)
    for key in ("stage4", "prefix4"):
        assert (np.abs(after[key] - before[key]).max(-1) > 0.1).all()
    np.testing.assert_array_equal(after["stage3"], before["stage3"])


def test_a_size_whose_masks_would_fill_the_memory():
    """A few bytes of a config ask for it; refused before anything is allocated."""
    with pytest.raises(ValueError, match="image_size=16384.*needs masks of .* numbers"):
        tiny.encoder("SwinEncoder", image_size=16384, window_size=16)
