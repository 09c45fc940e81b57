"""MiDaS 3.1 on BEiT, Swin and Swin V2: the authors' files of full size, with random weights.

With the constants that those files hold, computed here from the authors' definitions.
"""

import numpy as np
from parity import midas, originals

from .calibration import calibrated, classifier

LAST = "scratch.output_conv.4"


def beit(preset, seed):
    """A DPT on BEiT, with the constants that the authors' files hold."""
    found = midas.tensors(shapes_of_plain(preset, "beit"), seed)
    image = midas.picture(128, 160, batch=1, seed=seed)
    encode = originals.FORMATS["isl_org_beit"]
    found = calibrated(
        found, LAST, lambda x: encode(preset["architecture"], x)(image, last_relu=False)
    )
    index = _pairs_with_a_class(midas.GRID)
    for i in range(midas.BLOCKS):
        found[f"pretrained.model.blocks.{i}.attn.relative_position_index"] = index
    norm = {f"pretrained.model.fc_norm.{x}": (midas.DIM,) for x in ("weight", "bias")}
    return found | midas.tensors(norm | classifier("pretrained.model.head", midas.DIM), seed)


def shapes_of_plain(preset, kind):
    """Shapes of a "beit" or "deit" of a preset's sizes, which the reference then has too."""
    encoder, backbone = (preset["architecture"][f"{x}_config"] for x in ("encoder", "backbone"))
    originals._of_plain(encoder)
    midas.WIDTHS, midas.FUSED = backbone["reassemble_channels"], backbone["fusion_channels"]
    return midas.shapes(kind)


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
        found = calibrated(found, LAST, lambda x: encode(architecture, x)(image, last_relu=False))
        for s, depth in enumerate(midas.SWIN["depths"]):
            window, shift = midas.WINDOWS[s], midas.SHIFTS[s]
            for j in range(depth):
                block = f"pretrained.model.layers.{s}.blocks.{j}."
                if kind == "swin":
                    found[block + "attn.relative_position_index"] = _pairs(window)
                if shift and j % 2:
                    found[block + "attn_mask"] = _mask(side // 4 // 2**s, window, shift)
        width = 8 * midas.SWIN["dim"]
        return found | midas.tensors(classifier("pretrained.model.head", width), seed)

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
