"""Files of full size as the networks' authors publish them, with random weights.

Names and shapes are those of the references in `tests/parity`, which set their sizes by variables
of their modules: a process makes one file and ends.
"""

import re

import numpy as np
from parity import dinov2, isl_org, midas, midas_v21, originals, reference

DINOV2_LAST = "depth_head.scratch.output_conv2.2"
DEPTHER_LAST = "decode_head.conv_depth.head.4"
MIDAS_LAST = "scratch.output_conv.4"
CLASSES = 1000
RAISED = 100.0  # bias that keeps what comes before a ReLU positive


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


def calibrated(found, last, raw, mean=0.7, std=1.0):
    """Tensors whose last layer gives the output a mean and a spread, so that a ReLU cuts some of it.

    Both numbers are rounded, so that another order of sums makes the same file.

    Args: found: `{name: array}`. last: name of the layer. raw: function of tensors that returns the
        output on an image before the last activation, or behind a ReLU.
    """
    weight, bias = f"{last}.weight", f"{last}.bias"
    raised = np.full_like(found[bias], RAISED)
    output = np.asarray(raw(found | {bias: raised}), "float64")
    gain = float(f"{std / output.std():.2g}")
    shift = float(f"{mean - gain * (output.mean() - RAISED):.2g}")
    return found | {
        weight: (gain * found[weight]).astype("float32"),
        bias: np.full_like(found[bias], shift),
    }


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


def beit(preset, seed):
    """A DPT on BEiT, with the constants that the authors' files hold."""
    found = midas.tensors(_shapes_of_plain(preset, "beit"), seed)
    image = midas.picture(128, 160, batch=1, seed=seed)
    encode = originals.FORMATS["isl_org_beit"]
    found = calibrated(
        found, MIDAS_LAST, lambda x: encode(preset["architecture"], x)(image, last_relu=False)
    )
    index = _pairs_with_a_class(midas.GRID)
    for i in range(midas.BLOCKS):
        found[f"pretrained.model.blocks.{i}.attn.relative_position_index"] = index
    norm = {f"pretrained.model.fc_norm.{x}": (midas.DIM,) for x in ("weight", "bias")}
    return found | midas.tensors(norm | _classifier("pretrained.model.head", midas.DIM), seed)


def _shapes_of_plain(preset, kind):
    encoder, backbone = (preset["architecture"][f"{x}_config"] for x in ("encoder", "backbone"))
    originals._of_plain(encoder)
    midas.WIDTHS, midas.FUSED = backbone["reassemble_channels"], backbone["fusion_channels"]
    return midas.shapes(kind)


def _classifier(name, width):
    return {f"{name}.weight": (CLASSES, width), f"{name}.bias": (CLASSES,)}


def _pairs_with_a_class(side):
    """BEiT's index `(T, T)` of pairs of tokens: query minus key, then the class token's rows."""
    inner = _pairs(side)
    count = (2 * side - 1) ** 2
    index = np.empty((len(inner) + 1,) * 2, "int64")
    index[1:, 1:] = inner
    index[0, 1:], index[1:, 0], index[0, 0] = count, count + 1, count + 2
    return index


def _pairs(side):
    y, x = np.divmod(np.arange(side * side), side)
    rows = y[:, None] - y[None] + side - 1
    return (2 * side - 1) * rows + x[:, None] - x[None] + side - 1


def swin(kind):
    """A maker of a DPT on Swin or Swin V2, with the constants that the authors' files hold."""

    def made(preset, seed):
        architecture = preset["architecture"]
        encode = originals.FORMATS[f"isl_org_{kind}"]
        encode(architecture, {})  # sets the sizes
        midas.FUSED = architecture["backbone_config"]["fusion_channels"]
        found = midas.tensors(midas.shapes(kind), seed)
        side = midas.SWIN["side"]
        image = midas.picture(side, side, batch=1, seed=seed)
        found = calibrated(
            found, MIDAS_LAST, lambda x: encode(architecture, x)(image, last_relu=False)
        )
        for s, depth in enumerate(midas.SWIN["depths"]):
            window, shift = midas.WINDOWS[s], midas.SHIFTS[s]
            for j in range(depth):
                block = f"pretrained.model.layers.{s}.blocks.{j}."
                if kind == "swin":
                    found[block + "attn.relative_position_index"] = _pairs(window)
                if shift and j % 2:
                    found[block + "attn_mask"] = _mask(side // 4 // 2**s, window, shift)
        width = 8 * midas.SWIN["dim"]
        return found | midas.tensors(_classifier("pretrained.model.head", width), seed)

    return made


def _mask(side, window, shift):
    """`(windows, T, T)`: -100 where a shifted window brings cells together that are apart."""
    place = np.arange(side)
    zone = (place >= side - window).astype(int) + (place >= side - shift)
    zones = 3 * zone[:, None] + zone[None]
    count = side // window
    cells = zones.reshape(count, window, count, window).transpose(0, 2, 1, 3)
    cells = cells.reshape(count * count, window * window)
    return np.where(cells[:, :, None] == cells[:, None], 0, -100).astype("float32")


def midas_2(kind):
    """A maker of MiDaS 2.1, "v21" or "small"."""

    def made(preset, seed):
        encoder, backbone = (preset["architecture"][f"{x}_config"] for x in ("encoder", "backbone"))
        _sizes_of_midas_2(encoder, kind)
        fused = backbone["fusion_channels"]
        midas_v21.FUSED[kind] = (fused,) * 4 if isinstance(fused, int) else fused
        found = tempered(midas_v21.tensors(midas_v21.shapes(kind), seed), kind)
        image = midas.picture(128, 160, batch=1, seed=seed)
        found = calibrated(
            found, MIDAS_LAST, lambda x: midas_v21.Network(kind, x)(image, last_relu=False)
        )
        return found | _counters(found)

    return made


def _sizes_of_midas_2(encoder, kind):
    midas_v21.STEM = encoder["stem_channels"]
    depths, widths = encoder["stage_depths"], encoder["stage_channels"]
    if kind == "v21":
        midas_v21.DEPTHS, midas_v21.WIDTHS = depths, widths
        midas_v21.INNER, midas_v21.GROUPS = encoder["bottleneck_channels"], encoder["groups"]
        return
    midas_v21.LITE = tuple(
        (*stage[:3], depth, width)
        for stage, depth, width in zip(midas_v21.LITE, depths, widths, strict=True)
    )


def tempered(tensors, kind):
    """Gains under which 33 blocks neither explode nor leave their input as it is."""
    if kind == "small":
        return tensors
    gains = ((r"\.bn[12]\.weight$", 0.5), (r"\.bn3\.weight$", 0.6))
    gains += ((r"(layer1\.1|bn1|downsample\.1)\.weight$", 0.4),)
    result = dict(tensors)
    for name, x in tensors.items():
        gain = next((g for pattern, g in gains if re.search(pattern, name)), 1)
        result[name] = (gain * x).astype("float32")
    return result


def _counters(tensors):
    names = [name for name in tensors if name.endswith("running_mean")]
    return {name.replace("running_mean", "num_batches_tracked"): np.array(7) for name in names}


def timm_vit(preset, seed):
    """A ViT or a DeiT that classifies, with timm's names."""
    root = "pretrained.model."
    distilled = preset["architecture"]["encoder_config"].get("distilled")
    found = _shapes_of_plain(preset, "deit")
    found = {n.removeprefix(root): x for n, x in found.items() if n.startswith(root)}
    width = midas.DIM
    found |= {"norm.weight": (width,), "norm.bias": (width,)} | _classifier("head", width)
    found |= _classifier("head_dist", width)
    if not distilled:
        found = {name: x for name, x in found.items() if "dist" not in name}
        found["pos_embed"] = (1, 1 + midas.GRID**2, width)
    return midas.tensors(found, seed)


def torchvision(preset, seed):
    """A ResNet or ResNeXt that classifies, with torchvision's names."""
    _sizes_of_midas_2(preset["architecture"]["encoder_config"], "v21")
    found = midas_v21.tensors(midas_v21.shapes("v21"), seed)
    found = {name: x for name, x in tempered(found, "v21").items() if "scratch." not in name}
    found |= _counters(found)
    swaps = ((r"layer1\.0\.", "conv1."), (r"layer1\.1\.", "bn1."), (r"layer1\.4\.", "layer1."))
    renamed = {}
    for name, x in found.items():
        name = name.removeprefix("pretrained.")
        for old, new in swaps:
            name, times = re.subn(f"^{old}", new, name)
            if times:
                break
        renamed[name] = x
    return renamed | midas.tensors(_classifier("fc", midas_v21.WIDTHS[-1]), seed)


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
