"""Names in the `.pt` files of the authors, isl-org/DPT and isl-org/MiDaS."""

from keras_dpt.conversion.architecture import original_image, read_depth, shapes_of
from keras_dpt.conversion.engine import Rule, Source, norm, to_keras, translate, weights
from keras_dpt.conversion.vit_imagenet import timm_rules
from keras_dpt.errors import WeightsError

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


RULES = (
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
    *weights("fusion_input_{n}", "scratch.layer{n}_rn"),
    *weights("fusion_{n}/residual_unit{m}/conv{k}", UNIT + ".conv{k}"),
    *norm("fusion_{n}/residual_unit{m}/norm{k}", UNIT + ".bn{k}"),
    *weights("fusion_{n}/projection", "scratch.refinenet{n}.out_conv"),
    # Head: layers 1, 3 and 5 of the sequence are the upsampling and activations
    *weights("depth_head/conv1", "scratch.output_conv.0"),
    *weights("depth_head/conv2", "scratch.output_conv.2"),
    *weights("depth_head/conv3", "scratch.output_conv.4"),
)

IGNORE = {
    r"pretrained\.model\.head\.": "ImageNet classifier",
    r"pretrained\.model\.norm\.": "final norm, after the last tap",
    r"scratch\.refinenet4\.resConfUnit1\.": "the deepest fusion has no skip to refine",
    r"auxlayer\.": "auxiliary head, for training only",
    r".*\.num_batches_tracked$": "counter of PyTorch's batch normalisation",
}


def config_from(specs, hf_config=None):
    """The architecture that the tensors show; see `keras_dpt.conversion.architecture`.

    Raises: WeightsError: it is a segmentation network, or too little is there to tell.
    """
    if "scratch.output_conv.1.weight" in specs:
        raise WeightsError("This is a segmentation checkpoint, which is not supported yet.")
    writes, _ = translate(RULES, IGNORE, specs)
    return read_depth(shapes_of(writes), layer_norm_epsilon=1e-6, weight_standardization="std")


SOURCE = Source("pretrained.", RULES, IGNORE, config_from, original_image)
