import keras
import numpy as np
import pytest
import tiny
from contracts import check_gradients, check_graph, predict
from keras import ops

import keras_dpt


def test_contract():
    # The rest of it, and other variants, are in test_depth.py: as parts of a whole model.
    backbone = tiny.randomize(tiny.backbone(readout="add", use_batch_norm=True))
    batches, _ = check_graph(backbone, [(32, 64), (48, 80)])
    check_gradients(backbone, batches[0])


def levels(pyramid):
    return [pyramid[f"P{n}"].shape[1:] for n in (1, 2, 3, 4)]


@pytest.mark.parametrize("name", tiny.ANY_SIZE)
def test_pyramid(name, backbones):
    unit = backbones[name].image_encoder.unit
    pyramid = backbones[name](keras.Input((6 * unit, 10 * unit, 3)))
    assert set(pyramid) == {"P1", "P2", "P3", "P4"}
    assert levels(pyramid) == [(48, 80, 16), (24, 40, 16), (12, 20, 16), (6, 10, 16)]


@pytest.mark.parametrize("name", tiny.ANY_SIZE)
@pytest.mark.parametrize("cells", [(2, 2), (2, 8), (3, 5), (1, 2)])
def test_any_size_on_one_model(name, cells, backbones):
    unit = backbones[name].image_encoder.unit
    rows, columns = cells
    pyramid = backbones[name](keras.Input((rows * unit, columns * unit, 3)))
    assert levels(pyramid)[:2] == [(8 * rows, 8 * columns, 16), (4 * rows, 4 * columns, 16)]


@pytest.fixture(scope="module")
def backbones():
    return {name: tiny.backbone(name) for name in tiny.ANY_SIZE}


def test_other_sizes_are_refused(backbones):
    with pytest.raises(ValueError, match="multiples of 16. Received: 64 x 100"):
        backbones["ViTEncoder"](tiny.images(1, 64, 100))


@pytest.mark.parametrize(
    "out_stages, out_indices", [((), (0, 1, 2, 3)), ((0,), (0, 1, 3)), ((0, 1, 2), (3,))]
)
def test_hybrid_taps(out_stages, out_indices):
    encoder = tiny.encoder("ViTHybridEncoder", out_stages=out_stages, out_indices=out_indices)
    backbone = tiny.backbone(encoder)
    names = [layer.name for layer in backbone.layers]
    for n in range(1, 5):
        folded = n > len(out_stages)
        assert (f"read_{n}" in names) == folded
        assert (f"reassemble_{n}" in names) == folded
    pyramid = backbone(keras.Input((64, 96, 3)))
    assert [pyramid[f"P{n}"].shape[1:3] for n in (1, 2, 3, 4)] == [
        (32, 48),
        (16, 24),
        (8, 12),
        (4, 6),
    ]


@pytest.mark.parametrize(
    "mode, weights", [("project", ["token/kernel", "readout/kernel", "readout/bias"]), ("add", [])]
)
def test_readout_modes(mode, weights):
    paths = [v.path for v in tiny.backbone(readout=mode).variables]
    expected = {f"read_{n}/{leaf}" for n in (1, 2, 3, 4) for leaf in weights}
    assert {p for p in paths if p.startswith("read_")} == expected


def test_readout_sees_the_class_token():
    backbone = tiny.randomize(tiny.backbone(readout="ignore"))
    token = {v.path: v for v in backbone.variables}["position_embedding/class_token"]
    for readout in ("ignore", "add"):
        other = tiny.backbone(backbone.image_encoder, readout=readout)
        last = other.get_layer("read_4")
        x, prefix = np.ones((1, 2, 2, 32), "float32"), np.full((1, 1, 32), 3, "float32")
        assert float(ops.max(last(x, prefix))) == (1 if readout == "ignore" else 4)
    assert token.shape == (1, 1, 32)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"readout": "cat"}, "`readout` must be"),
        ({"reassemble_channels": (8, 12, 16)}, "`reassemble_channels` must be four widths"),
        ({"reassemble_channels": (8, 12, 16, 20, 24)}, "`reassemble_channels` must be four"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        tiny.backbone(**options)


def test_width_of_a_tapped_stage_is_the_encoders():
    with pytest.raises(ValueError, match=r"here \(16, 24, any, any\).*Received: \(8, 24, 16, 20\)"):
        tiny.backbone("ViTHybridEncoder", reassemble_channels=(8, 24, 16, 20))


def test_dtype_override_reaches_every_layer():
    config = tiny.backbone().get_config()
    backbone = keras_dpt.DPTBackbone.from_config(config | {"dtype": "mixed_bfloat16"})
    assert backbone.image_encoder in backbone._flatten_layers()
    for layer in backbone._flatten_layers():
        if not isinstance(layer, keras.layers.InputLayer):
            assert layer.dtype_policy.name == "mixed_bfloat16", layer.path
    assert {v.dtype for v in backbone.variables} == {"float32"}


def test_paths_are_as_published():
    paths = {v.path for v in tiny.backbone(use_batch_norm=True).variables}
    assert len(paths) == len(tiny.backbone(use_batch_norm=True).variables)
    expected = {
        "patch_embedding/projection/kernel",
        "position_embedding/class_token",
        "position_embedding/position_embedding",
        "block_3/norm1/gamma",
        "block_3/attention/qkv/kernel",
        "block_3/attention/projection/bias",
        "block_3/norm2/beta",
        "block_3/mlp/dense1/kernel",
        "block_3/mlp/dense2/bias",
        "read_1/token/kernel",
        "read_4/readout/bias",
        "reassemble_1/projection/kernel",
        "reassemble_2/resize/kernel",
        "reassemble_4/resize/bias",
        "fusion_input_4/kernel",
        "fusion_1/residual_unit1/conv1/kernel",
        "fusion_4/residual_unit2/norm2/moving_variance",
        "fusion_3/projection/bias",
    }
    assert expected <= paths
    assert not [
        p for p in paths if p.startswith(("reassemble_3/resize", "fusion_4/residual_unit1"))
    ]


def test_decoder_depends_on_every_tap():
    backbone = tiny.randomize(tiny.backbone())
    x = (tiny.images(1, 32, 32),)
    before = predict(backbone, x)["P1"]
    for n in (1, 2, 3, 4):
        kernel = backbone.get_layer(f"fusion_input_{n}").kernel
        original = np.array(kernel)
        kernel.assign(np.zeros_like(original))
        assert np.abs(predict(backbone, x)["P1"] - before).max() > 1e-3
        kernel.assign(original)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["dpt_base", "dpt_large", "dpt_hybrid"])
def test_parameters_of_the_presets(preset):
    backbone = keras_dpt.DPTDepth.from_preset(preset, load_weights=False)
    expected = {"dpt_base": 110.9, "dpt_large": 343.0, "dpt_hybrid": 122.4}[preset]
    assert backbone.count_params() / 1e6 == pytest.approx(expected, abs=1.5)


@pytest.mark.parametrize("part", ["all", "encoder"])
def test_frozen_parts_stay_frozen_when_saved(part):
    backbone = tiny.backbone()
    (backbone if part == "all" else backbone.image_encoder).trainable = False
    copy = keras_dpt.DPTBackbone.from_config(backbone.get_config())
    ours, theirs = ([v.path for v in x.trainable_variables] for x in (copy, backbone))
    assert ours == theirs and len(ours) < len(backbone.variables)
    assert (len(ours) > 0) == (part == "encoder")
