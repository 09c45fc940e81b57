"""DPTs on Swin and Swin V2 (MiDaS 3.1): the authors' `.pt` files and Hugging Face's checkpoints."""

import numpy as np

from keras_dpt.conversion.architecture import read_architecture
from keras_dpt.conversion.engine import CheckpointFormat, Rule, as_it_is, has, norm, weights
from keras_dpt.conversion.formats import hf_dpt, isl_org
from keras_dpt.encoders.swin import Swin2Encoder, SwinEncoder
from keras_dpt.encoders.windowed import PATCH, window_of
from keras_dpt.errors import WeightsError
from keras_dpt.layers.relative_position import pair_rows
from keras_dpt.layers.swin import shift_mask

OURS = "stage_{s}_block_{j}"
AUTHORS = "pretrained.model."
AUTHORS_BLOCK = AUTHORS + "layers.{s}.blocks.{j}"
HUB = "backbone."
HUB_BLOCK = HUB + "encoder.layers.{s}.blocks.{j}"
HUB_ATTENTION = HUB_BLOCK + ".attention.self"
REBUILT = "a constant of the windows, which is computed"

# What no tensor shows: the published networks by their first width.
PUBLISHED = {
    96: {"image_size": 256, "window_size": 16, "pretrained_window_sizes": [0, 0, 0, 0]},
    128: {"image_size": 384, "window_size": 24, "pretrained_window_sizes": [12, 12, 12, 6]},
    192: {"image_size": 384, "window_size": 24, "pretrained_window_sizes": [12, 12, 12, 6]},
}
UNTOLD = frozenset({"image_size", "window_size", "pretrained_window_sizes"})


def rebuilt_index(encoder_config, s):
    """What a `relative_position_index` in stage `s` holds, `(T, T)` int32."""
    side, _ = window_of(encoder_config["image_size"], encoder_config["window_size"], int(s))
    return pair_rows((side, side))


def rebuilt_mask(encoder_config, s, j):
    """What the `attn_mask` of block `j` in stage `s` holds, `(M, T, T)` float32; no windows where
    the block shifts none."""
    size = encoder_config["image_size"]
    side, shift = window_of(size, encoder_config["window_size"], int(s))
    if not shift or int(j) % 2 == 0:
        return np.zeros((0, side**2, side**2), "float32")
    grid = size // (PATCH * 2 ** int(s))
    return shift_mask(grid, grid, side, shift)


CONSTANTS = {
    r".*layers\.(?P<s>[0-3])\.blocks\.\d+\..*\.relative_position_index$": rebuilt_index,
    r".*layers\.(?P<s>[0-3])\.blocks\.(?P<j>\d{1,3})\.attn_mask$": rebuilt_mask,
}


def flat(tensor):
    """A number for each head, `(N, 1, 1)`, as `(N,)`."""
    return tensor.reshape(-1)


def authors_rules(attention):
    """Rules for the authors' names, given those for what only one version's attention has."""
    merging = AUTHORS + "layers.{s}.downsample"
    return (
        *weights("patch_embedding/projection", AUTHORS + "patch_embed.proj"),
        *norm("patch_norm", AUTHORS + "patch_embed.norm"),
        *norm(OURS + "/norm{m}", AUTHORS_BLOCK + ".norm{m}"),
        *weights(OURS + "/attention/qkv", AUTHORS_BLOCK + ".attn.qkv"),
        *weights(OURS + "/attention/projection", AUTHORS_BLOCK + ".attn.proj"),
        *attention,
        *weights(OURS + "/mlp/dense{m}", AUTHORS_BLOCK + ".mlp.fc{m}"),
        *weights("merge_{s}/reduction", merging + ".reduction"),
        *norm("merge_{s}/norm", merging + ".norm"),
        *isl_org.FUSION,
        *isl_org.DEPTH_HEAD,
    )


SWIN_RULES = authors_rules(
    [
        Rule(
            OURS + "/attention/bias_table",
            (AUTHORS_BLOCK + ".attn.relative_position_bias_table",),
            as_it_is,
        )
    ]
)
SWIN2_RULES = authors_rules(
    [
        Rule(OURS + "/attention/query_bias", (AUTHORS_BLOCK + ".attn.q_bias",)),
        Rule(OURS + "/attention/value_bias", (AUTHORS_BLOCK + ".attn.v_bias",)),
        Rule(OURS + "/attention/logit_scale", (AUTHORS_BLOCK + ".attn.logit_scale",), flat),
        *weights(OURS + "/attention/offsets1", AUTHORS_BLOCK + ".attn.cpb_mlp.0"),
        *weights(OURS + "/attention/offsets2", AUTHORS_BLOCK + ".attn.cpb_mlp.2"),
    ]
)
HUB_RULES = (
    *weights("patch_embedding/projection", HUB + "embeddings.patch_embeddings.projection"),
    *norm("patch_norm", HUB + "embeddings.norm"),
    *weights(
        OURS + "/attention/qkv", *(f"{HUB_ATTENTION}.{name}" for name in ("query", "key", "value"))
    ),
    Rule(OURS + "/attention/query_bias", (HUB_ATTENTION + ".query.bias",)),
    Rule(OURS + "/attention/value_bias", (HUB_ATTENTION + ".value.bias",)),
    Rule(OURS + "/attention/logit_scale", (HUB_ATTENTION + ".logit_scale",), flat),
    *weights(OURS + "/attention/offsets1", HUB_ATTENTION + ".continuous_position_bias_mlp.0"),
    *weights(OURS + "/attention/offsets2", HUB_ATTENTION + ".continuous_position_bias_mlp.2"),
    *weights(OURS + "/attention/projection", HUB_BLOCK + ".attention.output.dense"),
    # Named as in a network with norms before its branches; here they are after them.
    *norm(OURS + "/norm1", HUB_BLOCK + ".layernorm_before"),
    *norm(OURS + "/norm2", HUB_BLOCK + ".layernorm_after"),
    *weights(OURS + "/mlp/dense1", HUB_BLOCK + ".intermediate.dense"),
    *weights(OURS + "/mlp/dense2", HUB_BLOCK + ".output.dense"),
    *weights("merge_{s}/reduction", HUB + "encoder.layers.{s}.downsample.reduction"),
    *norm("merge_{s}/norm", HUB + "encoder.layers.{s}.downsample.norm"),
    *hf_dpt.NECK,
    *hf_dpt.DEPTH_HEAD,
)

# The only supported values of settings that no tensor shows, also transformers' defaults.
FIXED = {
    "hidden_act": "gelu",
    "num_channels": 3,
    "patch_size": 4,
    "mlp_ratio": 4.0,
    "use_absolute_embeddings": False,
    "qkv_bias": True,
}

in_authors_layers = has(AUTHORS + r"layers\.\d+\.blocks\.\d+\.", r"scratch\.")
is_version_2 = has(AUTHORS + r"layers\.\d+\.blocks\.\d+\.attn\.(logit_scale|cpb_mlp|[qv]_bias)")
is_hub = has(HUB + r"encoder\.layers\.\d+\.blocks\.\d+\.", r"neck\.")


def matches_swin(specs, hf_config=None):
    """Whether this is a DPT on Swin with its authors' names."""
    return in_authors_layers(specs) and not is_version_2(specs)


def matches_swin2(specs, hf_config=None):
    """Whether this is a DPT on Swin V2 with its authors' names."""
    return in_authors_layers(specs) and is_version_2(specs)


def matches_hub(specs, hf_config=None):
    """Whether this is a DPT on Swin V2 with Hugging Face's names."""
    return is_hub(specs)


def owns(config):
    """Whether this is the `config.json` of a DPT on Swin V2."""
    backbone = config.get("backbone_config") or {}
    return config.get("model_type") == "dpt" and backbone.get("model_type") == "swinv2"


def read(shapes, encoders, hf_config=None):
    """The architecture that the tensors show; sizes are those of the published networks."""
    width = shapes.get("patch_embedding/projection/kernel", (128,))[-1]
    untold = dict(PUBLISHED.get(width, PUBLISHED[128]))
    return read_architecture(shapes, encoders, layer_norm_epsilon=1e-5, **untold)


def read_swin(shapes, encoders, hf_config=None):
    """As `read`, where the window shows in the table of biases."""
    return read_architecture(shapes, encoders, layer_norm_epsilon=1e-5, image_size=384)


def read_hub(shapes, encoders, hf_config=None):
    """The architecture that the tensors and `config.json` show.

    Raises: WeightsError: the config has a setting that is not supported, or the tensors are not
        sufficient.
    """
    backbone = (hf_config or {}).get("backbone_config") or {}
    if not backbone:
        return read(shapes, encoders)
    for key, value in FIXED.items():
        if backbone.get(key, value) != value:
            raise WeightsError(
                f"config.json says backbone_config.{key} = {backbone[key]!r}; only {value!r} is "
                "supported."
            )
    return read_architecture(
        shapes,
        encoders,
        image_size=backbone.get("image_size", 224),
        window_size=backbone.get("window_size", 7),
        pretrained_window_sizes=backbone.get("pretrained_window_sizes", [0, 0, 0, 0]),
        layer_norm_epsilon=backbone.get("layer_norm_eps", 1e-5),
    )


def squashed(architecture, hf_image=None):
    """Images as MiDaS 3.1 prepares them for such a network, as `DPTImageConverter` arguments.

    Images are stretched to the square, whatever their shape.
    """
    side = architecture["encoder_config"]["image_size"]
    return {
        "image_size": [side, side],
        "keep_aspect_ratio": False,
        "multiple_of": 32,
        "resize": "bicubic",
        "mean": 0.5,
        "std": 0.5,
    }


def _authors(name, encoder, matches, rules, reader):
    return CheckpointFormat(
        name=name,
        task="depth",
        encoders=(encoder,),
        matches=matches,
        rules=rules,
        ignore=isl_org.IGNORE
        | {
            r".*\.(relative_position_index|relative_coords_table|attn_mask|k_bias)$": REBUILT,
        },
        constants=CONSTANTS,
        read=reader,
        image_from=squashed,
        untold=UNTOLD,
    )


SWIN = _authors("isl_org_swin", SwinEncoder, matches_swin, SWIN_RULES, read_swin)
SWIN2 = _authors("isl_org_swin2", Swin2Encoder, matches_swin2, SWIN2_RULES, read)
HUGGING_FACE = CheckpointFormat(
    name="hf_dpt_swinv2",
    task="depth",
    encoders=(Swin2Encoder,),
    matches=matches_hub,
    rules=HUB_RULES,
    ignore={
        r"neck\.fusion_stage\.layers\.0\.residual_layer1\.": "the deepest fusion has no skip",
        r".*\.(relative_position_index|relative_coords_table)$": REBUILT,
    },
    constants=CONSTANTS,
    read=read_hub,
    image_from=hf_dpt.image_from,
    owns=owns,
    untold=UNTOLD,
)
