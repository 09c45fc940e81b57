"""What each format reads from names, shapes and configs: without a network, in milliseconds."""

import math
from types import SimpleNamespace

import keras_hub
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_dpt
from keras_dpt.conversion.engine import translate
from keras_dpt.conversion.formats import (
    FORMATS,
    beit,
    depth_anything,
    dinov2,
    dinov2_depther,
    format_of,
    hf_dpt,
    midas_v21,
    swin,
)
from keras_dpt.conversion.formats import keras_hub as keras_hub_format
from keras_dpt.errors import WeightsError
from keras_dpt.presets import read_preset
from keras_dpt.weights.readers import Spec

from .checkpoints import key_list, small_tensors

# Where tensors do not tell a setting, and the default is that of transformers or of V2.
EPSILON = {"encoder_config.layer_norm_epsilon": 1e-12}
VARIANCE = {"encoder_config.weight_standardization": "variance"}
RELATIVE = {"task_config.kind": "relative_inverse_depth"}
PUBLIC = [
    ("isl_base", "dpt_base", {}),
    ("isl_hybrid", "dpt_hybrid", {}),
    ("hf_base", "dpt_base", EPSILON),
    ("hf_hybrid", "dpt_hybrid", EPSILON | VARIANCE),
    ("isl_large_ade20k", "dpt_large_ade20k", {}),
    ("isl_hybrid_ade20k", "dpt_hybrid_ade20k", {}),
    ("hf_large_ade20k", "dpt_large_ade20k", EPSILON),
    ("depth_anything_small", "depth_anything_v2_small", {}),
    ("hf_depth_anything_small", "depth_anything_v2_small", {}),
    ("dinov2_small", "dinov2_dpt_small_nyu", RELATIVE),
    ("hf_dinov2_small", "dinov2_dpt_small_nyu", RELATIVE),
    ("isl_deit_base_distilled", "dpt_deit_base_distilled", {}),
    ("isl_beit_base_384", "dpt_beit_base_384", {}),
    ("isl_beit_large_512", "dpt_beit_large_512", {}),
    ("hf_beit_base_384", "dpt_beit_base_384", EPSILON),
    ("isl_midas_v21", "midas_v21", {}),
    ("isl_midas_v21_small", "midas_v21_small", {}),
    ("isl_swin2_tiny_256", "dpt_swin2_tiny_256", {}),
    ("hf_swin2_tiny_256", "dpt_swin2_tiny_256", {}),
    ("isl_swin2_base_384", "dpt_swin2_base_384", {}),
    ("isl_swin2_large_384", "dpt_swin2_large_384", {}),
    ("isl_swin_large_384", "dpt_swin_large_384", {}),
]


def flat(architecture):
    """`{"encoder_config.num_layers": ...}`."""
    settings = {"encoder": architecture["encoder"]}
    for part in ("encoder_config", "backbone_config", "task_config"):
        settings |= {f"{part}.{key}": value for key, value in architecture[part].items()}
    return settings


def writes_of(keys):
    specs = key_list(keys)
    writes, problems = translate(format_of(specs).rules, format_of(specs).ignore, specs)
    assert not problems
    return writes


@pytest.mark.parametrize(("keys", "preset", "untold"), PUBLIC, ids=[x for x, *_ in PUBLIC])
def test_public_files_tell_the_architecture_of_their_presets(keys, preset, untold):
    specs, preset = key_list(keys), read_preset(preset)
    told, wanted = flat(format_of(specs).config_from(specs)), flat(preset["architecture"])
    assert told == {key: wanted[key] for key in told} | untold
    total = sum(math.prod(write.shape) for write in writes_of(keys).values())
    assert total == preset["parameters"]


@pytest.mark.parametrize(
    ("authors", "hugging_face"),
    [
        ("isl_base", "hf_base"),
        ("isl_hybrid", "hf_hybrid"),
        ("isl_large_ade20k", "hf_large_ade20k"),
        ("depth_anything_small", "hf_depth_anything_small"),
        ("dinov2_small", "hf_dinov2_small"),
        ("isl_beit_base_384", "hf_beit_base_384"),
        ("isl_swin2_tiny_256", "hf_swin2_tiny_256"),
    ],
)
def test_both_files_of_a_network_make_the_same_variables(authors, hugging_face):
    shapes = [
        {path: write.shape for path, write in writes_of(keys).items()}
        for keys in (authors, hugging_face)
    ]
    assert shapes[0] == shapes[1]


IMAGES = [
    *("isl_base", "isl_hybrid", "depth_anything_small", "dinov2_small", "hf_dinov2_small"),
    *("isl_beit_base_384", "isl_midas_v21", "isl_midas_v21_small", "isl_swin2_tiny_256"),
    "isl_swin_large_384",
]


@pytest.mark.parametrize("keys", IMAGES)
def test_images_are_those_of_the_presets(keys):
    specs = key_list(keys)
    layout = format_of(specs)
    (preset,) = [preset for name, preset, _ in PUBLIC if name == keys]
    assert layout.image_from(layout.config_from(specs)) == read_preset(preset)["image"]


def test_images_of_depth_anything_on_the_hub():
    architecture = read_preset("depth_anything_v2_small")["architecture"]
    squash = {"multiple_of": 14, "resize": "bicubic_antialias", "image_size": [518, 518]}
    assert depth_anything.hub_image(architecture) == (
        squash | dinov2.IMAGENET | {"keep_aspect_ratio": True}
    )
    told = depth_anything.hub_image(architecture, {"image_mean": [0.5] * 3, "resample": 2})
    assert (told["mean"], told["std"]) == (0.5, 0.5) and not told["keep_aspect_ratio"]
    assert told["resize"] == "bilinear_antialias"


def test_means_of_pixels_from_0_to_255():
    architecture = read_preset("dinov2_dpt_small_nyu")["architecture"]
    settings = {"image_mean": [51.0, 102.0, 127.5], "image_std": [25.5] * 3}
    told = dinov2.padded_image(architecture, settings | {"do_rescale": False})
    assert told["mean"] == [0.2, 0.4, 0.5] and told["std"] == [0.1] * 3
    told = dinov2.padded_image(architecture, {"image_mean": [0.4, 0.5, 0.6]})
    assert told["mean"] == [0.4, 0.5, 0.6] and told["std"] == dinov2.IMAGENET["std"]


# --- Hugging Face's configs ---

BACKBONE = {"model_type": "dinov2", "out_indices": [3, 6, 9, 12]}


def hub(keys, config, **backbone):
    """The architecture that a public file on the hub has with this config."""
    specs = key_list(keys)
    config = config | {"backbone_config": backbone}
    return format_of(specs).config_from(specs, config)


@pytest.mark.parametrize("keys", ["hf_depth_anything_small", "hf_dinov2_small"])
def test_configs_of_dinov2(keys):
    encoder = hub(keys, {}, **BACKBONE)["encoder_config"]
    assert (encoder["out_indices"], encoder["num_heads"]) == ([2, 5, 8, 11], 12)
    assert (encoder["layer_norm_epsilon"], encoder["position_offset"]) == (1e-6, 0.0)
    assert encoder["apply_final_norm"] is True
    other = {"num_attention_heads": 6, "layer_norm_eps": 1e-5, "apply_layernorm": False}
    encoder = hub(keys, {}, **BACKBONE | other)["encoder_config"]
    assert (encoder["num_heads"], encoder["layer_norm_epsilon"]) == (6, 1e-5)
    assert encoder["apply_final_norm"] is False


@pytest.mark.parametrize(
    "taps",
    [
        {"out_indices": [4, 5, 8, 12]},
        {"_out_indices": [4, 5, 8, 12]},
        {"out_features": ["stage4", "stage5", "stage8", "stage12"]},
        {"_out_features": ["stage4", "stage5", "stage8", "stage12"]},
    ],
)
def test_taps_are_counted_from_the_embedding_on_the_hub(taps):
    assert dinov2.hub_encoder({"backbone_config": taps})["out_indices"] == [3, 4, 7, 11]


@pytest.mark.parametrize("taps", [{}, {"out_indices": [3, 6, 9]}, {"out_features": ["stage3"]}])
def test_four_taps_must_be_named(taps):
    with pytest.raises(WeightsError, match="four tapped blocks in backbone_config.out_indices"):
        dinov2.hub_encoder({"backbone_config": taps})


def test_depth_anything_is_metric_only_if_its_config_says_so():
    keys = "hf_depth_anything_small"
    relative = {"kind": "relative_inverse_depth", "head_channels": [32, 32]}
    assert hub(keys, {}, **BACKBONE)["task_config"] == relative
    told = {"depth_estimation_type": "relative", "max_depth": 1}
    assert hub(keys, told, **BACKBONE)["task_config"] == relative
    metric = {"depth_estimation_type": "metric", "max_depth": 80}
    wanted = {"kind": "metric_depth", "head_channels": [32, 32], "max_depth": 80}
    assert hub(keys, metric, **BACKBONE)["task_config"] == wanted
    for config in ({"max_depth": 20}, {"depth_estimation_type": "absolute"}):
        with pytest.raises(WeightsError, match="says depth_estimation_type = "):
            hub(keys, config, **BACKBONE)


def test_dinov2_depthers_on_the_hub_answer_metres_without_bounds():
    told = hub("hf_dinov2_small", {}, **BACKBONE)
    task = told["task_config"]
    assert task["output_layer"]["registered_name"] == "keras_dpt>Clamped"
    bounds = ("min_depth", "max_depth", "offset")
    assert [task["output_layer"]["config"][key] for key in bounds] == [0, 1e4, 0]
    assert task["head_channels"] == [128, 32] and task["head_projection_channels"] == 256
    assert (task["kind"], task["head_size"]) == ("metric_depth", "double")
    assert task["output_resize"] == "bicubic"
    backbone = told["backbone_config"]
    assert (backbone["fusion_bias"], backbone["fusion_size"]) == (False, "double")


def test_a_depth_head_alone_asks_for_its_encoder():
    specs = {key: x for key, x in key_list("dinov2_small").items() if "decode_head" in key}
    with pytest.raises(WeightsError, match="without its encoder"):
        format_of(specs).config_from(specs)


def test_configs_of_swin():
    encoder = hub("hf_swin2_tiny_256", {}, model_type="swinv2")["encoder_config"]
    assert (encoder["image_size"], encoder["window_size"]) == (224, 7)
    assert encoder["pretrained_window_sizes"] == [0, 0, 0, 0]
    assert encoder["layer_norm_epsilon"] == 1e-5
    told = {"image_size": 512, "window_size": 8, "pretrained_window_sizes": [6, 6, 6, 3]}
    encoder = hub("hf_swin2_tiny_256", {}, layer_norm_eps=1e-6, **told)["encoder_config"]
    assert {key: encoder[key] for key in told} == told
    assert encoder["layer_norm_epsilon"] == 1e-6


def test_configs_of_beit():
    features = [f"stage{n}" for n in (1, 5, 6, 11)]
    told = {"out_features": features, "num_attention_heads": 6, "layer_norm_eps": 1e-7}
    encoder = hub("hf_beit_base_384", {}, **told)["encoder_config"]
    assert encoder["out_indices"] == [0, 4, 5, 10] and encoder["num_heads"] == 6
    assert encoder["layer_norm_epsilon"] == 1e-7
    specs = {k: x for k, x in key_list("hf_beit_base_384").items() if "readout" not in k}
    for mode in ("add", "ignore"):
        told = beit.HUGGING_FACE.config_from(specs, {"readout_type": mode})
        assert told["backbone_config"]["readout"] == mode
    assert beit.HUGGING_FACE.config_from(specs)["backbone_config"]["readout"] == "ignore"


# A setting that our layers do not have, of each kind that a config can name.
REFUSED = [
    *(("hf_base", {key: 7}, {}) for key in hf_dpt.FIXED),
    *(("hf_depth_anything_small", {key: 7}, {}) for key in depth_anything.FIXED),
    *(("hf_depth_anything_small", {}, {key: 7}) for key in dinov2.FIXED),
    *(("hf_dinov2_small", {}, {key: 7}) for key in dinov2.FIXED),
    ("hf_dinov2_small", {"readout_type": "add"}, {}),
    ("hf_dinov2_small", {"add_projection": False}, {}),
    ("hf_dinov2_small", {"head_in_index": 0}, {}),
    *(("hf_swin2_tiny_256", {}, {key: 7}) for key in swin.FIXED),
    *(("hf_beit_base_384", {}, {key: 7}) for key in beit.FIXED),
]


@pytest.mark.parametrize(("keys", "config", "backbone"), REFUSED)
def test_settings_that_our_layers_do_not_have_are_refused(keys, config, backbone):
    ((key, value),) = (config | backbone).items()
    more = BACKBONE if "hf_base" not in keys else {}
    with pytest.raises(WeightsError, match=rf"{key} = {value!r}; only .* is supported"):
        hub(keys, config, **more | backbone)


OWNERS = [
    ({"model_type": "dpt"}, {"hf_dpt", "hf_dpt_segmentation"}),
    ({"model_type": "dpt", "backbone_config": {"model_type": "swinv2"}}, {"hf_dpt_swinv2"}),
    ({"model_type": "dpt", "backbone_config": {"model_type": "beit"}}, {"hf_dpt_beit"}),
    ({"model_type": "dpt", "backbone_config": {"model_type": "dinov2"}}, {"hf_dinov2_depther"}),
    ({"model_type": "depth_anything"}, {"hf_depth_anything"}),
    ({"model_type": "vit"}, {"hf_vit"}),
    ({"architecture": "vit_base_patch16_384"}, {"timm_vit"}),
    ({"architecture": "deit_base_distilled_patch16_384"}, {"timm_vit"}),
    ({"architecture": "resnet50"}, {"torchvision_resnet"}),
    ({"architecture": "resnext101_32x8d"}, {"torchvision_resnet"}),
    ({"registered_name": "keras_hub>DepthAnythingBackbone"}, {"keras_hub_depth_anything"}),
    ({"model_type": "zoedepth", "backbone_config": {"model_type": "beit"}}, set()),
    ({"model_type": "upernet", "backbone_config": {"model_type": "swinv2"}}, set()),
    ({"model_type": "upernet", "backbone_config": {"model_type": "dinov2"}}, set()),
]


@pytest.mark.parametrize(("config", "names"), OWNERS)
def test_a_config_belongs_to_its_format(config, names):
    assert {name for name, layout in FORMATS.items() if layout.owns(config)} == names


# --- presets of files ---


@pytest.mark.parametrize(
    ("file", "preset"),
    [
        ("depth_anything_v2_metric_hypersim_vits.pth", "depth_anything_v2_metric_indoor_small"),
        ("depth_anything_v2_metric_vkitti_vitl.pth", "depth_anything_v2_metric_outdoor_large"),
        ("depth_anything_v2_vitb.pth", "depth_anything_v2_base"),
        ("depth_anything_vitl14.pth", "depth_anything_large"),
        ("dinov2_vits14_nyu_dpt_head.pth", "dinov2_dpt_small_nyu"),
        ("dinov2_vitl14_kitti_dpt_head.pth", "dinov2_dpt_large_kitti"),
        ("model.safetensors", None),
    ],
)
def test_official_files_are_known_by_name(file, preset):
    ours = dinov2_depther if "dinov2" in file else depth_anything
    assert ours.preset_of(["config.json", file]) == preset
    assert preset is None or read_preset(preset)["name"] == preset


def test_an_official_name_is_compared_with_its_preset(tmp_path):
    """The name says which network a file without a config is of; the tensors, that it is not."""
    source = tmp_path / "depth_anything_v2_vits.safetensors"
    save_file(small_tensors("depth_anything_small"), source)
    with pytest.raises(WeightsError, match="is not of preset 'depth_anything_v2_small'"):
        keras_dpt.convert(source, tmp_path / "out", progress=False)


# --- classifiers ---


def test_a_resnet_classifier_gets_the_decoder_of_midas_v21():
    names = {"pretrained.layer1.0.": "conv1.", "pretrained.layer1.1.": "bn1."}
    names |= {"pretrained.layer1.4.": "layer1.", "pretrained.": ""}
    specs = {
        next(key.replace(a, b) for a, b in names.items() if key.startswith(a)): spec
        for key, spec in key_list("isl_midas_v21").items()
        if key.startswith("pretrained.")
    }
    assert format_of(specs) is midas_v21.TORCHVISION
    wanted = read_preset("midas_v21")["architecture"]
    assert midas_v21.TORCHVISION.config_from(specs) == wanted


# --- keras-hub's Depth Anything ---


def keras_hub_config(**backbone):
    keys = ["stage3", "stage6", "stage9", "stage12"]
    encoder = {"config": {"num_heads": 6} | backbone}
    return {"config": {"image_encoder": encoder, "feature_keys": keys}}


def our_shapes():
    return {path: write.shape for path, write in writes_of("depth_anything_small").items()}


def test_configs_of_keras_hub():
    layout = keras_hub_format.FORMAT
    told = layout.read(our_shapes(), layout.encoders, keras_hub_config())
    wanted = read_preset("depth_anything_v2_small")["architecture"]
    wanted["encoder_config"]["position_offset"] = 0.0
    assert flat(told) == {key: flat(wanted)[key] for key in flat(told)}
    config = keras_hub_config(apply_layernorm=False)
    told = layout.read(our_shapes(), layout.encoders, config)
    assert told["encoder_config"]["apply_final_norm"] is False


def test_settings_of_keras_hub_that_our_layers_have():
    layout = keras_hub_format.FORMAT
    config = keras_hub_config(use_swiglu_ffn=False, num_register_tokens=0)
    config["config"] |= {"reassemble_factors": [4, 2, 1, 0.5], "head_in_index": -1}
    told = layout.read(our_shapes(), layout.encoders, config)
    assert told == layout.read(our_shapes(), layout.encoders, keras_hub_config())


@pytest.mark.parametrize(
    ("setting", "backbone"),
    [
        ({"reassemble_factors": [4, 2, 1, 1]}, {}),
        ({"head_in_index": 0}, {}),
        ({}, {"use_swiglu_ffn": True}),
        ({}, {"num_register_tokens": 4}),
    ],
)
def test_settings_of_keras_hub_that_our_layers_do_not_have(setting, backbone):
    layout, config = keras_hub_format.FORMAT, keras_hub_config(**backbone)
    config["config"] |= setting
    ((key, value),) = (setting | backbone).items()
    with pytest.raises(WeightsError) as caught:
        layout.read(our_shapes(), layout.encoders, config)
    assert f"config.json says {key} = {value!r}; only " in str(caught.value)


class Network:
    """What a checkpoint of keras-hub needs of a loaded network."""

    image_encoder = SimpleNamespace(name="vit")
    weights = [SimpleNamespace(path=path, shape=(2, 3)) for path in ("vit_embeddings/a", "neck/b")]


def test_a_checkpoint_of_keras_hub_has_its_config_and_its_names(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"config": {"feature_keys": []}}')
    (tmp_path / "model.weights.h5").write_bytes(b"weights")
    network = keras_hub.models.DepthAnythingBackbone
    monkeypatch.setattr(network, "from_preset", lambda path: Network)
    checkpoint = keras_hub_format.KerasHubCheckpoint(tmp_path)
    assert checkpoint.hf_config == {"config": {"feature_keys": []}}
    spec = Spec((2, 3), "float32")
    assert checkpoint.specs == {"embeddings/a": spec, "neck/b": spec}
    assert [file.name for file in checkpoint.files] == ["model.weights.h5"]
    monkeypatch.setattr(network, "from_preset", lambda path: 1 / 0)
    with pytest.raises(WeightsError, match="keras-hub cannot load"):
        keras_hub_format.KerasHubCheckpoint(tmp_path)


def test_heads_of_keras_hub_are_joined_as_their_axes_say():
    query, key = np.arange(48.0).reshape(2, 4, 2, 3)
    both = keras_hub_format.joined(query, key)
    np.testing.assert_array_equal(both, np.hstack([query.reshape(4, 6), key.reshape(4, 6)]))
    output = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(keras_hub_format.of_all_heads(output), output.reshape(6, 4))
