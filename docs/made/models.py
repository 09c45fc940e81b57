"""The table of all presets, and their place in the menu."""

import re

from made.markdown import table
from made.words import KINDS, checked, commercial_use, image_size

# Title in menu and table, and which names belong to it; the first that fits.
FAMILIES = (
    ("Bundled with the package", r"dpt_mini_"),
    ("DPT (2021)", r"dpt_(base|large|hybrid)($|_kitti|_nyu|_ade20k)"),
    ("Depth Anything V2", r"depth_anything_v2_(?!metric)"),
    ("Depth Anything V2, metric", r"depth_anything_v2_metric_"),
    ("Depth Anything V1", r"depth_anything_"),
    ("DINOv2", r"dinov2_"),
    ("MiDaS 3.1", r"dpt_(beit|swin)"),
    ("MiDaS 2.1", r"midas_v21"),
    ("Encoders to train on", r"dpt_deit|midas_res"),
    ("Others", r""),
)

INTRODUCTION = """\
# Model cards

Each preset is a name for `from_preset`; [how to choose](../guides/presets.md) is a guide of its
own. Sizes are height x width: images are resized to about this size, and others work too unless
the table says "only". Licences are as stated by the authors of the weights; this is not legal
advice. "Checked": whether the official file was converted and compared with the original on real
weights. Until then, the cards quote what was measured on random weights.

`keras_dpt.list_presets()` and `keras-dpt presets` print the same list;
`list_presets(commercial_ok=True)` leaves out what the licence restricts.
"""


def models_page(presets):
    """The page of all presets, one table for each family."""
    parts = [INTRODUCTION]
    for title, members in families(presets):
        rows = [_row(preset) for preset in members]
        header = ["preset", "parameters", "output", "image size", "licence", "commercial use"]
        parts.append(f"## {title}\n\n{table([*header, 'checked'], rows)}")
    return "\n".join(parts)


def models_navigation(presets):
    """Entries of the menu: the table, then the cards by family."""
    return ["models/index.md"] + [
        {title: [{p["name"]: f"models/{p['name']}.md"} for p in members]}
        for title, members in families(presets)
    ]


def families(presets):
    """`(title, presets)` pairs, in the order of `FAMILIES`, without empty ones."""
    found = {title: [] for title, _ in FAMILIES}
    for preset in presets:
        title = next(title for title, names in FAMILIES if re.match(names, preset["name"]))
        found[title].append(preset)
    # Small before large, as readers choose.
    return [
        (title, sorted(members, key=lambda p: (p["parameters"], p["name"])))
        for title, members in found.items()
        if members
    ]


def _row(preset):
    output = KINDS[preset["output"]["kind"]].partition(",")[0]
    if preset["weights"] == "encoder_only":
        output = f"{output}, after training"
    if names := preset["output"].get("class_names"):
        output = f"{output}, {len(names)} classes"
    return [
        f"[`{preset['name']}`]({preset['name']}.md)",
        f"{preset['parameters'] / 1e6:.1f} M",
        output,
        image_size(preset),
        preset["weights_license"],
        commercial_use(preset),
        checked(preset).partition(" (")[0],
    ]
