"""Model cards: one page per preset, from its JSON."""

import json

from keras_dpt.presets import source_address, source_sha256
from made.markdown import code, note, table
from made.words import KINDS, checked, commercial_use, size_rule, trained

CLASSES = {"depth": "DPTDepth", "segmentation": "DPTSegmentation"}
SNIPPETS = {
    "relative_inverse_depth": """
depth = model.predict_image("photo.jpg")
depth.colorize().save("depth.png")
""",
    "metric_depth": """
depth = model.predict_image("photo.jpg")
print(depth.metres.min(), depth.metres.max())
""",
    "labels": """
labels = model.predict_image("photo.jpg")
labels.overlay("photo.jpg", legend=True).save("overlay.png")
""",
}
# Predictions of an untrained decoder would mislead.
TRAINING_SNIPPET = """
model.compile()  # loss, metrics and learning rates for depth
# model.fit(batches), see the guide to training
"""


def card(preset, scores):
    """The page of a preset.

    Args:
        preset: as from `keras_dpt.presets.read_preset`.
        scores: its rows, as from `read_scores`.
    """
    parts = [
        f"# {preset['name']}\n\n{preset['description']}\n",
        table(["", ""], _facts(preset)),
        f"## Load it\n\n{code(snippet(preset), 'python')}\n{_offline(preset)}",
        f"## Images\n\n{size_rule(preset)} Pixels, divided by 255, become `(x - mean) / std` with "
        f"mean {_numbers(preset['image']['mean'])} and standard deviation "
        f"{_numbers(preset['image']['std'])}. All of it is done by "
        "[`DPTImageConverter`](../api/models.md#keras_dpt.DPTImageConverter).\n",
        _labels(preset),
        f"## Weights and licence\n\n{_sources(preset)}\n{preset['license_evidence']}\n",
        f"## Training data\n\n{preset['training_data']}\n",
        _scores(scores),
        _parity(preset),
        _notes(preset),
        "## Architecture\n\n"
        + note(
            "As in the preset's JSON", code(json.dumps(preset["architecture"], indent=2), "json")
        ),
        "[All presets](index.md)\n",
    ]
    return "\n".join(part for part in parts if part)


def snippet(preset):
    """A few lines that load a preset and use it."""
    loaded = f'model = keras_dpt.{CLASSES[preset["task"]]}.from_preset("{preset["name"]}")'
    used = SNIPPETS[preset["output"]["kind"]]
    if preset["weights"] == "encoder_only":
        used = TRAINING_SNIPPET
    return f"import keras_dpt\n\n{loaded}{used}"


def _facts(preset):
    encoder = preset["architecture"]["encoder"]
    return [
        ["Task", preset["task"]],
        ["Output", KINDS[preset["output"]["kind"]]],
        ["Parameters", f"{preset['parameters']:,}"],
        ["Encoder", f"[`{encoder}`](../api/models.md#keras_dpt.{encoder})"],
        ["Weights", trained(preset)],
        ["Licence of the weights", preset["weights_license"]],
        ["Commercial use", commercial_use(preset)],
        ["Checked with the official file", checked(preset)],
    ]


def _offline(preset):
    if not preset["sources"]:
        return "The weights come with the package: no network is needed.\n"
    return (
        "The first use downloads the official file, converts it and keeps the result in the cache; "
        "a file that you have already can be passed as a path.\n"
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
    return f'## Classes\n\n<ul class="classes">\n{items}\n</ul>\n'


def _sources(preset):
    if not preset["sources"]:
        return "Bundled with the package.\n"
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
    return "The first of these that can be had is used.\n\n" * (len(rows) > 1) + table(
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


def _parity(preset):
    parity = preset["parity"]
    if not parity:
        return ""
    rows = [
        [size, f"{errors['max']:.1e}", f"{errors['rms']:.1e}"]
        for size, errors in parity["height x width"].items()
    ]
    what = parity["what"][0].upper() + parity["what"][1:]
    return f"## Parity\n\n{what}.\n\n{table(['height x width', 'largest', 'rms'], rows)}"


def _notes(preset):
    notes = "\n".join(f"- {text}" for text in preset["notes"])
    return f"## Notes\n\n{notes}\n" if notes else ""


def _numbers(value):
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
