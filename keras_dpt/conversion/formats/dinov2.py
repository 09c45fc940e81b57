"""Names of DINOv2's encoder, by its authors and by Hugging Face, and the images it was trained on.

Used by the formats of networks on it.
"""

from keras_dpt.conversion.architecture import native_size
from keras_dpt.conversion.engine import Rule, norm, weights
from keras_dpt.conversion.formats.vit_imagenet import timm_rules
from keras_dpt.errors import WeightsError

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
# What no tensor shows, in the authors' code.
UPSTREAM = {"layer_norm_epsilon": 1e-6, "position_offset": 0.1}


def authors_rules(prefix):
    """Rules for a DINOv2 encoder with its authors' names under `prefix`; no final norm."""
    block = prefix + "blocks.{i}"
    return (
        *timm_rules(prefix),
        Rule("position_embedding/register_tokens", (prefix + "register_tokens",)),
        Rule("block_{i}/scale{m}/gamma", (block + ".ls{m}.gamma",)),
        *weights("block_{i}/mlp/dense1", f"{block}.mlp.w12"),
        *weights("block_{i}/mlp/dense2", f"{block}.mlp.w3"),
    )


def hub_rules(prefix):
    """Rules for a DINOv2 encoder with Hugging Face's names under `prefix`; no final norm."""
    block = prefix + "encoder.layer.{i}"
    embeddings = prefix + "embeddings"
    qkv = (f"{block}.attention.attention.{x}" for x in ("query", "key", "value"))
    return (
        Rule("position_embedding/class_token", (f"{embeddings}.cls_token",)),
        Rule("position_embedding/position_embedding", (f"{embeddings}.position_embeddings",)),
        *weights("patch_embedding/projection", f"{embeddings}.patch_embeddings.projection"),
        *norm("block_{i}/norm1", f"{block}.norm1"),
        *weights("block_{i}/attention/qkv", *qkv),
        *weights("block_{i}/attention/projection", f"{block}.attention.output.dense"),
        Rule("block_{i}/scale{m}/gamma", (block + ".layer_scale{m}.lambda1",)),
        *norm("block_{i}/norm2", f"{block}.norm2"),
        *weights("block_{i}/mlp/dense1", f"{block}.mlp.fc1"),
        *weights("block_{i}/mlp/dense2", f"{block}.mlp.fc2"),
        *weights("block_{i}/mlp/dense1", f"{block}.mlp.weights_in"),
        *weights("block_{i}/mlp/dense2", f"{block}.mlp.weights_out"),
    )


# The only supported values of settings that no tensor shows, which are the defaults of
# transformers' classes too.
FIXED = {"hidden_act": "gelu", "qkv_bias": True, "num_channels": 3}


def hub_encoder(config):
    """What Hugging Face's `config.json` says about the encoder, as arguments of `DINOv2Encoder`.

    Configs on the hub omit values that equal the default of `Dinov2Config`.

    Raises: WeightsError: it has a setting that is not supported.
    """
    backbone = config.get("backbone_config") or {}
    for key, value in FIXED.items():
        if backbone.get(key, value) != value:
            raise WeightsError(
                f"config.json says backbone_config.{key} = {backbone[key]!r}; only {value!r} is "
                "supported."
            )
    indices = backbone.get("out_indices") or backbone.get("_out_indices")
    features = backbone.get("out_features") or backbone.get("_out_features")
    if indices is None and features:
        indices = [int(name.removeprefix("stage")) for name in features]
    if indices is None or len(indices) != 4:
        raise WeightsError(
            "config.json must name four tapped blocks in backbone_config.out_indices. Received: "
            f"{indices!r}."
        )
    return {
        "num_heads": backbone.get("num_attention_heads", 12),
        # The hub counts the embedding as 0.
        "out_indices": [index - 1 for index in indices],
        "layer_norm_epsilon": backbone.get("layer_norm_eps", 1e-6),
        "position_offset": 0.0,
        "apply_final_norm": backbone.get("apply_layernorm", True),
    }


def native_image(architecture, hf_image=None):
    """Images as Depth Anything's authors prepare them, as `DPTImageConverter` arguments."""
    return {
        "image_size": native_size(architecture),
        "keep_aspect_ratio": True,
        "multiple_of": architecture["encoder_config"]["patch_size"],
        "resize": "bicubic",
        "size_rule": "lower_bound",
        **IMAGENET,
    }


def padded_image(architecture, hf_image=None):
    """Images as DINOv2's depth heads take them: of their own size, padded to multiples.

    Args: hf_image: a `preprocessor_config.json`, whose mean and standard deviation are of pixels
        from 0 to 255 where `do_rescale` is false.
    """
    settings = hf_image or {}
    factor = 1.0 if settings.get("do_rescale", True) else 1 / 255
    mean, std = (
        [round(factor * x, 6) for x in settings[key]] if key in settings else IMAGENET[ours]
        for key, ours in (("image_mean", "mean"), ("image_std", "std"))
    )
    return {
        "image_size": None,
        "keep_aspect_ratio": True,
        "multiple_of": architecture["encoder_config"]["patch_size"],
        "resize": "bicubic",
        "pad": True,
        "mean": mean,
        "std": std,
    }
