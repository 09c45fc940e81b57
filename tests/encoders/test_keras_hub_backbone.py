"""keras-hub's image backbones as encoders, small and with random weights."""

import os
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pytest
import tiny
from contracts import predict

import keras_dpt
from keras_dpt import datasets
from keras_dpt.encoders.keras_hub_backbone import as_encoder

models = keras_hub.models
SQUARE = (64, 64, 3)
VIT = {"patch_size": 16, "num_layers": 4, "num_heads": 2, "hidden_dim": 32}
DINO = {"patch_size": 16, "num_layers": 5, "hidden_dim": 32, "num_heads": 2, "intermediate_dim": 64}

# Class, arguments, and of the taps: names, strides, prefix tokens, whether they are reassembled.
EVERY_BLOCK = [f"block_{i}" for i in range(4)]
LEVELS = ["P2", "P3", "P4", "P5"]
BACKBONES = {
    "DINOV3": (
        lambda: models.DINOV3Backbone(**DINO, image_shape=(64, 96, 3)),
        (["stage1", "stage2", "stage3", "stage5"], (16,) * 4, 5, True),
    ),
    "DINOV2": (
        lambda: models.DINOV2Backbone(
            **DINO | {"patch_size": 14}, image_shape=(70, 70, 3), position_embedding_shape=(42, 42)
        ),
        (["stage1", "stage2", "stage3", "stage5"], (14,) * 4, 1, True),
    ),
    "ViT": (
        lambda: models.ViTBackbone(SQUARE, **VIT, mlp_dim=64),
        (EVERY_BLOCK, (16,) * 4, 1, True),
    ),
    "DeiT": (
        lambda: models.DeiTBackbone(SQUARE, **VIT, intermediate_dim=64),
        (EVERY_BLOCK, (16,) * 4, 2, True),
    ),
    "SigLIP": (
        lambda: models.SigLIPVisionEncoder(16, 32, 4, 2, 64, image_shape=SQUARE),
        (EVERY_BLOCK, (16,) * 4, 0, True),
    ),
    "MiT": (
        lambda: models.MiTBackbone(
            [1] * 4,
            4,
            [1, 2, 2, 4],
            [8, 4, 2, 1],
            0.0,
            [7, 3, 3, 3],
            [4, 2, 2, 2],
            image_shape=SQUARE,
            hidden_dims=[8, 16, 24, 32],
        ),
        (["P1", "P2", "P3", "P4"], (4, 8, 16, 32), 0, False),
    ),
    "ResNet": (
        lambda: models.ResNetBackbone([64], [7], [64] * 4, [1] * 4, [1, 2, 2, 2], "basic_block"),
        (LEVELS, (4, 8, 16, 32), 0, False),
    ),
    "EfficientNet": (
        lambda: models.EfficientNetBackbone(
            stackwise_width_coefficients=[1.0] * 7,
            stackwise_depth_coefficients=[1.0] * 7,
            stackwise_kernel_sizes=[3] * 7,
            stackwise_num_repeats=[1] * 7,
            stackwise_input_filters=[8, 8, 8, 16, 16, 16, 24],
            stackwise_output_filters=[8, 8, 16, 16, 16, 24, 24],
            stackwise_expansion_ratios=[1, 2, 2, 2, 2, 2, 2],
            stackwise_squeeze_and_excite_ratios=[0.25] * 7,
            stackwise_strides=[1, 2, 2, 2, 1, 2, 1],
            stackwise_block_types=["v1"] * 7,
            dropout=0.0,
        ),
        (LEVELS, (4, 8, 16, 32), 0, False),
    ),
    "DenseNet": (
        lambda: models.DenseNetBackbone([1] * 4, growth_rate=8),
        (LEVELS, (4, 8, 16, 32), 0, False),
    ),
    "Swin": (
        lambda: models.SwinTransformerBackbone(
            (128, 128, 3), 8, [1, 1, 2, 1], [1, 2, 2, 2], 4, drop_path=0.0
        ),
        (["pos_drop", "stage_0", "stage_1", "stage_3"], (4, 8, 16, 32), 0, True),
    ),
}
QUICK = [
    pytest.param(name, marks=pytest.mark.compiles_long if name != "ResNet" else ())
    for name in BACKBONES
]


def depth(backbone):
    encoder = as_encoder(backbone)
    widths = [8 if tap.reassemble else tap.channels for tap in encoder.taps]
    network = keras_dpt.DPTBackbone(backbone, reassemble_channels=widths, fusion_channels=8)
    return keras_dpt.DPTDepth(network, head_channels=(8, 4))


@pytest.mark.filterwarnings("ignore::UserWarning")  # keras-hub's Swin warns of its own masks
@pytest.mark.parametrize("name", BACKBONES)
def test_taps(name):
    make, (names, strides, count, reassemble) = BACKBONES[name]
    encoder = keras_dpt.KerasHubEncoder(make())
    assert encoder.outputs_of == names
    assert tuple(tap.stride for tap in encoder.taps) == strides
    assert {tap.num_prefix_tokens for tap in encoder.taps} == {count}
    assert {tap.reassemble for tap in encoder.taps} == {reassemble}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", QUICK)
def test_the_whole_way(name, tmp_path):
    """Photos in, training, and the same numbers from a file and from a preset."""
    make, (_, strides, _, _) = BACKBONES[name]
    model = depth(make())
    photo = tiny.photos(1, 50, 81)[0]
    assert model.predict_image(photo).values.shape == (50, 81)
    size = model.backbone.image_encoder.fixed_size or (64, 96)
    x = tiny.images(2, *size)
    y = np.random.default_rng(1).uniform(0.1, 1, (2, *size, 1)).astype("float32")
    model.compile(keras.optimizers.Adam(1e-3), "mse", metrics=None)
    losses = model.fit(x, y, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    before = predict(model, (x,))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(predict(again, (x,)), before)
    model.save_to_preset(tmp_path / "preset")
    again = keras_dpt.DPTDepth.from_preset(str(tmp_path / "preset"))
    np.testing.assert_array_equal(predict(again, (x,)), before)
    assert [tap.stride for tap in again.backbone.image_encoder.taps] == list(strides)


@pytest.mark.slow
@pytest.mark.skipif("DATA" not in os.environ, reason="make test-slow DATA=folder")
def test_dinov3_learns_from_real_frames():
    keras.utils.set_random_seed(0)
    model = depth(BACKBONES["DINOV3"][0]())
    converter = keras_dpt.DPTImageConverter((64, 96), keep_aspect_ratio=False)
    model.preprocessor = keras_dpt.DPTDepthPreprocessor(converter)
    frames = datasets.nyuv2(Path(os.environ["DATA"]) / "nyuv2", "train").subset(slice(0, 8))
    batches = datasets.Batches(frames, (64, 96), 4, "inverse_depth", augment=False)
    model.compile(learning_rate={"encoder": 1e-3, "decoder": 1e-3})
    losses = model.fit(batches, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0], losses


def test_features_are_the_backbones():
    """The grid row by row, without the tokens before it; with the backbone's own weights."""
    backbone = BACKBONES["DINOV3"][0]()
    x = tiny.images(1, 64, 96)
    inner = keras.Model(backbone.input, backbone.pyramid_outputs["stage5"])
    tokens = keras.ops.convert_to_numpy(inner({"pixel_values": x}))
    encoder = keras_dpt.KerasHubEncoder(backbone)
    features = {name: keras.ops.convert_to_numpy(f) for name, f in encoder(x).items()}
    np.testing.assert_allclose(features["prefix4"], tokens[:, :5], atol=1e-6)
    np.testing.assert_allclose(features["stage4"].reshape(1, 24, 32), tokens[:, 5:], atol=1e-6)


def test_blocks_of_ones_choice():
    backbone = BACKBONES["ViT"][0]()
    encoder = keras_dpt.KerasHubEncoder(backbone, EVERY_BLOCK)
    x = tiny.images(1, 64, 64)
    whole = keras.ops.convert_to_numpy(backbone(x))
    last = keras.ops.convert_to_numpy(encoder(x)["stage4"]).reshape(1, 16, 32)
    norm = backbone.layers[-1].layer_norm
    np.testing.assert_allclose(keras.ops.convert_to_numpy(norm(last)), whole[:, 1:], atol=1e-5)


def test_a_fixed_size_is_said_in_one_sentence():
    model = depth(BACKBONES["ViT"][0]())
    with pytest.raises(ValueError) as caught:
        model.backbone.image_encoder(tiny.images(1, 64, 96))
    assert "64" in str(caught.value) and "\n\n" not in str(caught.value)
    with pytest.raises(ValueError, match="takes images of 64 x 64 .*Received: image_shape"):
        keras_dpt.DPTBackbone(BACKBONES["ViT"][0](), image_shape=(32, 32, 3))


@pytest.mark.parametrize("name, adapted", [("DINOV3", "q_proj"), ("ViT", "query")])
def test_lora(name, adapted):
    model = depth(BACKBONES[name][0]())
    model.backbone.enable_lora(2)
    names = [v.path for v in model.backbone.trainable_variables]
    assert not [path for path in names if path.endswith("kernel")]
    assert len([path for path in names if adapted in path and "lora" in path]) >= 8


def test_lora_without_a_layer_to_adapt():
    model = depth(BACKBONES["ResNet"][0]())
    count = len(model.trainable_variables)
    with pytest.raises(ValueError, match="target_layer_names"):
        model.backbone.enable_lora(2)
    assert len(model.trainable_variables) == count


def test_freezing():
    model = depth(BACKBONES["ResNet"][0]())
    model.backbone.image_encoder.freeze_norms()
    paths = [v.path for v in model.backbone.image_encoder.trainable_variables]
    assert paths and not [path for path in paths if "gamma" in path]
    model.backbone.image_encoder.trainable = False
    assert not model.backbone.image_encoder.trainable_variables
    assert model.trainable_variables


@pytest.mark.parametrize(
    "backbone, error, message",
    [
        (lambda: 3, TypeError, "Received: int"),
        (
            lambda: models.BertBackbone(100, 1, 2, 8, 16),
            ValueError,
            "not a backbone for images",
        ),
    ],
)
def test_other_things_are_refused(backbone, error, message):
    with pytest.raises(error, match=message):
        keras_dpt.DPTBackbone(backbone())


@pytest.mark.parametrize("outputs", [["P2", "P3", "P4"], ["P2", "P3", "P4", "P9"]])
def test_outputs_that_are_not_there(outputs):
    with pytest.raises(ValueError, match="four outputs of ResNetBackbone.*It has: P2, P3"):
        keras_dpt.KerasHubEncoder(BACKBONES["ResNet"][0](), outputs)
