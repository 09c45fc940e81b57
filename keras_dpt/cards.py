"""Model cards: what a preset's JSON says of its weights, as Markdown. Plain Python, no Keras."""

import json

# What the Hugging Face hub calls a licence that a preset states, as far as it begins like this.
_HUB_LICENSES = {
    "apache-2.0": "apache-2.0",
    "bsd-3-clause": "bsd-3-clause",
    "cc-by-nc-4.0": "cc-by-nc-4.0",
    "mit": "mit",
}
_PIPELINES = {"depth": "depth-estimation", "segmentation": "image-segmentation"}
_CLASSES = {"depth": "DPTDepth", "segmentation": "DPTSegmentation"}
_KINDS = {
    "relative_inverse_depth": "relative inverse depth: unitless, larger is nearer",
    "metric_depth": "metric depth in metres",
    "labels": "a label per pixel",
}


def hub_license(facts):
    """The Hugging Face hub's identifier of the weights' licence, or `None` if none is clear.

    Args: facts: a preset as from `keras_dpt.presets.read_preset`, or the `keras_dpt.json` of a
        converted preset's folder.
    """
    stated = (facts.get("weights_license") or "").lower()
    for start, name in _HUB_LICENSES.items():
        if stated.startswith(start):
            return name
    return None


def why_not_redistributed(facts):
    """Why the weights must not be uploaded again, a sentence; `None` if their licence allows it.

    The licences that are known here all allow copies, those for non-commercial use as well, as long
    as licence and authors are named: `model_card` does. A licence that is unclear allows nothing.

    Args: facts: as for `hub_license`.
    """
    if hub_license(facts) is not None:
        return None
    stated, evidence = facts.get("weights_license"), facts.get("license_evidence")
    if not stated:
        return "The licence of these weights is not known, so they cannot be redistributed."
    because = f" {evidence}" if evidence else ""
    return f"The licence of these weights is {stated!r}, which allows no redistribution.{because}"


def model_card(facts, address=None, front_matter=True):
    """Markdown about a preset: what it predicts, licence, training data, scores, parity.

    Args:
        facts: a preset as from `keras_dpt.presets.read_preset`, the `keras_dpt.json` of a converted
            preset's folder, or both in one dict, the folder's `source` then being its file.
        address: what `from_preset` takes to load it; the preset's name if left out.
        front_matter: begin with the YAML block that the Hugging Face hub reads.

    Returns: `str`. What `facts` leave out is left out of it.
    """
    name = facts.get("name") or facts.get("preset") or "Converted weights"
    task = facts.get("task", "depth")
    parts = [_front_matter(facts)] if front_matter else []
    parts += [f"# {name}", facts.get("description")]
    if facts.get("weights") == "encoder_only":
        parts.append("**Only the encoder is pretrained**: train the decoder before use.")
    parts.append(_table(facts))
    parts.append(_usage(task, address or name, facts.get("weights")))
    parts += _section("Licence", _license(facts))
    parts += _section("Training data", facts.get("training_data"))
    parts += _section("Notes and scores", "\n".join(f"- {x}" for x in facts.get("notes") or ()))
    parts += _section("Parity", _parity(facts.get("parity")))
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(facts):
    """JSON's strings are YAML's, whatever is in them."""
    task = facts.get("task", "depth")
    fields = {
        "library_name": "keras-hub",
        "license": hub_license(facts) or "other",
        "pipeline_tag": _PIPELINES.get(task, "image-to-image"),
        "tags": ["keras", "keras-hub", "keras-dpt", task],
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    return "\n".join(["---", *lines, "---"])


def _table(facts):
    output, size = facts.get("output") or {}, (facts.get("image") or {}).get("image_size")
    architecture = facts.get("architecture") or {}
    source = facts.get("source") or {}
    rows = {
        "Output": _KINDS.get(output.get("kind"), output.get("kind")),
        "Classes": len(output["class_names"]) if output.get("class_names") else None,
        "Encoder": architecture.get("encoder"),
        "Parameters": f"{facts['parameters']:,}" if facts.get("parameters") else None,
        "Image size": f"{size[0]} x {size[1]}" if size else None,
        "Converted from": _code(source.get("address")),
        "sha256 of that file": _code(source.get("sha256")),
        "Converted by": facts.get("converted_by"),
    }
    if not source and facts.get("sources"):
        rows["Original weights"] = ", ".join(_code(_address(x)) for x in facts["sources"])
    lines = [f"| {key} | {value} |" for key, value in rows.items() if value]
    return "\n".join(["| | |", "|---|---|", *lines]) if lines else None


def _usage(task, address, weights):
    cls = _CLASSES.get(task)
    if cls is None:
        return None
    lines = ["import keras_dpt", "", f'model = keras_dpt.{cls}.from_preset("{address}")']
    if weights != "encoder_only":
        lines.append('model.predict_image("photo.jpg")')
    return "```python\n" + "\n".join(lines) + "\n```"


def _license(facts):
    if not facts.get("weights_license"):
        return None
    commercial = {
        True: "The authors' licence allows commercial use, as stated.",
        False: "Commercial use is not allowed.",
    }.get(facts.get("commercial_ok"))
    if "commercial_ok" in facts and commercial is None:
        commercial = "Whether commercial use is allowed is unclear."
    text = f"{facts['weights_license']}. {facts.get('license_evidence') or ''} {commercial or ''}"
    return " ".join(f"{text} This is not legal advice.".split())


def _parity(parity):
    """The measured figures as a table; `None` if nothing was measured."""
    sizes = (parity or {}).get("height x width")
    if not sizes:
        return None
    rows = [f"| {size} | {x['max']:.1e} | {x['rms']:.1e} |" for size, x in sizes.items()]
    what = parity["what"][:1].upper() + parity["what"][1:]
    table = ["| height x width | largest | root mean square |", "|---|---|---|", *rows]
    return f"{what}.\n\n" + "\n".join(table)


def _section(title, text):
    return [f"## {title}", text] if text else []


def _address(source):
    return source["url"] if "url" in source else f"hf://{source['repo']}/{source['file']}"


def _code(text):
    return f"`{text}`" if text else None
