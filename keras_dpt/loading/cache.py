"""Turn whatever `from_preset` takes into a local keras-hub preset directory, once.

The cache is $KERAS_DPT_CACHE, else `~/.cache/keras_dpt`:

    presets/<name>-<digest>/   converted presets, complete or absent
    downloads/<file>           official files on their way; one put here by hand is used
    locks/                     one process at a time converts a preset

Files from the Hugging Face hub also stay in the hub's own cache.
"""

import gc
import hashlib
import json
import logging
import os
import shutil
from pathlib import Path

from keras_dpt import presets
from keras_dpt.conversion.convert import CARD, convert
from keras_dpt.conversion.formats import is_checkpoint
from keras_dpt.errors import WeightsError
from keras_dpt.loading.preset_files import check_descriptions
from keras_dpt.weights.download import FORBIDDEN, download_from_hub, is_offline, sha256_of
from keras_dpt.weights.originals import cache_directory, expanded
from keras_dpt.weights.readers import KERAS_FILE, description_files, read_json, weight_files

logger = logging.getLogger("keras_dpt")

# Part of every key: raise it when conversion changes, so that old results are not found.
FORMAT = 1

# keras-hub's presets that its own classes load otherwise, and ours by conversion.
DEPTH_ANYTHING = "kaggle://keras/depth-anything/"


def preset_directory(preset, progress=True):
    """The keras-hub preset for anything that `from_preset` takes.

    Args:
        preset: a preset's name; a `.pt` or `.safetensors` file; a Hugging Face directory or
            `hf://user/repository` of a DPT (or of a ViT classifier, for its encoder); any
            keras-hub preset.
        progress: show progress bars.

    Returns: `str`: a local directory; keras-hub presets are returned unchanged.
    Raises:
        ValueError: there is no preset of this name.
        WeightsError: the weights can't be downloaded or converted, or KERAS_DPT_OFFLINE forbids the
            download.
    """
    preset = os.fspath(preset)
    if preset in presets.preset_names():
        return presets.preset_path(preset) or _converted(preset, preset, _recipe(preset), progress)
    if preset.startswith("hf://"):
        repo = preset.removeprefix("hf://")
        config = download_from_hub(repo, "config.json")
        if not is_checkpoint(read_json(config)):
            # keras-hub would ask the hub for news; what the hub's cache has, it finds there.
            return str(config.parent) if is_offline() else preset
        return _converted(preset, repo.replace("/", "--"), config.parent.name, progress)
    if "://" in preset:
        if is_offline():
            raise WeightsError(
                f"{FORBIDDEN}, so {preset} is not asked for. Download it by other means and pass "
                "its directory."
            )
        return _of_kaggle(preset, progress) if preset.startswith(DEPTH_ANYTHING) else preset
    path = expanded(preset)
    if not path.exists() and path.name == preset and not path.suffix:
        presets.read_preset(preset)  # raises and lists the names
    if path.suffix == ".keras":
        raise WeightsError(
            f"{path} is a .keras file, not a preset. Make one of it: "
            "`DPTDepth.from_preset(file).save_to_preset(folder)`, or another class of task."
        )
    config = path / "config.json"
    if path.is_dir() and config.is_file() and not is_checkpoint(read_json(config)):
        check_descriptions(path)
        return str(path) if preset.startswith("~") else preset
    return _converted(str(path), path.stem, _fingerprint(path), progress)


def _of_kaggle(preset, progress):
    """The converted preset of a keras-hub handle, by the cache that keras-hub has it in, too."""
    import kagglehub

    handle = preset.removeprefix("kaggle://")
    try:
        config = Path(kagglehub.model_download(handle, path="config.json"))
        kagglehub.model_download(handle, path=KERAS_FILE)
    except Exception as error:  # of the client, of the network
        raise WeightsError(
            f"Can't fetch {preset}: {str(error) or type(error).__name__}."
        ) from error
    return preset_directory(str(config.parent), progress)


def _converted(source, name, digest, progress):
    """The cache's directory for a source, converted now if need be."""
    from filelock import FileLock

    folder = cache_directory() / "presets" / f"{name}-{digest[:16]}"
    if (folder / CARD).is_file():
        return str(folder)
    locks = cache_directory() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"{folder.name}.lock"):
        if not (folder / CARD).is_file():
            # We hold the lock: whoever was at this died.
            for remains in folder.parent.glob(f".{folder.name}.*"):
                shutil.rmtree(remains)
            logger.info("Converting %s into %s, once", source, folder)
            try:
                convert(source, folder, progress=progress)
            except (OSError, WeightsError):
                # Locks do nothing on some network disks: perhaps somebody else was faster.
                if not (folder / CARD).is_file():
                    raise
            gc.collect()  # Keras models hold themselves in cycles; the next one needs the memory
    return str(folder)


def _recipe(name):
    """Digest of what makes a named preset what it is, so that a corrected one is made again."""
    preset = presets.read_preset(name)
    parts = [preset[key] for key in ("architecture", "image", "output", "sources")]
    return hashlib.sha256(json.dumps([FORMAT, *parts], sort_keys=True).encode()).hexdigest()


def _fingerprint(path):
    """Digest of a checkpoint's files."""
    files = [*weight_files(path), *description_files(path)]
    return hashlib.sha256("".join([str(FORMAT), *map(sha256_of, files)]).encode()).hexdigest()
