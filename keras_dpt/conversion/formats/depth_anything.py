"""Depth Anything V1 and V2: names in the authors' `.pth` files and in Hugging Face's checkpoints.

V1, V2 and V2's metric models have the same tensors. Only a file's name or hash, Hugging Face's
config or the user can tell them apart.
"""

import re

from keras_dpt.conversion.architecture import read_architecture
from keras_dpt.conversion.engine import CheckpointFormat, has, norm, weights
from keras_dpt.conversion.formats import hf_dpt
from keras_dpt.conversion.formats.dinov2 import (
    IMAGENET,
    UPSTREAM,
    authors_rules,
    hub_encoder,
    hub_rules,
    native_image,
)
from keras_dpt.encoders.dinov2 import DINOv2Encoder
from keras_dpt.errors import WeightsError

HEAD = "depth_head"
UNIT = HEAD + ".scratch.refinenet{n}.resConfUnit{m}"

RULES = (
    *authors_rules("pretrained."),
    *norm("norm", "pretrained.norm"),
    *weights("reassemble_{n}/projection", HEAD + ".projects.{n-1}"),
    *weights("reassemble_{n}/resize", HEAD + ".resize_layers.{n-1}"),
    *weights("fusion_input_{n}", HEAD + ".scratch.layer{n}_rn"),
    *weights("fusion_{n}/residual_unit{m}/conv{k}", UNIT + ".conv{k}"),
    *weights("fusion_{n}/projection", HEAD + ".scratch.refinenet{n}.out_conv"),
    *weights("depth_head/conv1", HEAD + ".scratch.output_conv1"),
    *weights("depth_head/conv2", HEAD + ".scratch.output_conv2.0"),
    *weights("depth_head/conv3", HEAD + ".scratch.output_conv2.2"),
)
HUB_RULES = (
    *hub_rules("backbone."),
    *norm("norm", "backbone.layernorm"),
    *hf_dpt.NECK,
    *weights("depth_head/conv{k}", "head.conv{k}"),
)
NO_SKIP = "the deepest fusion has no skip to refine"
NO_MASK = "token that replaces masked patches in DINOv2's training"

SIZES = {"s": "small", "b": "base", "l": "large"}
SCENES = {"hypersim": "indoor", "vkitti": "outdoor"}
# The only supported values, which are transformers' defaults too.
FIXED = {"head_in_index": -1, "reassemble_factors": [4, 2, 1, 0.5]}

is_authors = has(r"pretrained\.(blocks|cls_token|pos_embed|patch_embed)", r"depth_head\.")
is_hub = has(r"backbone\.(embeddings|encoder)\.", r"neck\.", r"head\.conv\d\.")


def matches_authors(specs, hf_config=None):
    """Whether this is a Depth Anything, V1 or V2, with its authors' names."""
    return is_authors(specs)


def matches_hub(specs, hf_config=None):
    """Whether this is a Depth Anything, V1 or V2, with Hugging Face's names."""
    return is_hub(specs)


def owns(config):
    """Whether this is the `config.json` of a Depth Anything, V1 or V2."""
    return config.get("model_type") == "depth_anything"


def preset_of(files):
    """Name of the preset whose official file has one of these names, or `None`."""
    for file in files:
        if match := re.search(r"depth_anything_v2_metric_(hypersim|vkitti)_vit([sbl])\b", file):
            return f"depth_anything_v2_metric_{SCENES[match[1]]}_{SIZES[match[2]]}"
        if match := re.search(r"depth_anything_v2_vit([sbl])\b", file):
            return f"depth_anything_v2_{SIZES[match[1]]}"
        if match := re.search(r"depth_anything_vit([sbl])14\b", file):
            return f"depth_anything_{SIZES[match[1]]}"
    return None


def read(shapes, encoders, hf_config=None):
    """The architecture that the tensors show, with V2's taps."""
    return read_architecture(shapes, encoders, apply_final_norm=True, **UPSTREAM)


def read_hub(shapes, encoders, hf_config=None):
    """The architecture that the tensors and `config.json` show; without it that of V2.

    Raises: WeightsError: the config has a setting that is not supported, or the tensors are not
        sufficient.
    """
    if hf_config is None:
        return read(shapes, encoders)
    for key, value in FIXED.items():
        if hf_config.get(key, value) != value:
            raise WeightsError(
                f"config.json says {key} = {hf_config[key]!r}; only {value!r} is supported."
            )
    architecture = read_architecture(shapes, encoders, **hub_encoder(hf_config))
    kind = hf_config.get("depth_estimation_type") or "relative"
    max_depth = hf_config.get("max_depth") or 1
    if kind == "metric":
        output = {"kind": "metric_depth", "max_depth": max_depth}
    elif kind == "relative" and max_depth == 1:
        output = {"kind": "relative_inverse_depth"}
    else:
        raise WeightsError(
            f"config.json says depth_estimation_type = {kind!r} and max_depth = {max_depth!r}; "
            'only "metric", and "relative" with max_depth 1, are supported.'
        )
    architecture["task_config"] |= output
    return architecture


def hub_image(architecture, hf_image=None):
    """Image geometry of `preprocessor_config.json`, by default as all of them on the hub."""
    if hf_image is None:
        hf_image = {
            "keep_aspect_ratio": True,
            "image_mean": IMAGENET["mean"],
            "image_std": IMAGENET["std"],
        }
    multiple = architecture["encoder_config"]["patch_size"]
    return hf_dpt.image_from(architecture, hf_image, multiple)


AUTHORS = CheckpointFormat(
    name="depth_anything",
    task="depth",
    encoders=(DINOv2Encoder,),
    matches=matches_authors,
    rules=RULES,
    ignore={
        r"pretrained\.mask_token$": NO_MASK,
        r"depth_head\.scratch\.refinenet4\.resConfUnit1\.": NO_SKIP,
    },
    read=read,
    image_from=native_image,
    preset_of=preset_of,
    ambiguous=True,
)
HUGGING_FACE = CheckpointFormat(
    name="hf_depth_anything",
    task="depth",
    encoders=(DINOv2Encoder,),
    matches=matches_hub,
    rules=HUB_RULES,
    ignore={
        r"backbone\.embeddings\.mask_token$": NO_MASK,
        r"neck\.fusion_stage\.layers\.0\.residual_layer1\.": NO_SKIP,
    },
    read=read_hub,
    image_from=hub_image,
    owns=owns,
    ambiguous=True,
)
