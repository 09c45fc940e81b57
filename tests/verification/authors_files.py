"""Files of full size as the networks' authors publish them, with random weights.

Names and shapes are those of the references in `tests/parity`, which set their sizes by variables
of their modules: a process makes one file and ends.
"""

from parity import dinov2, isl_org, midas, reference

from .calibration import calibrated, classifier
from .midas_files import beit, shapes_of_plain, swin
from .resnet_files import midas_2, torchvision

DINOV2_LAST = "depth_head.scratch.output_conv2.2"
DEPTHER_LAST = "decode_head.conv_depth.head.4"


def files_of(preset, source, seed):
    """What the files of a preset's source hold.

    Args: preset, source: dicts. seed: of the weights.
    Returns: a list of what `torch.save` writes into each file, arrays in place of tensors: one
        dict, or the head's and the encoder's.
    """
    made = _FORMATS[source["format"]](preset, seed)
    if source["format"] == "dinov2_depther":
        head = {name: x for name, x in made.items() if name.startswith("decode_head.")}
        encoder = {
            name.removeprefix("backbone."): x
            for name, x in made.items()
            if name.startswith("backbone.")
        }
        return [{"state_dict": head, "meta": {}}, encoder]
    deit = "deit" in source.get("url", "")
    return [{"model": made} if deit else made]


def isl_files(preset, seed):
    """A DPT of 2021."""
    return isl_org.isl_state_dict(reference.state_dict(dpt_of_2021(preset, seed)), seed)


def dpt_of_2021(preset, seed):
    """transformers' network for a preset of 2021."""
    architecture = preset["architecture"]
    encoder, task = architecture["encoder_config"], architecture["task_config"]
    hybrid = "stage_depths" in encoder
    kind = "hybrid" if hybrid else "large" if encoder["hidden_dim"] == 1024 else "base"
    options = {"use_batch_norm": architecture["backbone_config"]["use_batch_norm"]}
    options["num_classes"] = task.get("num_classes", 0)
    if hybrid:
        options["weight_standardization"] = encoder["weight_standardization"]
    return reference.make_reference(kind, seed, **options)


def depth_anything(preset, seed):
    """A Depth Anything, V1 or V2."""
    encoder = _sizes_of_dinov2(preset)
    found = dinov2.tensors(dinov2.shapes(), seed)
    options = {"heads": encoder["num_heads"], "taps": encoder["out_indices"]}
    image = dinov2.picture(112, 154, batch=1, seed=seed)
    return calibrated(
        found,
        DINOV2_LAST,
        lambda x: dinov2.Network(x, mistake="no last ReLU", **options)(image),
    )


def depther(preset, seed):
    """A DPT on DINOv2 by DINOv2's authors, both files in one."""
    encoder = _sizes_of_dinov2(preset)
    highest = preset["architecture"]["task_config"]["output_layer"]["config"]["max_depth"]
    found = dinov2.tensors(dinov2.shapes(depther=True), seed)
    options = {"heads": encoder["num_heads"], "taps": encoder["out_indices"]}
    options |= {"depther": (0.001, highest), "mistake": "no clamp"}
    image = dinov2.picture(112, 154, batch=1, seed=seed)
    return calibrated(
        found,
        DEPTHER_LAST,
        lambda x: dinov2.Network(x, **options)(image),
        mean=0.5 * highest,  # limits cut both ends
        std=0.3 * highest,
    )


def _sizes_of_dinov2(preset):
    encoder, backbone = (preset["architecture"][f"{x}_config"] for x in ("encoder", "backbone"))
    dinov2.DIM, dinov2.BLOCKS = encoder["hidden_dim"], encoder["num_layers"]
    dinov2.GRID = encoder["position_grid"][0]
    dinov2.WIDTHS, dinov2.FUSED = backbone["reassemble_channels"], backbone["fusion_channels"]
    return encoder


def timm_vit(preset, seed):
    """A ViT or a DeiT that classifies, with timm's names."""
    root = "pretrained.model."
    distilled = preset["architecture"]["encoder_config"].get("distilled")
    found = shapes_of_plain(preset, "deit")
    found = {n.removeprefix(root): x for n, x in found.items() if n.startswith(root)}
    width = midas.DIM
    found |= {"norm.weight": (width,), "norm.bias": (width,)} | classifier("head", width)
    found |= classifier("head_dist", width)
    if not distilled:
        found = {name: x for name, x in found.items() if "dist" not in name}
        found["pos_embed"] = (1, 1 + midas.GRID**2, width)
    return midas.tensors(found, seed)


_FORMATS = {
    "isl_org": isl_files,
    "isl_org_segmentation": isl_files,
    "depth_anything": depth_anything,
    "dinov2_depther": depther,
    "isl_org_beit": beit,
    "isl_org_swin": swin("swin"),
    "isl_org_swin2": swin("swin2"),
    "midas_v21": midas_2("v21"),
    "midas_v21_small": midas_2("small"),
    "timm_vit": timm_vit,
    "torchvision_resnet": torchvision,
}
