"""Names in Hugging Face's DPT checkpoints (`model_type` "dpt"), such as Intel/dpt-large."""

import math

from keras_dpt.conversion.architecture import native_size, read_architecture
from keras_dpt.conversion.engine import CheckpointFormat, has, norm, weights
from keras_dpt.conversion.formats.isl_org import readout_rules, segmentation_head_rules
from keras_dpt.conversion.formats.vit_imagenet import hf_rules
from keras_dpt.encoders.vit import ViTEncoder
from keras_dpt.encoders.vit_hybrid import ViTHybridEncoder
from keras_dpt.errors import WeightsError

BACKBONE = "dpt.embeddings.backbone.bit"
STAGE = BACKBONE + ".encoder.stages.{s}.layers.{j}"
OURS = "stage_{s}_block_{j}"
REASSEMBLE = "neck.reassemble_stage"
FUSION = "neck.fusion_stage.layers.{4-n}"
UNIT = FUSION + ".residual_layer{m}"

NECK = (  # but the readout
    *weights("reassemble_{n}/projection", REASSEMBLE + ".layers.{n-1}.projection"),
    *weights("reassemble_{n}/resize", REASSEMBLE + ".layers.{n-1}.resize"),
    *weights("fusion_input_{n}", "neck.convs.{n-1}"),
    *weights("fusion_{n}/residual_unit{m}/conv{k}", UNIT + ".convolution{k}"),
    *norm("fusion_{n}/residual_unit{m}/norm{k}", UNIT + ".batch_norm{k}"),
    *weights("fusion_{n}/projection", FUSION + ".projection"),
)

BODY = (
    *hf_rules("dpt."),
    # The hybrid's ResNet
    *weights("patch_embedding/projection", "dpt.embeddings.projection"),
    *weights("stem/conv", BACKBONE + ".embedder.convolution"),
    *norm("stem/norm", BACKBONE + ".embedder.norm"),
    *weights(OURS + "/conv{k}", STAGE + ".conv{k}"),
    *norm(OURS + "/norm{k}", STAGE + ".norm{k}"),
    *weights(OURS + "/downsample_conv", STAGE + ".downsample.conv"),
    *norm(OURS + "/downsample_norm", STAGE + ".downsample.norm"),
    # Decoder
    *readout_rules(REASSEMBLE + ".readout_projects.{n-1}.0"),
    *NECK,
)

DEPTH_HEAD = (  # layers 1, 3 and 5 of the sequence are the upsampling and activations
    *weights("depth_head/conv1", "head.head.0"),
    *weights("depth_head/conv2", "head.head.2"),
    *weights("depth_head/conv3", "head.head.4"),
)

SEGMENTATION_HEADS = (
    *segmentation_head_rules("segmentation_head", "head.head"),
    *segmentation_head_rules("auxiliary_head", "auxiliary_head.head"),
)

IGNORE = {
    r"dpt\.layernorm\.": "final norm, after the last tap",
    r"neck\.fusion_stage\.layers\.0\.residual_layer1\.": "the deepest fusion has no skip to refine",
    r".*\.num_batches_tracked$": "counter of PyTorch's batch normalisation",
}

# The only supported values of settings that no tensor shows.
FIXED = {"hidden_act": "gelu", "head_in_index": -1, "num_channels": 3}


is_vit = has(r"dpt\.")
is_segmentation = has(r"head\.head\.1\.")  # a batch normalisation


def matches_depth(specs, hf_config=None):
    """Whether this is a DPT-Base, -Large or -Hybrid for depth with Hugging Face's names."""
    return is_vit(specs) and not is_segmentation(specs)


def matches_segmentation(specs, hf_config=None):
    """Whether this is a DPT-Base, -Large or -Hybrid for segmentation, likewise."""
    return is_vit(specs) and is_segmentation(specs)


def owns(config):
    """Whether this is the `config.json` of a DPT on a ViT, or on BiT and a ViT."""
    encoder = (config.get("backbone_config") or {}).get("model_type", "bit")
    return config.get("model_type") == "dpt" and encoder == "bit"


def read(shapes, encoders, hf_config=None):
    """The architecture that the tensors and, if given, `config.json` show.

    See `keras_dpt.conversion.architecture`.

    Raises: WeightsError: the config has a setting that is not supported, or the tensors are not
        sufficient.
    """
    config = hf_config or {}
    for key, value in FIXED.items():
        if config.get(key, value) != value:
            raise WeightsError(
                f"config.json says {key} = {config[key]!r}; only {value!r} is supported."
            )
    taps = config.get("backbone_out_indices")
    return read_architecture(
        shapes,
        encoders,
        readout=config.get("readout_type", "ignore"),
        num_heads=config.get("num_attention_heads"),
        # The hybrid's first two entries are placeholders: it taps ResNet stages there.
        out_indices=taps[len(config.get("neck_ignore_stages", ())) :] if taps else None,
        layer_norm_epsilon=config.get("layer_norm_eps", 1e-12),
        num_groups=(config.get("backbone_config") or {}).get("num_groups", 32),
        weight_standardization="variance",
    )


def names_from(architecture, hf_config=None):
    """`class_names` of `id2label`, if each class has a name of its own there."""
    names = (hf_config or {}).get("id2label", {})
    if len(set(names.values())) != architecture["task_config"]["num_classes"]:
        return {}
    return {"class_names": [names[key] for key in sorted(names, key=int)]}


def image_from(architecture, hf_image=None, multiple=32):
    """Image geometry of `preprocessor_config.json`, as `DPTImageConverter` arguments.

    Without that file, images are stretched to the network's own size, the default of transformers.
    Sides are multiples of `multiple`, which the network needs whatever the processor allows.
    """
    settings = hf_image or {}
    size = settings.get("size") or native_size(architecture)
    size = [size["height"], size["width"]] if isinstance(size, dict) else size
    normalize = settings.get("do_normalize", True)
    return {
        "image_size": [size, size] if isinstance(size, int) else list(size),
        "keep_aspect_ratio": settings.get("keep_aspect_ratio", False),
        "multiple_of": math.lcm(multiple, settings.get("ensure_multiple_of") or 1),
        "resize": _resample(settings.get("resample")),
        "mean": _common(settings.get("image_mean", 0.5)) if normalize else 0.0,
        "std": _common(settings.get("image_std", 0.5)) if normalize else 1.0,
    }


def _resample(code):
    """Our name for one of Pillow's filters; transformers' default is bicubic."""
    names = {None: "bicubic_antialias", 2: "bilinear_antialias", 3: "bicubic_antialias"}
    if code not in names:
        raise WeightsError(
            f"preprocessor_config.json says resample = {code!r}; only 2 (bilinear) and 3 (bicubic) "
            "are supported."
        )
    return names[code]


def _common(values):
    """One number for three equal ones."""
    return values[0] if isinstance(values, list) and len(set(values)) == 1 else values


SHARED = {
    "encoders": (ViTHybridEncoder, ViTEncoder),
    "ignore": IGNORE,
    "read": read,
    "image_from": image_from,
    "owns": owns,
}
DEPTH = CheckpointFormat(
    name="hf_dpt",
    task="depth",
    matches=matches_depth,
    rules=BODY + DEPTH_HEAD,
    **SHARED,
)
SEGMENTATION = CheckpointFormat(
    name="hf_dpt_segmentation",
    task="segmentation",
    matches=matches_segmentation,
    rules=BODY + SEGMENTATION_HEADS,
    names_from=names_from,
    **SHARED,
)
