"""ImageNet classifiers, the encoders to start from: names in timm's and Hugging Face's ViTs."""

from functools import partial

from keras_dpt.conversion.architecture import original_image, read_encoder
from keras_dpt.conversion.engine import CheckpointFormat, Rule, has, norm, weights
from keras_dpt.encoders.vit import ViTEncoder


def timm_rules(prefix):
    """Rules for a ViT with timm's names under `prefix`."""
    block = prefix + "blocks.{i}"
    return (
        Rule("position_embedding/class_token", (prefix + "cls_token",)),
        Rule("position_embedding/distillation_token", (prefix + "dist_token",)),
        Rule("position_embedding/position_embedding", (prefix + "pos_embed",)),
        *weights("patch_embedding/projection", prefix + "patch_embed.proj"),
        *norm("block_{i}/norm1", f"{block}.norm1"),
        *weights("block_{i}/attention/qkv", f"{block}.attn.qkv"),
        *weights("block_{i}/attention/projection", f"{block}.attn.proj"),
        *norm("block_{i}/norm2", f"{block}.norm2"),
        *weights("block_{i}/mlp/dense1", f"{block}.mlp.fc1"),
        *weights("block_{i}/mlp/dense2", f"{block}.mlp.fc2"),
    )


def hf_rules(prefix):
    """Rules for a ViT with the names of Hugging Face's checkpoints under `prefix`."""
    block = prefix + "encoder.layer.{i}"
    qkv = (f"{block}.attention.attention.{x}" for x in ("query", "key", "value"))
    return (
        Rule("position_embedding/class_token", (prefix + "embeddings.cls_token",)),
        Rule("position_embedding/position_embedding", (prefix + "embeddings.position_embeddings",)),
        *weights("patch_embedding/projection", prefix + "embeddings.patch_embeddings.projection"),
        *norm("block_{i}/norm1", f"{block}.layernorm_before"),
        *weights("block_{i}/attention/qkv", *qkv),
        *weights("block_{i}/attention/projection", f"{block}.attention.output.dense"),
        *norm("block_{i}/norm2", f"{block}.layernorm_after"),
        *weights("block_{i}/mlp/dense1", f"{block}.intermediate.dense"),
        *weights("block_{i}/mlp/dense2", f"{block}.output.dense"),
    )


is_timm = has(r"blocks\.\d+\.(norm1|attn|mlp)\.")
# Blocks of BEiT and of DINOv2, tokens of DINOv2 with registers.
is_other = has(r"blocks\.\d+\.(gamma_|ls\d|attn\.(q_|rel))|reg_token|register_tokens")
is_hugging_face = has(r"vit\.")


def matches_timm(specs, hf_config=None):
    """Whether this is a plain ViT with a class token, with timm's names."""
    return is_timm(specs) and not is_other(specs)


def matches_hugging_face(specs, hf_config=None):
    """Whether this is a ViT classifier with Hugging Face's names."""
    return is_hugging_face(specs)


def owns_timm(config):
    """Whether this is the `config.json` of a ViT or DeiT that timm put on the hub."""
    return str(config.get("architecture", "")).startswith(("vit_", "deit_"))


def owns_hugging_face(config):
    """Whether this is the `config.json` of a ViT classifier."""
    return config.get("model_type") == "vit"


def read(shapes, encoders, hf_config=None, epsilon=1e-6):
    """The encoder's architecture, and a decoder on it as large as in the official DPTs."""
    hf_config = hf_config or {}
    encoder, encoder_config = read_encoder(
        shapes,
        encoders,
        num_heads=hf_config.get("num_attention_heads"),
        layer_norm_epsilon=hf_config.get("layer_norm_eps", epsilon),
    )
    dim = encoder_config["hidden_dim"]
    divisors = (4, 2, 1, 1) if dim >= 1024 else (8, 4, 2, 1)
    return {
        "encoder": encoder.__name__,
        "encoder_config": encoder_config,
        "backbone_config": {
            "readout": "project",
            "reassemble_channels": [dim // divisor for divisor in divisors],
            "fusion_channels": 256,
            "use_batch_norm": False,
        },
        "task_config": {"head_channels": [128, 32], "kind": "relative_inverse_depth"},
    }


SHARED = {
    "task": "depth",
    "encoders": (ViTEncoder,),
    "image_from": original_image,
    "fresh": {
        r"(read|reassemble|fusion|fusion_input)_\d/|depth_head/": "a classifier has no decoder"
    },
}
TIMM = CheckpointFormat(
    name="timm_vit",
    matches=matches_timm,
    rules=timm_rules(""),
    ignore={
        r"norm\.": "final norm, after the last tap",
        r"head(_dist)?\.": "ImageNet classifier",
    },
    read=read,
    owns=owns_timm,
    **SHARED,
)
HUGGING_FACE = CheckpointFormat(
    name="hf_vit",
    matches=matches_hugging_face,
    rules=hf_rules("vit."),
    ignore={
        r"vit\.layernorm\.": "final norm, after the last tap",
        r"vit\.pooler\.": "pooling for the classifier",
        r"classifier\.": "ImageNet classifier",
    },
    read=partial(read, epsilon=1e-12),
    owns=owns_hugging_face,
    **SHARED,
)
