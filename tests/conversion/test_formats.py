"""Every checkpoint is of one format, or is called by its name."""

import json

import pytest
from safetensors.numpy import save_file

import keras_dpt
from keras_dpt.conversion.formats import (
    FORMATS,
    UNSUPPORTED,
    check_config,
    format_of,
    is_checkpoint,
)
from keras_dpt.encoders import ENCODERS
from keras_dpt.errors import WeightsError
from keras_dpt.models.tasks import TASKS
from keras_dpt.weights.readers import Spec

from .checkpoints import KEYS, key_list, small_tensors

SUPPORTED = {
    "isl_base": "isl_org",
    "isl_large": "isl_org",
    "isl_hybrid": "isl_org",
    "isl_large_ade20k": "isl_org_segmentation",
    "isl_hybrid_ade20k": "isl_org_segmentation",
    "hf_base": "hf_dpt",
    "hf_large": "hf_dpt",
    "hf_hybrid": "hf_dpt",
    "hf_large_ade20k": "hf_dpt_segmentation",
    "depth_anything_small": "depth_anything",
    "hf_depth_anything_small": "hf_depth_anything",
    "dinov2_small": "dinov2_depther",
    "hf_dinov2_small": "hf_dinov2_depther",
    "isl_deit_base_distilled": "isl_org",
    "isl_beit_base_384": "isl_org_beit",
    "hf_beit_base_384": "hf_dpt_beit",
    "isl_swin_large_384": "isl_org_swin",
    "isl_midas_v21": "midas_v21",
    "isl_midas_v21_small": "midas_v21_small",
    "isl_swin2_tiny_256": "isl_org_swin2",
    "hf_swin2_tiny_256": "hf_dpt_swinv2",
}
# Lists in keys/unsupported.txt: the first tensor of each kind.
NAMED = {
    "isl_levit_224": "a DPT with a LeViT encoder (MiDaS 3.1)",
    "isl_next_vit_large_384": "a DPT with a Next-ViT encoder (MiDaS 3.1)",
}
# Names that their published code or others' converters show; there are no whole lists of them.
DA3 = (
    "model.backbone.pretrained.blocks.0.ls1.gamma",
    "model.head.scratch.refinenet1.out_conv.bias",
)
ZOE = ("core.core.pretrained.model.blocks.0.gamma_1", "core.core.scratch.layer1_rn.weight")
ZOE += ("conv2.weight", "seed_bin_regressor._net.0.weight", "conditional_log_binomial.mlp.0.weight")
ZOE_HF = ("backbone.encoder.layer.0.lambda_1", "neck.convs.0.weight", "relative_head.conv1.weight")
ZOE_HF += ("metric_head.attractors.0.conv1.weight",)


def specs_of(names):
    return {name: Spec((1,), "float32") for name in names}


def unsupported(name):
    """Specs of a list in keys/unsupported.txt."""
    text = (KEYS / "unsupported.txt").read_text(encoding="utf-8")
    sections = dict(part.split("\n", 1) for part in text.split("# ")[1:])
    return specs_of(sections[name].split())


@pytest.mark.parametrize(("keys", "name"), SUPPORTED.items())
def test_one_format_takes_a_checkpoint(keys, name):
    specs = key_list(keys)
    assert [f for f, layout in FORMATS.items() if layout.matches(specs)] == [name]
    assert format_of(specs) is FORMATS[name]


@pytest.mark.parametrize(("keys", "name"), NAMED.items())
def test_others_are_named(keys, name):
    specs = unsupported(keys)
    assert not [f for f, layout in FORMATS.items() if layout.matches(specs)]
    with pytest.raises(WeightsError) as caught:
        format_of(specs)
    formats = ", ".join(FORMATS)
    assert str(caught.value) == (
        f"This is {name}, which is not supported. Supported formats: {formats}."
    )


@pytest.mark.parametrize(
    ("tensors", "name"),
    [
        (DA3, "Depth Anything 3"),
        (ZOE, "ZoeDepth"),
        (ZOE_HF, "ZoeDepth"),
        (("blocks.0.attn.qkv.weight", "blocks.0.ls1.gamma"), "a DINOv2 encoder without a decoder"),
        (("blocks.0.attn.qkv.weight", "blocks.0.gamma_1"), "a BEiT"),
    ],
)
def test_others_are_named_by_a_few_tensors(tensors, name):
    with pytest.raises(WeightsError, match=f"This is {name}"):
        format_of(specs_of(tensors))


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"model_type": "zoedepth"}, "ZoeDepth"),
        ({"model_type": "prompt_depth_anything", "backbone_config": {}}, "Prompt Depth Anything"),
        ({"model_type": "depth_pro"}, "Depth Pro"),
        ({"model_name": "da3-large", "config": {}}, "Depth Anything 3"),
        (
            {"model_type": "dpt", "backbone_config": {"model_type": "dinov2_with_registers"}},
            "a DPT with a DINOv2 encoder with registers",
        ),
        ({"model_type": "dpt", "backbone_config": {"model_type": "swin"}}, "a DPT with a Swin"),
        (
            {"model_type": "dpt", "backbone_config": {"model_type": "convnext"}},
            "a DPT with another",
        ),
    ],
)
def test_a_config_names_them_too(config, name):
    assert is_checkpoint(config)
    with pytest.raises(WeightsError, match=f"This is {name}"):
        check_config(config)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "dpt"},
        {"model_type": "dpt", "is_hybrid": True, "backbone_config": {"model_type": "bit"}},
        {"registered_name": "keras_hub>DepthAnythingBackbone"},
        {"model_type": "vit"},
        {"model_type": "depth_anything", "backbone_config": {"model_type": "dinov2"}},
        {"model_type": "dpt", "backbone_config": {"model_type": "dinov2"}},
        {"architecture": "vit_base_patch16_384"},
    ],
)
def test_configs_of_what_is_converted(config):
    assert is_checkpoint(config)
    check_config(config)


def test_other_libraries_configs():
    for config in ({"registered_name": "keras_dpt>DPTBackbone"}, {"model_type": "bert"}, {}):
        assert not is_checkpoint(config)
        check_config(config)


def test_formats_name_what_exists():
    for layout in FORMATS.values():
        assert layout.task in TASKS and layout.encoders
        assert all(ENCODERS[encoder.__name__] is encoder for encoder in layout.encoders)
    assert len({other.name for other in UNSUPPORTED}) == len(UNSUPPORTED)


@pytest.mark.parametrize("wrapped", ["model", "state_dict"])
def test_wrapped_checkpoints_are_named_too(tmp_path, wrapped):
    """ZoeDepth's files hold a dictionary of one."""
    torch = pytest.importorskip("torch")
    torch.save({wrapped: {name: torch.zeros(1) for name in ZOE}}, tmp_path / "zoe.pt")
    with pytest.raises(WeightsError, match="This is ZoeDepth"):
        keras_dpt.convert(tmp_path / "zoe.pt", tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["zoe.pt"]


def test_a_midas_beit_is_not_taken_for_a_plain_vit(tmp_path):
    """It has all that a ViT has, but for the positions."""
    tensors = small_tensors()
    table = {"pretrained.model.blocks.0.attn.relative_position_bias_table": tensors.popitem()[1]}
    save_file(tensors | table, tmp_path / "beit.safetensors")
    with pytest.raises(WeightsError, match="incomplete checkpoint: no tensor makes"):
        keras_dpt.convert(tmp_path / "beit.safetensors", tmp_path / "out")


def test_a_directory_is_named_by_its_config(tmp_path):
    (tmp_path / "zoe").mkdir()
    (tmp_path / "zoe" / "config.json").write_text(json.dumps({"model_type": "zoedepth"}))
    save_file(small_tensors("hf_base"), tmp_path / "zoe" / "model.safetensors")
    with pytest.raises(WeightsError, match="This is ZoeDepth"):
        keras_dpt.DPTDepth.from_preset(str(tmp_path / "zoe"))
