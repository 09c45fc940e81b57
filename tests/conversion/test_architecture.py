"""What a checkpoint's names and shapes, and a Hugging Face config, say about the network."""

import pytest

from keras_dpt.conversion.architecture import (
    differences,
    original_image,
    read_encoder,
)
from keras_dpt.conversion.formats import hf_dpt, isl_org, vit_imagenet
from keras_dpt.encoders.shapes import regular_taps
from keras_dpt.encoders.vit import ViTEncoder
from keras_dpt.errors import WeightsError
from keras_dpt.presets import read_preset
from keras_dpt.weights.readers import Spec

from .checkpoints import key_list

PAIRS = [("base", "dpt_base"), ("large", "dpt_large"), ("hybrid", "dpt_hybrid")]


@pytest.mark.parametrize(("size", "preset"), PAIRS)
def test_the_authors_files_tell_all_of_the_presets(size, preset):
    told = isl_org.DEPTH.config_from(key_list(f"isl_{size}"))
    assert told == read_preset(preset)["architecture"]


@pytest.mark.parametrize(("size", "preset"), PAIRS)
def test_hugging_face_files_differ_by_two_formulas(size, preset):
    told = hf_dpt.DEPTH.config_from(key_list(f"hf_{size}"))
    wanted = read_preset(preset)["architecture"]
    wanted["encoder_config"]["layer_norm_epsilon"] = 1e-12
    if size == "hybrid":
        wanted["encoder_config"]["weight_standardization"] = "variance"
    assert told == wanted


def test_hugging_face_config_settles_what_tensors_do_not_tell():
    config = {
        "model_type": "dpt",
        "num_attention_heads": 6,
        "backbone_out_indices": [1, 2, 7, 10],
        "neck_ignore_stages": [0, 1],
        "layer_norm_eps": 1e-5,
        "backbone_config": {"num_groups": 16},
    }
    encoder = hf_dpt.DEPTH.config_from(key_list("hf_hybrid"), config)["encoder_config"]
    assert encoder["num_heads"] == 6 and encoder["num_groups"] == 16
    assert encoder["out_indices"] == [7, 10] and encoder["layer_norm_epsilon"] == 1e-5
    config = {"backbone_out_indices": [1, 2, 7, 10], "neck_ignore_stages": []}
    encoder = hf_dpt.DEPTH.config_from(key_list("hf_base"), config)["encoder_config"]
    assert encoder["out_indices"] == [1, 2, 7, 10]


def without(specs, part):
    return {name: spec for name, spec in specs.items() if part not in name}


def test_readouts_without_weights():
    specs = without(key_list("hf_base"), "readout_projects")
    assert hf_dpt.DEPTH.config_from(specs)["backbone_config"]["readout"] == "ignore"
    told = hf_dpt.DEPTH.config_from(specs, {"readout_type": "add"})
    assert told["backbone_config"]["readout"] == "add"
    specs = without(key_list("isl_base"), "project.0")
    assert isl_org.DEPTH.config_from(specs)["backbone_config"]["readout"] == "ignore"


def test_batch_normalisation():
    specs = {}
    for name, spec in key_list("isl_base").items():
        unit, _, layer = name.rpartition(".conv")
        if "resConfUnit" in unit and layer.endswith(".bias"):
            leaves = ("weight", "bias", "running_mean", "running_var")
            specs |= {f"{unit}.bn{layer[0]}.{leaf}": spec for leaf in leaves}
        else:
            specs[name] = spec
    assert isl_org.DEPTH.config_from(specs)["backbone_config"]["use_batch_norm"] is True


def test_choices_that_our_layers_do_not_have_are_refused():
    with pytest.raises(WeightsError, match="hidden_act = 'relu'; only 'gelu'"):
        hf_dpt.DEPTH.config_from(key_list("hf_base"), {"hidden_act": "relu"})


def timm_vit(size="base", prefix="pretrained.model."):
    """Names of timm's classifier, which the authors' encoders are."""
    names = key_list(f"isl_{size}").items()
    return {name[len(prefix) :]: spec for name, spec in names if name.startswith(prefix)}


def hugging_face_vit():
    names = {name: spec for name, spec in key_list("hf_base").items() if name.startswith("dpt.")}
    head = {
        "classifier.weight": Spec((1000, 768), "float32"),
        "classifier.bias": Spec((1000,), "float32"),
    }
    return {name.replace("dpt.", "vit.", 1): spec for name, spec in names.items()} | head


def test_classifiers_become_dpt_base():
    wanted = read_preset("dpt_base")["architecture"]
    assert vit_imagenet.TIMM.config_from(timm_vit()) == wanted
    wanted["encoder_config"]["layer_norm_epsilon"] = 1e-12
    assert vit_imagenet.HUGGING_FACE.config_from(hugging_face_vit()) == wanted
    large = vit_imagenet.TIMM.config_from(timm_vit("large"))
    assert large == read_preset("dpt_large")["architecture"]


def test_a_non_square_grid_is_left_to_the_preset():
    specs = key_list("isl_base")
    specs["pretrained.model.pos_embed"] = Spec((1, 1 + 22 * 76, 768), "float32")
    assert isl_org.DEPTH.config_from(specs)["encoder_config"]["position_grid"] == [24, 24]
    specs["pretrained.model.pos_embed"] = Spec((1, 1 + 30 * 30, 768), "float32")
    assert isl_org.DEPTH.config_from(specs)["encoder_config"]["position_grid"] == [30, 30]


def test_too_little_to_tell():
    specs = {name: spec for name, spec in key_list("isl_base").items() if "blocks" in name}
    with pytest.raises(WeightsError, match="Unsupported or incomplete.*fusion_input_1/kernel"):
        isl_org.DEPTH.config_from(specs)
    with pytest.raises(WeightsError, match="block"):
        read_encoder({}, [ViTEncoder])


def test_taps_are_the_official_ones():
    assert regular_taps(12) == [2, 5, 8, 11]
    assert regular_taps(24) == [5, 11, 17, 23]
    assert regular_taps(4) == [0, 1, 2, 3]


def test_differences_are_those_that_tensors_show():
    ours, theirs = (read_preset(name)["architecture"] for name in ("dpt_hybrid", "dpt_hybrid_nyu"))
    theirs["encoder_config"]["weight_standardization"] = "variance"
    assert differences(ours, theirs) == []  # constants and formulas are not in the tensors
    theirs["encoder_config"]["mlp_dim"] = 1
    theirs["backbone_config"]["readout"] = "ignore"
    assert differences(ours, theirs) == [
        "encoder_config.mlp_dim: 3072 in the checkpoint, 1 in the preset",
        "backbone_config.readout: project in the checkpoint, ignore in the preset",
    ]
    ours["backbone_config"]["readout"] = "add"
    assert len(differences(ours, theirs)) == 1  # add and ignore have the same tensors: none
    large = read_preset("dpt_large")["architecture"]
    lines = differences(ours, large)
    assert "encoder: ViTHybridEncoder in the checkpoint, ViTEncoder in the preset" in lines
    assert any(line.startswith("encoder_config.stage_depths: [3, 4, 9]") for line in lines)


def test_images_of_the_authors_scripts():
    preset = read_preset("dpt_large")
    assert original_image(preset["architecture"]) == preset["image"]
    # A grid is in tokens; the hybrid's patches are 1 x 1 cells of a map at stride 16.
    hybrid = read_preset("dpt_hybrid")
    assert original_image(hybrid["architecture"])["image_size"] == [384, 384]


def test_images_of_hugging_face_processors():
    architecture = read_preset("dpt_large")["architecture"]
    squash = {
        "image_size": [384, 384],
        "keep_aspect_ratio": False,
        "multiple_of": 32,
        "resize": "bicubic_antialias",
        "mean": 0.5,
        "std": 0.5,
    }
    assert hf_dpt.image_from(architecture) == squash
    told = hf_dpt.image_from(
        architecture,
        {
            "size": {"height": 256, "width": 512},
            "keep_aspect_ratio": True,
            "ensure_multiple_of": 14,
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.2, 0.2, 0.2],
        },
    )
    assert told["image_size"] == [256, 512] and told["keep_aspect_ratio"] is True
    assert told["multiple_of"] == 224  # both conditions hold
    assert told["mean"] == [0.485, 0.456, 0.406] and told["std"] == 0.2
    told = hf_dpt.image_from(architecture, {"size": 448, "do_normalize": False})
    assert (told["image_size"], told["mean"], told["std"]) == ([448, 448], 0.0, 1.0)
