"""MiDaS 2.1 and torchvision's classifiers: files of full size, with random weights."""

import re

import numpy as np
from parity import midas, midas_v21

from .calibration import calibrated, classifier
from .midas_files import LAST


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
            found, LAST, lambda x: midas_v21.Network(kind, x)(image, last_relu=False)
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
    """Gains under which what 30 blocks and more compute neither explodes nor fades.

    Those of the small networks of `tests/parity` would multiply rounding a thousandfold here.
    """
    gains = [(r"\.bn[12]\.weight$", 0.5)]
    if kind == "v21":
        gains += [(r"\.bn3\.weight$", 0.6), (r"(layer1\.1|bn1|downsample\.1)\.weight$", 0.4)]
    result = dict(tensors)
    for name, x in tensors.items():
        gain = next((g for pattern, g in gains if re.search(pattern, name)), 1)
        result[name] = (gain * x).astype("float32")
    return result


def _counters(tensors):
    names = [name for name in tensors if name.endswith("running_mean")]
    return {name.replace("running_mean", "num_batches_tracked"): np.array(7) for name in names}


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
    return renamed | midas.tensors(classifier("fc", midas_v21.WIDTHS[-1]), seed)
