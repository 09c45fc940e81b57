"""ImageNet classifiers, the encoders to start from: names in timm's and Hugging Face's ViTs."""

from keras_dpt.conversion.architecture import original_image, read_encoder, shapes_of
from keras_dpt.conversion.engine import Rule, Source, norm, translate, weights


def timm_rules(prefix):
    """Rules for a ViT with timm's names under `prefix`."""
    block = prefix + "blocks.{i}"
    return (
        Rule("position_embedding/class_token", (prefix + "cls_token",)),
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


def _source(mark, rules, ignore, epsilon):
    """A `Source` of a classifier's body; the decoder on it is as large as in the official DPTs."""

    def config_from(specs, hf_config=None):
        hf_config = hf_config or {}
        writes, _ = translate(rules, ignore, specs)
        encoder, encoder_config = read_encoder(
            shapes_of(writes),
            num_heads=hf_config.get("num_attention_heads"),
            layer_norm_epsilon=hf_config.get("layer_norm_eps", epsilon),
        )
        dim = encoder_config["hidden_dim"]
        divisors = (4, 2, 1, 1) if dim >= 1024 else (8, 4, 2, 1)
        return {
            "encoder": encoder,
            "encoder_config": encoder_config,
            "backbone_config": {
                "readout": "project",
                "reassemble_channels": [dim // divisor for divisor in divisors],
                "fusion_channels": 256,
                "use_batch_norm": False,
            },
            "task_config": {"head_channels": [128, 32], "kind": "relative_inverse_depth"},
        }

    decoder = r"(read|reassemble|fusion|fusion_input)_\d/|depth_head/"
    fresh = {decoder: "a classifier has no decoder"}
    return Source((mark,), rules, ignore, config_from, original_image, fresh)


TIMM = _source(
    mark="blocks.",
    rules=timm_rules(""),
    ignore={
        r"norm\.": "final norm, after the last tap",
        r"head\.": "ImageNet classifier",
    },
    epsilon=1e-6,
)

HUGGING_FACE = _source(
    mark="vit.",
    rules=hf_rules("vit."),
    ignore={
        r"vit\.layernorm\.": "final norm, after the last tap",
        r"vit\.pooler\.": "pooling for the classifier",
        r"classifier\.": "ImageNet classifier",
    },
    epsilon=1e-12,
)
