"""Names in the `.pt` files of the authors, isl-org/DPT and isl-org/MiDaS."""

from keras_dpt.conversion.architecture import original_image, read_architecture
from keras_dpt.conversion.engine import CheckpointFormat, Rule, has, norm, to_keras, weights
from keras_dpt.conversion.formats.vit_imagenet import timm_rules
from keras_dpt.encoders.vit import ViTEncoder
from keras_dpt.encoders.vit_hybrid import ViTHybridEncoder

STAGE = "pretrained.model.patch_embed.backbone.stages.{s}.blocks.{j}"
OURS = "stage_{s}_block_{j}"
UNIT = "scratch.refinenet{n}.resConfUnit{m}"


def token_half(weight):
    """The part of a `(D, 2D)` readout matrix that meets the patch token: `(D, D)`, transposed."""
    return to_keras(weight[:, : weight.shape[1] // 2])


def class_token_half(weight):
    """The part of a `(D, 2D)` readout matrix that meets the class token: `(D, D)`, transposed."""
    return to_keras(weight[:, weight.shape[1] // 2 :])


def readout_rules(project):
    """Rules for the one matrix of a readout, `project`, that we keep as its two halves."""
    return (
        Rule("read_{n}/token/kernel", (f"{project}.weight",), token_half),
        Rule("read_{n}/readout/kernel", (f"{project}.weight",), class_token_half),
        Rule("read_{n}/readout/bias", (f"{project}.bias",)),
    )


def segmentation_head_rules(layer, module):
    """Rules for one of our `SegmentationHead`s from a sequence that has its layers."""
    return (
        *weights(f"{layer}/conv1", f"{module}.0"),
        *norm(f"{layer}/norm", f"{module}.1"),
        *weights(f"{layer}/conv2", f"{module}.4"),  # 2 and 3 are ReLU and dropout
    )


FUSION = (
    *weights("fusion_input_{n}", "scratch.layer{n}_rn"),
    *weights("fusion_{n}/residual_unit{m}/conv{k}", UNIT + ".conv{k}"),
    *norm("fusion_{n}/residual_unit{m}/norm{k}", UNIT + ".bn{k}"),
    *weights("fusion_{n}/projection", "scratch.refinenet{n}.out_conv"),
)

BODY = (
    *timm_rules("pretrained.model."),
    # The hybrid's ResNet
    *weights("stem/conv", "pretrained.model.patch_embed.backbone.stem.conv"),
    *norm("stem/norm", "pretrained.model.patch_embed.backbone.stem.norm"),
    *weights(OURS + "/conv{k}", STAGE + ".conv{k}"),
    *norm(OURS + "/norm{k}", STAGE + ".norm{k}"),
    *weights(OURS + "/downsample_conv", STAGE + ".downsample.conv"),
    *norm(OURS + "/downsample_norm", STAGE + ".downsample.norm"),
    # Decoder
    *readout_rules("pretrained.act_postprocess{n}.0.project.0"),
    *weights("reassemble_{n}/projection", "pretrained.act_postprocess{n}.3"),
    *weights("reassemble_{n}/resize", "pretrained.act_postprocess{n}.4"),
    *FUSION,
)

DEPTH_HEAD = (  # layers 1, 3 and 5 of the sequence are the upsampling and activations
    *weights("depth_head/conv1", "scratch.output_conv.0"),
    *weights("depth_head/conv2", "scratch.output_conv.2"),
    *weights("depth_head/conv3", "scratch.output_conv.4"),
)

SEGMENTATION_HEADS = (
    *segmentation_head_rules("segmentation_head", "scratch.output_conv"),
    *segmentation_head_rules("auxiliary_head", "auxlayer"),
)

IGNORE = {
    r"pretrained\.model\.head(_dist)?\.": "ImageNet classifier",
    r"pretrained\.model\.norm\.": "final norm, after the last tap",
    r"scratch\.refinenet4\.resConfUnit1\.": "the deepest fusion has no skip to refine",
    r".*\.num_batches_tracked$": "counter of PyTorch's batch normalisation",
}


is_vit = has(r"pretrained\.model\.blocks\.\d+\.(norm|attn|mlp)", r"scratch\.")
# Blocks of BEiT, of LeViT and of DINOv2.
is_other = has(r"pretrained\.model\.blocks\.\d+\.(gamma_|ls\d|m\.|attn\.(q_|v_|rel))")
# The second layer of its head is a batch normalisation, that of a depth head a convolution.
is_segmentation = has(r"scratch\.output_conv\.1\.")


def matches_depth(specs, hf_config=None):
    """Whether this is a DPT-Base, -Large or -Hybrid for depth with the authors' names."""
    return is_vit(specs) and not is_other(specs) and not is_segmentation(specs)


def matches_segmentation(specs, hf_config=None):
    """Whether this is a DPT-Base, -Large or -Hybrid for segmentation with the authors' names."""
    return is_vit(specs) and not is_other(specs) and is_segmentation(specs)


def read(shapes, encoders, hf_config=None):
    """The architecture that the tensors show; see `keras_dpt.conversion.architecture`."""
    untold = {"layer_norm_epsilon": 1e-6, "weight_standardization": "std"}
    return read_architecture(shapes, encoders, **untold)


SHARED = {
    "encoders": (ViTHybridEncoder, ViTEncoder),
    "ignore": IGNORE,
    "read": read,
    "image_from": original_image,
}
DEPTH = CheckpointFormat(
    name="isl_org",
    task="depth",
    matches=matches_depth,
    rules=BODY + DEPTH_HEAD,
    **SHARED,
)
SEGMENTATION = CheckpointFormat(
    name="isl_org_segmentation",
    task="segmentation",
    matches=matches_segmentation,
    rules=BODY + SEGMENTATION_HEADS,
    **SHARED,
)
