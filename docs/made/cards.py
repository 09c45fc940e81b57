"""Model cards: one page per preset, `keras_dpt.cards` and what only the site adds."""

import json
import re

from keras_dpt.cards import model_card
from keras_dpt.presets import source_address, source_sha256
from made.markdown import code, note, table
from made.words import checked, size_rule

# Drawn by examples/figures.py.
PICTURES = {
    "dpt_mini_nyuv2": "![A photo, and its relative inverse depth](../figures/depth.jpg)",
    "dpt_mini_nyuv2_metric": "![Metres of a photo, ground truth](../figures/metric_preset.jpg)",
    "dpt_mini_camvid": "![A photo, and its labels with a legend](../figures/segmentation.jpg)",
}


def card(preset, scores):
    """The page of a preset.

    Args:
        preset: as from `keras_dpt.presets.read_preset`.
        scores: its rows, as from `read_scores`.
    """
    text = model_card(preset, front_matter=False)
    encoder = preset["architecture"]["encoder"]
    link = f"[`{encoder}`](../api/encoders.md#keras_dpt.{encoder})"
    text = text.replace(f"| {encoder} |", f"| {link} |", 1)
    use, heading, facts = text.partition("## Licence")
    parts = [
        use.strip(),
        _offline(preset),
        f"**Checked with the official file:** {checked(preset)}.",
        PICTURES.get(preset["name"], ""),
        _scores(scores),
        _images(preset),
        _labels(preset),
        (heading + facts).strip(),
        f"## Files\n\n{_sources(preset)}",
        "## Architecture\n\n"
        + note(
            "As in the preset's JSON", code(json.dumps(preset["architecture"], indent=2), "json")
        ),
        "[All presets](index.md)",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _offline(preset):
    if not preset["sources"]:
        return "The weights are bundled with the package: no download is needed."
    return (
        "The first use downloads the official file, converts it and caches the result. "
        "You can also pass the path of a file that you already have."
    )


def _images(preset):
    image = preset["image"]
    return (
        f"## Images\n\n{size_rule(preset)} Pixels, divided by 255, become `(x - mean) / std` with "
        f"mean {_numbers(image['mean'])} and standard deviation {_numbers(image['std'])}. "
        "[`DPTImageConverter`](../api/models.md#keras_dpt.DPTImageConverter) does this."
    )


def _labels(preset):
    names = preset["output"].get("class_names")
    if not names:
        return ""
    swatch = '<li><span class="swatch" style="background: rgb{}"></span>{} {}</li>'
    items = "\n".join(
        swatch.format(tuple(color), number, name)
        for number, (name, color) in enumerate(zip(names, preset["output"]["palette"], strict=True))
    )
    return f'## Classes\n\n<ul class="classes">\n{items}\n</ul>'


def _sources(preset):
    if not preset["sources"]:
        return "Bundled with the package."
    rows = []
    for source in preset["sources"]:
        address = source_address(source)
        page = f"https://huggingface.co/{source['repo']}" if "repo" in source else address
        file = f"[`{address.rpartition('/')[2]}`]({page})"
        if "repo" in source:
            file = f"[`{source['repo']}`]({page}): `{source['file']}`"
        if "encoder_url" in source:
            url = source["encoder_url"]
            file += f" and [`{url.rpartition('/')[2]}`]({url})"
        digest = source_sha256(source)
        known = "not known" if not digest else f"`{digest}`" if len(digest) == 64 else ""
        rows.append([file, f"`{source['format']}`", known or f"begins with `{digest}`"])
    return "The first available file is used.\n\n" * (len(rows) > 1) + table(
        ["file", "format", "sha256"], rows
    )


def _scores(rows):
    if not rows:
        return ""
    columns = [name for name in rows[0] if name != "model" and any(row[name] for row in rows)]
    return (
        "## Scores\n\nBy [protocols](../reference/protocols.md) that fix split, crop and alignment."
        f"\n\n{table(columns, [[row[name] for name in columns] for row in rows])}"
    )


def _architecture(preset):
    text = json.dumps(preset["architecture"], indent=2)
    lists = re.compile(r"\[\s+([-\d.,\s]+?)\s+\]")  # of numbers: one line each
    return code(lists.sub(lambda found: f"[{' '.join(found[1].split())}]", text), "json")


def _numbers(value):
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
