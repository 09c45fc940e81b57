"""Convert a checkpoint to a keras-hub preset directory, strictly."""

import json
import logging
import math
from pathlib import Path

from keras_dpt import presets
from keras_dpt.conversion.architecture import differences
from keras_dpt.conversion.engine import assign, check_constants, matches, plan
from keras_dpt.conversion.formats import check_config, format_of, keras_hub
from keras_dpt.errors import WeightsError
from keras_dpt.files import temporary_folder
from keras_dpt.models.tasks import task_named
from keras_dpt.schema import explained
from keras_dpt.space import check_space, disk_full_explained
from keras_dpt.version import __version__
from keras_dpt.weights.amount import check_amount
from keras_dpt.weights.download import (
    download_from_hub,
    progress_bar,
)
from keras_dpt.weights.originals import located
from keras_dpt.weights.readers import Checkpoint, read_json

logger = logging.getLogger("keras_dpt")

NOTE_UNKNOWN = (
    "%s (sha256 %s) matches no known preset. %s. Settings that its tensors do not determine use "
    "defaults; pass keras_dpt.convert(..., preset=NAME) or `keras-dpt convert --preset NAME` to "
    "override."
)

# Our file in a preset directory: output kind, source, licence.
CARD = "keras_dpt.json"


def convert(source, out, preset=None, progress=True):
    """Convert a checkpoint to a keras-hub preset directory, strictly: completely, or not at all.

    The architecture is inferred from the tensors. What they do not show (a metric model's
    constants, the formula of weight standardisation, the geometry of images) is taken from
    `preset`; else from the preset whose official file has this sha256; else from a Hugging Face
    config next to the weights; else from defaults for this format.

    Args:
        source: a `.pt` or `.safetensors` file, a Hugging Face directory or `hf://user/repository`,
            or a preset's name.
        out: the directory to create; it may exist if it is empty.
        preset: name of the preset that specifies what the tensors do not show.
        progress: show progress bars.

    Returns: `out` as a `Path`, ready for `from_preset` and `keras_hub.upload_preset`.
    Raises:
        ValueError: there is no such preset.
        WeightsError: the source cannot be found, read or converted, or `out` is in use.

    Example: `keras_dpt.convert("dpt_hybrid_kitti-cb926ef4.pt", "kitti_preset")`
    """
    out = Path(out)
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise WeightsError(f"{out} exists and is not an empty directory; name another one.")
    if preset is not None:
        presets.read_preset(preset)
    if str(source).startswith("hf://"):  # before its weights are fetched
        repo = str(source).removeprefix("hf://")
        check_config(read_json(download_from_hub(repo, "config.json")))
    with located(source, progress) as (path, address, name):
        out.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(out.parent) as partial:
            whatever = explained(address, WeightsError, "cannot be converted")
            with whatever, disk_full_explained(partial.parent):
                _convert(_opened(path), partial, address, preset or name, progress)
            try:
                if out.is_dir():
                    out.rmdir()
                partial.rename(out)
            except OSError as error:  # another process was faster, say
                raise WeightsError(f"Cannot write {out}: {error.strerror or error}.") from error
    return out


def _opened(path):
    """The checkpoint at `path`; presets of keras-hub are read by keras-hub."""
    config = path / "config.json"
    if path.is_dir() and config.is_file() and keras_hub.owns(read_json(config)):
        return keras_hub.KerasHubCheckpoint(path)
    return Checkpoint(path)


def _convert(checkpoint, folder, address, name, progress):
    """Write the preset directory of a checkpoint; `name` is its preset, if known."""
    layout = format_of(checkpoint.specs, checkpoint.hf_config)
    sha256 = checkpoint.sha256()
    with explained(address, WeightsError, "has tensors of unexpected names or shapes"):
        architecture = layout.config_from(checkpoint.specs, checkpoint.hf_config)
    _check_amount(architecture, layout, checkpoint, address)
    tells_itself = layout.ambiguous and checkpoint.hf_config is not None
    if name is None and not tells_itself:
        files = [file.name for file in checkpoint.files]
        name = _preset_with(sha256) or layout.preset_of(files)
    if name is None and layout.ambiguous and not tells_itself:
        raise _asking(address, layout, architecture)
    task = task_named(layout.task)
    if name is not None:
        preset = presets.read_preset(name)
        parts = ("encoder", "encoder_config") if layout.fresh else tuple(architecture)
        told = {part: architecture[part] for part in parts}
        lines = differences(told, preset["architecture"], layout.untold)
        if tells_itself:
            lines += _taps_differ(architecture, preset["architecture"])
        if lines:
            raise WeightsError(f"{address} is not of preset {name!r}:\n  " + "\n  ".join(lines))
    else:
        preset = {
            "task": layout.task,
            "architecture": architecture,
            "image": layout.image_from(architecture, checkpoint.hf_image),
            "output": task.output_of(architecture["task_config"])
            | layout.names_from(architecture, checkpoint.hf_config),
        }
        if checkpoint.hf_config is None and not layout.fresh:
            logger.warning(NOTE_UNKNOWN, address, sha256, task.assumption)
    if layout.fresh:
        logger.warning("%s has an encoder only: the decoder is untrained, train it first.", address)

    model = _build(preset)
    variables = {variable.path: variable for variable in model.weights}
    if len(variables) < len(model.weights):
        raise WeightsError(
            "Two variables of the network have one path: no rule can tell them apart."
        )
    shapes = {path: tuple(variable.shape) for path, variable in variables.items()}
    writes = plan(shapes, layout, checkpoint.specs, _unbuilt(preset["architecture"]))
    encoder_config = preset["architecture"]["encoder_config"]
    check_constants(layout.constants, checkpoint.specs, checkpoint.read, encoder_config)
    check_space(folder, 4 * sum(math.prod(shape) for shape in shapes.values()))
    with progress_bar(progress, iterable=writes, desc="Converting", unit=" variables") as bar:
        assign(bar, checkpoint.read, variables)
    model.save_to_preset(str(folder))

    card = {
        "preset": name,
        "task": preset["task"],
        "output": preset["output"],
        "parameters": model.count_params(),
        "weights": "encoder_only" if layout.fresh else "complete",
        "source": {"address": address, "format": layout.name, "sha256": sha256},
        "converted_by": f"keras_dpt {__version__}",
    }
    for key in ("weights_license", "license_evidence", "training_data", "notes"):
        card[key] = preset.get(key)
    text = json.dumps(card, indent=2, ensure_ascii=False)
    (folder / CARD).write_text(text + "\n", encoding="utf-8")


def _check_amount(architecture, layout, checkpoint, address):
    """Raise a WeightsError if the tensors are too few for the architecture inferred from them."""
    described = dict(architecture["encoder_config"])
    if matches(layout.fresh, "block_0/"):  # the checkpoint has stages only
        described = {key: described[key] for key in ("stage_channels", "stage_depths")}
    elif not layout.fresh:
        described |= architecture["backbone_config"]
    available = sum(math.prod(spec.shape) for spec in checkpoint.specs.values())
    check_amount(described, available, address)


def _asking(address, layout, architecture):
    """The error for a checkpoint that may be any of several presets."""
    candidates = []
    for name in presets.preset_names():
        preset = presets.read_preset(name)
        formats = {source["format"] for source in preset["sources"]}
        if layout.name in formats and not differences(
            architecture, preset["architecture"], layout.untold
        ):
            candidates.append(name)
    return WeightsError(
        f"The tensors of {address} do not show which network it is: several have the same tensors. "
        "Name it with keras_dpt.convert(..., preset=NAME) or `keras-dpt convert --preset NAME`, "
        f"NAME being one of {', '.join(candidates) or 'keras_dpt.list_presets()'}."
    )


def _taps_differ(told, wanted):
    """A line if a config and a preset tap different blocks."""
    theirs, ours = (x["encoder_config"].get("out_indices") for x in (told, wanted))
    if theirs is None or list(theirs) == list(ours):
        return []  # encoders of four stages have no choice
    return [f"encoder_config.out_indices: {theirs} in the checkpoint, {ours} in the preset"]


def _build(preset):
    """The network of a preset, in float32 regardless of the global policy."""
    try:
        return task_named(preset["task"]).from_architecture(preset, dtype="float32")
    except ValueError as error:
        raise WeightsError(f"Cannot build a model from this checkpoint: {error}") from error


def _unbuilt(architecture):
    """Blocks that our encoders leave out, `{pattern of variable paths: reason}`."""
    config = architecture["encoder_config"]
    if "out_indices" not in config:
        return {}
    blocks = range(config["out_indices"][-1] + 1, config["num_layers"])
    return {f"block_{i}/": "after the last tap" for i in blocks}


def _preset_with(sha256):
    """Name of the preset that has a source of this hash, or `None`."""
    for name in presets.preset_names():
        for source in presets.read_preset(name).get("sources", ()):
            known = presets.source_sha256(source)
            if known and sha256.startswith(known):
                return name
    return None
