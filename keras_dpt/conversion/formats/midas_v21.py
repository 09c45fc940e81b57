"""MiDaS 2.1 and its small version: names in the authors' `.pt` files; ResNets to start from."""

from keras_dpt.conversion.architecture import read_architecture, read_encoder
from keras_dpt.conversion.engine import CheckpointFormat, Rule, has, norm, weights
from keras_dpt.conversion.formats import isl_org
from keras_dpt.conversion.formats.dinov2 import IMAGENET
from keras_dpt.conversion.formats.efficientnet_lite import depthwise_to_keras
from keras_dpt.encoders.efficientnet_lite import EfficientNetLiteEncoder
from keras_dpt.encoders.resnet import ResNetEncoder
from keras_dpt.encoders.shapes import vote

COUNTER = {r".*num_batches_tracked$": "counter of PyTorch's batch normalisation"}
# MiDaS 2.1's decoder where it is not DPT's; see `DPTDecoder` and `DepthHead`.
DECODER = {"fusion_projection": False, "rectified_shortcut": True}
HEAD = {"head_align_corners": False}


def bottleneck_rules(ours, theirs):
    """Rules for one block with torchvision's names."""
    return (
        *weights(ours + "/conv{k}/conv", theirs + ".conv{k}"),
        *norm(ours + "/conv{k}/norm", theirs + ".bn{k}"),
        *weights(ours + "/shortcut/conv", theirs + ".downsample.0"),
        *norm(ours + "/shortcut/norm", theirs + ".downsample.1"),
    )


RULES = (
    *weights("stem/conv", "pretrained.layer1.0"),
    *norm("stem/norm", "pretrained.layer1.1"),
    # The stem and the first stage are one sequence; the others stand alone.
    *bottleneck_rules("stage_0_block_{j}", "pretrained.layer1.4.{j}"),
    *bottleneck_rules("stage_{n-1}_block_{j}", "pretrained.layer{n}.{j}"),
    *isl_org.FUSION,
    *isl_org.DEPTH_HEAD,
)
TORCHVISION_RULES = (
    *weights("stem/conv", "conv1"),
    *norm("stem/norm", "bn1"),
    *bottleneck_rules("stage_{n-1}_block_{j}", "layer{n}.{j}"),
)


def lite_block_rules(ours, theirs, separable=False):
    """Rules for a block with the names of gen-efficientnet-pytorch.

    Args: separable: whether it is of the first stage, which does not widen: there `conv_pw` is the
        last convolution.
    """
    names = ("depthwise", "project") if separable else ("expand", "depthwise", "project")
    last = "conv_pw" if separable else "conv_pwl"
    convolutions = {"expand": "conv_pw", "depthwise": "conv_dw", "project": last}
    rules = []
    for number, name in enumerate(names, 1):
        kernel = (f"{theirs}.{convolutions[name]}.weight",)
        transform = (depthwise_to_keras,) if name == "depthwise" else ()
        rules.append(Rule(f"{ours}/{name}/conv/kernel", kernel, *transform))
        rules += norm(f"{ours}/{name}/norm", f"{theirs}.bn{number}")
    return rules


SMALL_RULES = (
    *weights("stem/conv", "pretrained.layer1.0"),
    *norm("stem/norm", "pretrained.layer1.1"),
    *lite_block_rules("stage_0_block_{j}", "pretrained.layer1.3.{j}", separable=True),
    *lite_block_rules("stage_1_block_{j}", "pretrained.layer1.4.{j}"),
    *lite_block_rules("stage_2_block_{j}", "pretrained.layer2.0.{j}"),
    *lite_block_rules("stage_3_block_{j}", "pretrained.layer3.0.{j}"),
    *lite_block_rules("stage_4_block_{j}", "pretrained.layer3.1.{j}"),
    *lite_block_rules("stage_5_block_{j}", "pretrained.layer4.0.{j}"),
    *lite_block_rules("stage_6_block_{j}", "pretrained.layer4.1.{j}"),
    *isl_org.FUSION,
    *isl_org.DEPTH_HEAD,
)

is_midas = has(r"pretrained\.layer\d\.", r"scratch\.")
is_small = has(r"pretrained\.layer\d\.\d+\.\d+\.conv_(dw|pw)")
is_torchvision = has(r"layer1\.\d+\.(conv|bn)\d\.", r"layer4\.")


def matches(specs, hf_config=None):
    """Whether this is MiDaS 2.1, or 2, on ResNeXt."""
    return is_midas(specs) and not is_small(specs)


def matches_small(specs, hf_config=None):
    """Whether this is MiDaS 2.1 small."""
    return is_midas(specs) and is_small(specs)


def matches_torchvision(specs, hf_config=None):
    """Whether this is a ResNet or ResNeXt classifier with torchvision's names."""
    return is_torchvision(specs)


def owns_timm(config):
    """Whether this is the `config.json` of a ResNet or ResNeXt that timm put on the hub."""
    return str(config.get("architecture", "")).startswith(("resnet", "resnext"))


def read(shapes, encoders, hf_config=None):
    """The architecture that the tensors show, with MiDaS 2.1's decoder."""
    architecture = read_architecture(shapes, encoders)
    architecture["backbone_config"] |= DECODER
    architecture["task_config"] |= HEAD
    return architecture


def read_small(shapes, encoders, hf_config=None):
    """The architecture that the tensors show, whose decoder narrows towards the finest level."""
    architecture = read_architecture(shapes, encoders)
    widths = [vote(shapes, {f"fusion_input_{n}/kernel": -1}) for n in (1, 2, 3, 4)]
    architecture["backbone_config"]["fusion_channels"] = widths
    architecture["task_config"] |= HEAD
    return architecture


def read_torchvision(shapes, encoders, hf_config=None):
    """The encoder's architecture under a fresh decoder of MiDaS 2.1."""
    encoder, config = read_encoder(shapes, encoders)
    return {
        "encoder": encoder.__name__,
        "encoder_config": config,
        "backbone_config": {
            "readout": "ignore",
            "reassemble_channels": config["stage_channels"],
            "fusion_channels": 256,
            "use_batch_norm": False,
        }
        | DECODER,
        "task_config": {"head_channels": [128, 32], "kind": "relative_inverse_depth"} | HEAD,
    }


def image_of(side):
    """A function like `original_image`: the longer side becomes `side`."""

    def image_from(architecture, hf_image=None):
        return {
            "image_size": [side, side],
            "keep_aspect_ratio": True,
            "multiple_of": 32,
            "resize": "bicubic",
            "size_rule": "upper_bound",
            **IMAGENET,
        }

    return image_from


RESNEXT = CheckpointFormat(
    name="midas_v21",
    task="depth",
    encoders=(ResNetEncoder,),
    matches=matches,
    rules=RULES,
    ignore=COUNTER | isl_org.IGNORE,
    read=read,
    image_from=image_of(384),
)
SMALL = CheckpointFormat(
    name="midas_v21_small",
    task="depth",
    encoders=(EfficientNetLiteEncoder,),
    matches=matches_small,
    rules=SMALL_RULES,
    ignore=COUNTER | isl_org.IGNORE,
    read=read_small,
    image_from=image_of(256),
)
TORCHVISION = CheckpointFormat(
    name="torchvision_resnet",
    task="depth",
    encoders=(ResNetEncoder,),
    matches=matches_torchvision,
    rules=TORCHVISION_RULES,
    ignore=COUNTER | {r"fc\.": "ImageNet classifier"},
    read=read_torchvision,
    image_from=image_of(384),
    owns=owns_timm,
    fresh={r"(fusion|fusion_input)_\d/|depth_head/": "a classifier has no decoder"},
)
