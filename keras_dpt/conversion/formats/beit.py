"""DPTs on BEiT (MiDaS 3.1): names in the authors' `.pt` files and in Hugging Face's checkpoints."""

from keras_dpt.conversion.architecture import original_image, read_architecture
from keras_dpt.conversion.engine import CheckpointFormat, Rule, as_it_is, has, norm, weights
from keras_dpt.conversion.formats import hf_dpt, isl_org
from keras_dpt.encoders.beit import BEiTEncoder
from keras_dpt.errors import WeightsError
from keras_dpt.layers.beit import token_pair_rows

AUTHORS_BLOCK = "pretrained.model.blocks.{i}"
HUB_BLOCK = "backbone.encoder.layer.{i}"
ATTENTION = HUB_BLOCK + ".attention.attention"
OURS = "block_{i}/attention/"
REBUILT = "a function of the grid's size, which is computed"


def rebuilt_index(encoder_config):
    """What a `relative_position_index` of this encoder holds, `(T, T)` int32."""
    return token_pair_rows(tuple(encoder_config["position_grid"]))


CONSTANTS = {r".*\.relative_position_index$": rebuilt_index}


AUTHORS_RULES = (
    # BEiT has no position embedding, so its class token has another path.
    *(rule for rule in isl_org.BODY if not rule.variable.startswith("position_embedding/")),
    *isl_org.DEPTH_HEAD,
    Rule("class_token/class_token", ("pretrained.model.cls_token",)),
    Rule(OURS + "query_bias", (AUTHORS_BLOCK + ".attn.q_bias",)),
    Rule(OURS + "value_bias", (AUTHORS_BLOCK + ".attn.v_bias",)),
    Rule(OURS + "bias_table", (AUTHORS_BLOCK + ".attn.relative_position_bias_table",), as_it_is),
    Rule("block_{i}/scale{m}/gamma", (AUTHORS_BLOCK + ".gamma_{m}",)),
)
HUB_RULES = (
    Rule("class_token/class_token", ("backbone.embeddings.cls_token",)),
    *weights("patch_embedding/projection", "backbone.embeddings.patch_embeddings.projection"),
    *norm("block_{i}/norm1", HUB_BLOCK + ".layernorm_before"),
    *weights(OURS + "qkv", *(f"{ATTENTION}.{name}" for name in ("query", "key", "value"))),
    Rule(OURS + "query_bias", (ATTENTION + ".query.bias",)),
    Rule(OURS + "value_bias", (ATTENTION + ".value.bias",)),
    Rule(
        OURS + "bias_table",
        (ATTENTION + ".relative_position_bias.relative_position_bias_table",),
        as_it_is,
    ),
    *weights(OURS + "projection", HUB_BLOCK + ".attention.output.dense"),
    Rule("block_{i}/scale1/gamma", (HUB_BLOCK + ".lambda_1",)),
    *norm("block_{i}/norm2", HUB_BLOCK + ".layernorm_after"),
    *weights("block_{i}/mlp/dense1", HUB_BLOCK + ".intermediate.dense"),
    *weights("block_{i}/mlp/dense2", HUB_BLOCK + ".output.dense"),
    Rule("block_{i}/scale2/gamma", (HUB_BLOCK + ".lambda_2",)),
    *isl_org.readout_rules(hf_dpt.REASSEMBLE + ".readout_projects.{n-1}.0"),
    *hf_dpt.NECK,
    *hf_dpt.DEPTH_HEAD,
)

# The only supported values of settings that no tensor shows: the defaults of transformers'
# `BeitConfig`, or those of all published checkpoints.
FIXED = {
    "hidden_act": "gelu",
    "num_channels": 3,
    "use_absolute_position_embeddings": False,
    "use_relative_position_bias": True,
    "use_shared_relative_position_bias": False,
}

is_authors = has(
    r"pretrained\.model\.blocks\.\d+\.(gamma_|attn\.(q_bias|v_bias|relative_position))",
    r"scratch\.",
)
is_hub = has(
    r"backbone\.encoder\.layer\.\d+\.(lambda_|attention\.attention\.relative_position)", r"neck\."
)
is_zoe_depth = has(r"(metric|relative)_head\.")


def matches_authors(specs, hf_config=None):
    """Whether this is a DPT on BEiT with its authors' names."""
    return is_authors(specs)


def matches_hub(specs, hf_config=None):
    """Whether this is a DPT on BEiT with Hugging Face's names."""
    return is_hub(specs) and not is_zoe_depth(specs)


def owns(config):
    """Whether this is the `config.json` of a DPT on BEiT."""
    backbone = config.get("backbone_config") or {}
    return config.get("model_type") == "dpt" and backbone.get("model_type") == "beit"


def read(shapes, encoders, hf_config=None):
    """The architecture that the tensors show."""
    return read_architecture(shapes, encoders, layer_norm_epsilon=1e-6)


def read_hub(shapes, encoders, hf_config=None):
    """The architecture that the tensors and, if given, `config.json` show.

    Raises: WeightsError: the config has a setting that is not supported, or the tensors are not
        sufficient.
    """
    backbone = (hf_config or {}).get("backbone_config") or {}
    for key, value in FIXED.items():
        if backbone.get(key, value) != value:
            raise WeightsError(
                f"config.json says backbone_config.{key} = {backbone[key]!r}; only {value!r} is "
                "supported."
            )
    features = backbone.get("out_features")
    return read_architecture(
        shapes,
        encoders,
        readout=(hf_config or {}).get("readout_type", "ignore"),
        num_heads=backbone.get("num_attention_heads"),
        # The hub counts the embedding as "stem", so that "stage3" is our block 2.
        out_indices=features and [int(name.removeprefix("stage")) - 1 for name in features],
        layer_norm_epsilon=backbone.get("layer_norm_eps", 1e-12),
    )


AUTHORS = CheckpointFormat(
    name="isl_org_beit",
    task="depth",
    encoders=(BEiTEncoder,),
    matches=matches_authors,
    rules=AUTHORS_RULES,
    ignore=isl_org.IGNORE
    | {
        r"pretrained\.model\.fc_norm\.": "final norm, after the last tap",
        r".*\.relative_position_index$": REBUILT,
    },
    constants=CONSTANTS,
    read=read,
    image_from=original_image,
)
HUGGING_FACE = CheckpointFormat(
    name="hf_dpt_beit",
    task="depth",
    encoders=(BEiTEncoder,),
    matches=matches_hub,
    rules=HUB_RULES,
    ignore={
        r"neck\.fusion_stage\.layers\.0\.residual_layer1\.": "the deepest fusion has no skip",
        r".*\.relative_position_index$": REBUILT,
    },
    constants=CONSTANTS,
    read=read_hub,
    image_from=hf_dpt.image_from,
    owns=owns,
)
