"""DINOv2's DPT depth heads on its encoder: names in the authors' two files and on the hub."""

import re

from keras_dpt.conversion.architecture import read_architecture
from keras_dpt.conversion.engine import CheckpointFormat, has, weights
from keras_dpt.conversion.formats import hf_dpt
from keras_dpt.conversion.formats.depth_anything import NO_MASK, NO_SKIP, SIZES
from keras_dpt.conversion.formats.dinov2 import (
    UPSTREAM,
    authors_rules,
    hub_encoder,
    hub_rules,
    padded_image,
)
from keras_dpt.conversion.formats.isl_org import readout_rules
from keras_dpt.encoders.dinov2 import DINOv2Encoder
from keras_dpt.encoders.shapes import vote
from keras_dpt.errors import WeightsError

BLOCKS = "decode_head.reassemble_blocks"
FUSION = "decode_head.fusion_blocks.{4-n}"

RULES = (
    *authors_rules(""),  # the file of the encoder alone
    *authors_rules("backbone."),
    *readout_rules(BLOCKS + ".readout_projects.{n-1}.0"),
    *weights("reassemble_{n}/projection", BLOCKS + ".projects.{n-1}.conv"),
    *weights("reassemble_{n}/resize", BLOCKS + ".resize_layers.{n-1}"),
    *weights("fusion_input_{n}", "decode_head.convs.{n-1}.conv"),
    *weights("fusion_{n}/residual_unit{m}/conv{k}", FUSION + ".res_conv_unit{m}.conv{k}.conv"),
    *weights("fusion_{n}/projection", FUSION + ".project.conv"),
    *weights("depth_head/projection", "decode_head.project.conv"),
    *weights("depth_head/conv1", "decode_head.conv_depth.head.0"),
    *weights("depth_head/conv2", "decode_head.conv_depth.head.2"),
    *weights("depth_head/conv3", "decode_head.conv_depth.head.4"),
)
HUB_RULES = (
    *hub_rules("backbone."),
    *readout_rules(hf_dpt.REASSEMBLE + ".readout_projects.{n-1}.0"),
    *hf_dpt.NECK,
    *weights("depth_head/projection", "head.projection"),
    *hf_dpt.DEPTH_HEAD,
)
NO_NORM = "final norm, which these heads do not use"

is_authors = has(r"decode_head\.(reassemble_blocks|fusion_blocks|convs|project|conv_depth)\.")
is_hub = has(r"backbone\.(embeddings|encoder\.layer)\.", r"neck\.", r"head\.head\.")
scales = has(r"backbone\.encoder\.layer\.\d+\.layer_scale\d")


def matches_authors(specs, hf_config=None):
    """Whether this is a depth head of DINOv2 with its authors' names, with or without encoder."""
    return is_authors(specs)


def matches_hub(specs, hf_config=None):
    """Whether this is DINOv2 with its depth head, with Hugging Face's names."""
    return is_hub(specs) and scales(specs)


def owns(config):
    """Whether this is the `config.json` of a DPT on a DINOv2."""
    encoder = config.get("backbone_config") or {}
    return config.get("model_type") == "dpt" and encoder.get("model_type") == "dinov2"


def preset_of(files):
    """Name of the preset whose official head has one of these names, or `None`."""
    for file in files:
        if match := re.search(r"dinov2_vit([sbl])14_(nyu|kitti)_dpt_head\b", file):
            return f"dinov2_dpt_{SIZES[match[1]]}_{match[2]}"
    return None


def read(shapes, encoders, hf_config=None):
    """The architecture that the tensors show."""
    if not any(path.startswith("block_") for path in shapes):
        raise WeightsError(
            "This is a depth head of DINOv2 without its encoder. Put it and the encoder's file, "
            "such as dinov2_vits14_nyu_dpt_head.pth and dinov2_vits14_pretrain.pth, into a "
            "directory of their own, and give that."
        )
    return _with_head(
        read_architecture(shapes, encoders, apply_final_norm=False, **UPSTREAM), shapes
    )


def read_hub(shapes, encoders, hf_config=None):
    """The architecture that the tensors and `config.json` show; without it that of the authors.

    Raises: WeightsError: as for the other formats.
    """
    if hf_config is None:
        return read(shapes, encoders)
    expected = {"readout_type": "project", "add_projection": True, "head_in_index": -1}
    for key, value in expected.items():
        if hf_config.get(key, value) != value:
            raise WeightsError(
                f"config.json says {key} = {hf_config[key]!r}; only {value!r} is supported."
            )
    architecture = read_architecture(shapes, encoders, **hub_encoder(hf_config))
    architecture = _with_head(architecture, shapes)
    # transformers ends with the ReLU: metres, neither shifted nor clamped.
    architecture["task_config"] |= {
        "kind": "metric_depth",
        "output_resize": "bicubic",
        "output_layer": clamped(0.0, 1e4, 0.0),
    }
    return architecture


def clamped(min_depth, max_depth, offset):
    """A `Clamped` layer as in a preset."""
    config = {
        "name": "metres",
        "dtype": "float32",
        "min_depth": min_depth,
        "max_depth": max_depth,
        "offset": offset,
    }
    return {
        "module": None,
        "class_name": "Clamped",
        "config": config,
        "registered_name": "keras_dpt>Clamped",
    }


def _with_head(architecture, shapes):
    """What these decoders do differently from the 2021 networks."""
    architecture["backbone_config"] |= {"fusion_bias": False, "fusion_size": "double"}
    width = vote(shapes, {"depth_head/projection/": -1, "depth_head/conv1/kernel": 2})
    architecture["task_config"] |= {"head_projection_channels": width, "head_size": "double"}
    return architecture


AUTHORS = CheckpointFormat(
    name="dinov2_depther",
    task="depth",
    encoders=(DINOv2Encoder,),
    matches=matches_authors,
    rules=RULES,
    ignore={
        r"(backbone\.)?mask_token$": NO_MASK,
        r"(backbone\.)?norm\.": NO_NORM,
        r"decode_head\.fusion_blocks\.0\.res_conv_unit1\.": NO_SKIP,
    },
    read=read,
    image_from=padded_image,
    preset_of=preset_of,
    ambiguous=True,
)
HUGGING_FACE = CheckpointFormat(
    name="hf_dinov2_depther",
    task="depth",
    encoders=(DINOv2Encoder,),
    matches=matches_hub,
    rules=HUB_RULES,
    ignore={
        r"backbone\.embeddings\.mask_token$": NO_MASK,
        r"backbone\.layernorm\.": NO_NORM,
        r"neck\.fusion_stage\.layers\.0\.residual_layer1\.": NO_SKIP,
    },
    read=read_hub,
    image_from=padded_image,
    owns=owns,
    untold=frozenset({"output_layer", "output_resize"}),
    ambiguous=True,
)
