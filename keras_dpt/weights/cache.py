"""Turn whatever `from_preset` takes into a local keras-hub preset directory, once.

The cache is $KERAS_DPT_CACHE, else `~/.cache/keras_dpt`:

    presets/<name>-<digest>/   converted presets, complete or absent
    downloads/<file>           official files on their way; one put here by hand is used
    locks/                     one process at a time converts a preset

What comes from the Hugging Face hub stays in the hub's own cache besides.
"""

import gc
import hashlib
import json
import logging
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from keras_dpt import presets
from keras_dpt.errors import WeightsError
from keras_dpt.weights.download import download, download_from_hub, is_offline, sha256_of

logger = logging.getLogger("keras_dpt")

# Part of every key: raise it when conversion changes, so that old results are not found.
FORMAT = 1


def cache_directory():
    """Where downloads and converted presets are kept."""
    return Path(os.environ.get("KERAS_DPT_CACHE") or "~/.cache/keras_dpt").expanduser()


def preset_directory(preset, progress=True):
    """A keras-hub preset for anything that `from_preset` takes.

    Args:
        preset: a preset's name; a `.pt` or `.safetensors` file; a Hugging Face directory or
            `hf://user/repository` of a DPT (or of a ViT classifier, for its encoder); any
            keras-hub preset.
        progress: show progress bars.

    Returns: `str`: a local directory; a keras-hub preset is returned as it came.
    Raises:
        ValueError: there is no preset of this name.
        WeightsError: the weights can't be had or converted.
    """
    preset = os.fspath(preset)
    if preset in presets.preset_names():
        return presets.preset_path(preset) or _converted(preset, preset, _recipe(preset), progress)
    if preset.startswith("hf://"):
        repo = preset.removeprefix("hf://")
        config = download_from_hub(repo, "config.json")
        if not _is_foreign(config):
            # keras-hub would ask the hub for news; what the hub's cache has, it finds there.
            return str(config.parent) if is_offline() else preset
        return _converted(preset, repo.replace("/", "--"), config.parent.name, progress)
    if "://" in preset:
        return preset
    path = Path(preset).expanduser()
    if not path.exists() and path.name == preset and not path.suffix:
        presets.read_preset(preset)  # raises and lists the names
    config = path / "config.json"
    if path.is_dir() and config.is_file() and not _is_foreign(config):
        return preset
    return _converted(str(path), path.stem, _fingerprint(path), progress)


@contextmanager
def located(source, progress=True):
    """A context in which a source is on this machine; a file fetched for it goes when it succeeds.

    Args:
        source: a preset's name, a path, or `hf://user/repository`.
        progress: show progress bars.

    Yields: path, address that it came from, name of the preset it is of or `None`.
    Raises: ValueError, WeightsError: as `preset_directory`.
    """
    source = os.fspath(source)
    if source in presets.preset_names():
        path, address, is_ours = _fetch_preset(source, progress)
        yield path, address, source
        if is_ours:
            path.unlink()
    elif source.startswith("hf://"):
        folder = _fetch_repository(source.removeprefix("hf://"))
        yield folder, f"{source}@{folder.name}", None
    else:
        yield Path(source).expanduser(), Path(source).name, None


def _converted(source, name, digest, progress):
    """The cache's directory for a source, converted now if need be."""
    from filelock import FileLock

    from keras_dpt import conversion

    folder = cache_directory() / "presets" / f"{name}-{digest[:16]}"
    if (folder / conversion.CARD).is_file():
        return str(folder)
    locks = cache_directory() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"{folder.name}.lock"):
        if not (folder / conversion.CARD).is_file():
            # We hold the lock: whoever was at this died.
            for remains in folder.parent.glob(f".{folder.name}.*"):
                shutil.rmtree(remains)
            logger.info("Converting %s into %s, once", source, folder)
            try:
                conversion.convert(source, folder, progress=progress)
            except (OSError, WeightsError):
                # Locks do nothing on some network disks: perhaps somebody else was faster.
                if not (folder / conversion.CARD).is_file():
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
    from keras_dpt.conversion.readers import description_files, weight_files

    files = [*weight_files(path), *description_files(path)]
    return hashlib.sha256("".join([str(FORMAT), *map(sha256_of, files)]).encode()).hexdigest()


def _is_foreign(config_file):
    """Whether a `config.json` is of a model that we have to convert: DPT, or a ViT classifier."""
    from keras_dpt.conversion.readers import read_json

    config = read_json(config_file)
    is_timm_vit = str(config.get("architecture", "")).startswith("vit_")
    return config.get("model_type") in ("dpt", "vit") or is_timm_vit


def _fetch_preset(name, progress):
    """Path, address and "downloaded by us" of the first of a preset's sources that can be had."""
    from keras_dpt.conversion.readers import require_torch

    sources = presets.read_preset(name)["sources"]
    for source in sources:
        file = _placed(source)
        if file.is_file():
            prefix, found = source["sha256_prefix"], sha256_of(file)
            if not found.startswith(prefix or ""):
                raise WeightsError(
                    f"{file} has sha256 {found}; it should start with {prefix}. Put the right file "
                    f"there, from {presets.source_address(source)}, or delete it."
                )
            return file, presets.source_address(source), False
    failures = []
    for source in sources:
        address = presets.source_address(source)
        try:
            if "repo" in source:
                return download_from_hub(source["repo"], source["file"]), address, False
            require_torch(address)
            file = download(address, _placed(source), source["sha256_prefix"], progress)
            return file, address, True
        except WeightsError as error:
            failures.append(str(error))
    places = [f"{presets.source_address(source)} at {_placed(source)}" for source in sources]
    raise WeightsError(
        f"The weights of {name!r} are not in {cache_directory()} and can't be fetched.\n  "
        + "\n  ".join(failures)
        + "\nTo do without the network, put\n  "
        + "\n  or ".join(places)
    )


def _placed(source):
    """Where a source's file goes, by download or by hand."""
    if "url" in source:
        name = source["url"].rpartition("/")[2]
    else:
        name = f"{source['repo']}/{source['file']}".replace("/", "--")
    return cache_directory() / "downloads" / name


def _fetch_repository(repo):
    """The hub cache's directory of a repository, with config and weights in it."""
    from keras_dpt.conversion.readers import HF_FILES, read_json

    config = download_from_hub(repo, "config.json")
    download_from_hub(repo, "preprocessor_config.json", optional=True)
    for name in HF_FILES:
        file = download_from_hub(repo, name, optional=True)
        if file is not None:
            break
    else:
        raise WeightsError(f"hf://{repo} has none of {', '.join(HF_FILES)}.")
    if file.name.endswith(".index.json"):
        for name in sorted(set(read_json(file)["weight_map"].values())):
            download_from_hub(repo, name)
    return config.parent
