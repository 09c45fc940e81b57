import keras
import numpy as np
import pytest
import tiny
from contracts import predict


def hybrid(**overrides):
    return tiny.randomize(tiny.encoder("EfficientNetHybridEncoder", **overrides))


def test_the_classifier_is_lite0_by_default():
    encoder = tiny.encoder(
        "EfficientNetHybridEncoder",
        stem_channels=32,
        stage_channels=(16, 24, 40, 80, 112, 192, 320),
        stage_depths=(1, 2, 2, 3, 3, 4, 1),
    )
    stages = [v for v in encoder.variables if v.path.startswith(("stem/", "mbconv_"))]
    # Lite0 has 4,652,008 weights; its last convolution and norm, and its classes, are not here.
    learned = sum(np.prod(v.shape) for v in stages if "moving" not in v.path)
    assert learned == 4_652_008 - 320 * 1280 - 2 * 1280 - 1280 * 1000 - 1000


def test_stride_16_is_kept_and_later_kernels_dilate():
    encoder = hybrid()
    blocks = [layer for layer in encoder.layers if layer.name.startswith("mbconv_")]
    assert [block.strides for block in blocks] == [1, 2, 1, 2, 2, 1, 1, 1, 1]
    assert [block.dilation_rate for block in blocks] == [1, 1, 1, 1, 1, 1, 1, 2, 2]
    assert blocks[-1].output.shape[-1] == 18
    outputs = encoder(keras.Input((64, 96, 3)))
    sizes = [outputs[f"stage{n}"].shape[1:] for n in (1, 2, 3, 4)]
    assert sizes == [(16, 24, 8), (8, 12, 12), (4, 6, 32), (4, 6, 32)]


@pytest.mark.parametrize(
    "out_stages, out_indices, channels",
    [
        ((), (0, 1, 2, 3), (32, 32, 32, 32)),
        ((0,), (0, 1, 3), (8, 32, 32, 32)),
        ((0, 1, 2), (3,), (8, 12, 18, 32)),
    ],
)
def test_stages_and_blocks_are_tapped(out_stages, out_indices, channels):
    encoder = hybrid(out_stages=out_stages, out_indices=out_indices)
    assert tuple(tap.channels for tap in encoder.taps) == channels
    outputs = encoder(keras.Input((64, 64, 3)))
    assert tuple(outputs[f"stage{n}"].shape[-1] for n in (1, 2, 3, 4)) == channels


def test_stages_that_make_no_pyramid_are_refused():
    with pytest.raises(ValueError, match="`out_stages` must be"):
        hybrid(out_stages=(1, 2))


@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3), (3,), (3, 1), (1, 4)])
def test_two_blocks_are_tapped(out_indices):
    with pytest.raises(ValueError, match="2 of the blocks 0 to 3 in ascending order"):
        hybrid(out_indices=out_indices)


def test_seven_stages():
    with pytest.raises(ValueError, match="shorter|longer"):
        hybrid(stage_depths=(1, 1))


@pytest.mark.compiles_long
def test_frozen_norms_stay_and_the_rest_learns():
    encoder = hybrid()
    every = len(encoder.trainable_variables)
    encoder.freeze_norms()
    frozen = {v.path for v in encoder.variables} - {v.path for v in encoder.trainable_variables}
    norms = {v.path for v in encoder.variables if v.path.startswith(("stem/norm", "mbconv"))}
    norms = {path for path in norms if "/norm/" in path}
    assert frozen == norms and len(encoder.trainable_variables) == every - len(norms) // 2

    # Training then computes what inference does.
    x = tiny.images(1, 32, 32)
    before = {v.path: np.array(v) for v in encoder.variables if "moving" in v.path}
    training = encoder(x, training=True)
    inference = predict(encoder, (x,))
    for name, output in inference.items():
        np.testing.assert_allclose(keras.ops.convert_to_numpy(training[name]), output, atol=2e-5)
    after = {v.path: np.array(v) for v in encoder.variables if "moving" in v.path}
    assert all(np.array_equal(before[path], after[path]) for path in before)


@pytest.mark.compiles_long
def test_norms_learn_unless_frozen():
    encoder = hybrid()
    before = {v.path: np.array(v) for v in encoder.variables if "moving" in v.path}
    encoder(tiny.images(2, 32, 32), training=True)
    after = {v.path: np.array(v) for v in encoder.variables if "moving" in v.path}
    assert all(not np.array_equal(before[path], after[path]) for path in before)


def test_other_encoders_have_no_norms_to_freeze():
    encoder = tiny.encoder("ViTEncoder")
    count = len(encoder.trainable_variables)
    encoder.freeze_norms()
    assert len(encoder.trainable_variables) == count
