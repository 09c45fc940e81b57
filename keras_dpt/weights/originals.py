"""Official files: where they are stored, and how they are fetched."""

import os
import shutil
from contextlib import ExitStack, contextmanager
from pathlib import Path

from keras_dpt import presets
from keras_dpt.errors import WeightsError
from keras_dpt.weights.download import download, download_from_hub, is_offline, sha256_of
from keras_dpt.weights.readers import HF_FILES, require_torch, shards_of

_SPARE = 64 * 1024**2  # bytes
_PAIR = ("encoder_url", "url")  # of a source whose encoder is a file of its own


def cache_directory():
    """Directory of downloads and converted presets."""
    return expanded(os.environ.get("KERAS_DPT_CACHE") or "~/.cache/keras_dpt")


def expanded(path):
    """A path with `~` expanded. Raises: WeightsError: there is no such user, or no home."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise WeightsError(
            f"{path}: that user has no home directory. Give the full path; KERAS_DPT_CACHE sets "
            "that of the cache."
        ) from error


@contextmanager
def located(source, progress=True):
    """A context with a local copy of a source; a file fetched for it is removed on success.

    Args:
        source: a preset's name, a path, or `hf://user/repository`.
        progress: show progress bars.

    Yields: path, its original address, name of its preset or `None`.
    Raises: ValueError, WeightsError: as `preset_directory`.
    """
    source = os.fspath(source)
    if source in presets.preset_names():
        with ExitStack() as stack:
            path, address, is_ours = _fetch_preset(source, progress, stack)
            yield path, address, source
            if is_ours:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif source.startswith("hf://"):
        folder = _fetch_repository(source.removeprefix("hf://"))
        yield folder, f"{source}@{folder.name}", None
    else:
        yield expanded(source), Path(source).name, None


@contextmanager
def located_source(preset, source, progress=True):
    """As `located`, for exactly this one of the `sources` of a preset's dict.

    Yields: path of its file, or of the folder of two files of one network.
    Raises: WeightsError: the file cannot be fetched, or is a different one.
    """
    with ExitStack() as stack:
        path, is_ours = _fetch_source(preset, source, progress, stack)
        yield path
        if is_ours:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_here(source):
    """Whether the file of a preset's source is in a cache: ours, or the hub's."""
    if "repo" not in source or _is_placed(source):
        return _is_placed(source)
    import huggingface_hub

    return isinstance(huggingface_hub.try_to_load_from_cache(source["repo"], source["file"]), str)


def _fetch_preset(name, progress, stack):
    """Path, address and "downloaded by us" of the first available source of a preset.

    A lock entered into `stack` keeps other processes from a file that is being downloaded.
    """
    preset = presets.read_preset(name)
    for source in preset["sources"]:
        if _is_placed(source):
            return _checked(source), presets.source_address(source), False
    failures = []
    for source in preset["sources"]:
        address = presets.source_address(source)
        try:
            file, is_ours = _fetch_source(preset, source, progress, stack)
            return file, address, is_ours
        except WeightsError as error:
            failures.append(str(error))
        except Exception as error:  # of the system, or of a client: another source may do
            failures.append(f"Can't fetch {address}: {str(error) or type(error).__name__}.")
    sources = preset["sources"]
    places = [f"{presets.source_address(source)} at {_placed(source)}" for source in sources]
    places += [
        f"{source['encoder_url']} in {_placed(source)} too"
        for source in sources
        if "encoder_url" in source
    ]
    raise WeightsError(
        f"The weights of {name!r} are not in {cache_directory()} and can't be fetched.\n  "
        + "\n  ".join(failures)
        + "\nTo work offline, put\n  "
        + "\n  or ".join(places)
        + _alternative(preset["task"])
    )


def _alternative(task):
    """The end of a message: presets of a task that need no download, if any."""
    bundled = [name for name in presets.preset_names(task) if presets.preset_path(name)]
    return f"\nTo try things out, use a bundled preset: {', '.join(bundled)}." if bundled else ""


def _fetch_source(preset, source, progress, stack):
    """Path of one of a preset's sources, fetched if necessary, and whether we downloaded it."""
    if _is_placed(source):
        return _checked(source), False
    address, sha256 = presets.source_address(source), presets.source_sha256(source)
    # Files hold 4 bytes per parameter, and little that the network omits.
    limit = _SPARE + 8 * preset["parameters"]
    if "repo" in source:
        repo, file = source["repo"], source["file"]
        return download_from_hub(repo, file, sha256=sha256, max_size=limit), False
    require_torch(address)
    if not is_offline():
        stack.enter_context(_lock(source))
    if _is_placed(source):  # another process has just left it
        return _checked(source), False
    if "encoder_url" in source:
        # A file that a user put there stays there.
        hashes = {source["url"]: sha256, source["encoder_url"]: source.get("encoder_sha256")}
        files = {_placed(source) / _name(source[key]): source[key] for key in _PAIR}
        missing = [file for file in files if not file.is_file()]
        for file in missing:
            download(files[file], file, hashes[files[file]], progress, limit)
        return _placed(source), len(missing) == len(files)
    return download(address, _placed(source), sha256, progress, limit), True


def _checked(source):
    """The file of a source in its place, if it is the right one; or the folder of two."""
    place = _placed(source)
    wanted = {place: (presets.source_sha256(source), presets.source_address(source))}
    if "encoder_url" in source:
        known = presets.source_sha256(source), source.get("encoder_sha256")
        urls = source["url"], source["encoder_url"]
        wanted = {place / _name(url): (x, url) for x, url in zip(known, urls, strict=True)}
    for file, (sha256, address) in wanted.items():
        if sha256 is not None and not (found := sha256_of(file)).startswith(sha256):
            raise WeightsError(
                f"{file} has sha256 {found}; it should start with {sha256}. Put the right file "
                f"there, from {address}, or delete it."
            )
    return place


def _lock(source):
    """The lock of the process that downloads a source's file and uses it."""
    from filelock import FileLock

    locks = cache_directory() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    return FileLock(locks / f"{_placed(source).name}.lock")


def _is_placed(source):
    """Whether a source's file, or both of its two files, are in their place."""
    if "encoder_url" not in source:
        return _placed(source).is_file()
    return all((_placed(source) / _name(source[key])).is_file() for key in _PAIR)


def _name(url):
    """Name of the file at an address."""
    return url.rpartition("/")[2]


def _placed(source):
    """Where a source's file goes, by download or by hand; the folder of two files of one network"""
    if "encoder_url" in source:
        name = _name(source["url"]).partition(".")[0]
    elif "url" in source:
        name = _name(source["url"])
    else:
        name = f"{source['repo']}/{source['file']}".replace("/", "--")
    return cache_directory() / "downloads" / name


def _fetch_repository(repo):
    """The hub cache's directory of a repository, with config and weights in it."""
    config = download_from_hub(repo, "config.json")
    download_from_hub(repo, "preprocessor_config.json", optional=True)
    for name in HF_FILES:
        file = download_from_hub(repo, name, optional=True)
        if file is not None:
            break
    else:
        raise WeightsError(f"hf://{repo} has none of {', '.join(HF_FILES)}.")
    if file.name.endswith(".index.json"):
        for name in shards_of(file):
            download_from_hub(repo, name)
    return config.parent
