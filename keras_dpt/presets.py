"""Presets: one JSON file each, the whole truth about a set of weights.

The files stand in `presets/` at the top of a checkout and travel in the wheel as the package
`keras_dpt_presets`. A preset that embeds its weights has a folder of the same name beside its file.
This module only reads them; it needs neither Keras nor the rest of the package.
"""

import difflib
import importlib.util
import json
from pathlib import Path


def preset_names(task=None):
    """Names of all presets, sorted; of one task ("depth") if `task` is given."""
    names = sorted(file.stem for file in _directory().glob("*.json"))
    return [name for name in names if task is None or read_preset(name)["task"] == task]


def read_preset(name):
    """The preset called `name` as a dict.

    Its keys: `name`, `task`, `description`, `architecture` (`encoder`, `encoder_config`,
    `backbone_config`, `task_config`: a class name and constructor arguments), `image` (constructor
    arguments of `DPTImageConverter`), `output` (`kind`, `unit`), `parameters`, `weights`
    ("complete", or "encoder_only" where the decoder starts untrained), `sources` (in order of
    preference: `format` and `repo` with `file`, or `url`, and `encoder_url` where the encoder is a
    file of its own; `sha256` or `sha256_prefix` where it is known, `encoder_sha256` likewise),
    `weights_license`, `license_evidence`, `commercial_ok` (true where the authors' licence of the
    weights says so, `None` where the training data make it doubtful), `training_data`, `notes`,
    `parity` (measured figures).

    Raises: ValueError: there is no such preset; the message has close matches.
    """
    names = sorted(file.stem for file in _directory().glob("*.json"))
    if name not in names:
        close = difflib.get_close_matches(str(name).lower(), names, n=3)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ValueError(f"There is no preset {name!r}.{hint} `keras-dpt presets` lists all.")
    return json.loads((_directory() / f"{name}.json").read_text(encoding="utf-8"))


def preset_file(name):
    """Path of a preset's JSON file. Raises: ValueError: there is no such preset."""
    return _directory() / f"{read_preset(name)['name']}.json"


def preset_path(name):
    """The folder of a preset that embeds its weights as a `str`, else `None`.

    Raises: ValueError: there is no such preset.
    """
    folder = _directory() / read_preset(name)["name"]
    return str(folder) if (folder / "config.json").is_file() else None


def list_presets(task=None, commercial_ok=None):
    """Print a table of presets and return them.

    Args:
        task: only presets of this task: "depth" or "segmentation".
        commercial_ok: `True` for presets whose authors' licence allows commercial use and whose
            training data raise no doubt about it, `False` for the others.

    Returns: a list of dicts as from `read_preset`.
    Raises: ValueError: no preset is for such a task.
    """
    tasks = sorted({read_preset(name)["task"] for name in preset_names()})
    if task is not None and task not in tasks:
        raise ValueError(f"`task` must be one of {', '.join(tasks)}. Received: {task!r}.")
    presets = [read_preset(name) for name in preset_names(task)]
    if commercial_ok is not None:
        presets = [p for p in presets if (p["commercial_ok"] is True) == commercial_ok]
    header = ("name", "parameters", "kind", "unit", "input", "licence", "source")
    rows = [header, *map(_row, presets)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    return presets


def source_address(source):
    """Where a preset's source is fetched: `hf://repo/file` or a URL."""
    return source["url"] if "url" in source else f"hf://{source['repo']}/{source['file']}"


def source_sha256(source):
    """Hex digest that a source's file must have, or its start; `None` if it is not known."""
    return source.get("sha256") or source.get("sha256_prefix")


def _row(preset):
    """A preset's line of the table, as strings."""
    size = preset["image"]["image_size"]
    sources = preset["sources"]
    return (
        preset["name"],
        f"{preset['parameters'] / 1e6:.1f} M",
        preset["output"]["kind"] + (", untrained" if preset["weights"] == "encoder_only" else ""),
        preset["output"]["unit"] or "-",
        f"{size[0]} x {size[1]}" if size else "any",
        preset["weights_license"],
        source_address(sources[0]) if sources else "bundled",
    )


def _directory():
    """The folder of the JSON files: the checkout's, else the installed package's."""
    checkout = Path(__file__).resolve().parent.parent / "presets"
    # A folder called "presets" beside an installed keras_dpt could be another's: look for ours.
    if (checkout / "dpt_large.json").is_file():
        return checkout
    package = importlib.util.find_spec("keras_dpt_presets")
    if package is None:
        raise FileNotFoundError(
            "keras_dpt is installed without its presets (package keras_dpt_presets): reinstall it."
        )
    return Path(next(iter(package.submodule_search_locations)))
