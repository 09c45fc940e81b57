"""Fetch complete files, or none: from a URL, or from the Hugging Face hub."""

import hashlib
import os
import re
import time
from pathlib import Path

from tqdm import tqdm

from keras_dpt.errors import WeightsError
from keras_dpt.space import check_space, disk_full_explained
from keras_dpt.weights.bounds import HubBounds, Pace

ATTEMPTS = 4
PAUSE = 0.5  # seconds before the second attempt, doubled before each later one
REFUSALS = frozenset(range(400, 500)) - {408, 429}  # those two mean: not now
TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of data
MAX_SIZE = 32 * 1024**3  # bytes of a file of which nothing else is known
MAX_JSON = 64 * 1024**2  # bytes of a description; an index of many shards has 1 MB
FORBIDDEN = "KERAS_DPT_OFFLINE or HF_HUB_OFFLINE forbids the network"


def is_offline():
    """Whether KERAS_DPT_OFFLINE or HF_HUB_OFFLINE forbids the network."""
    values = (os.environ.get(name, "") for name in ("KERAS_DPT_OFFLINE", "HF_HUB_OFFLINE"))
    return any(value.lower() in ("1", "on", "yes", "true") for value in values)


def sha256_of(file):
    """Hex sha256 of a file's content."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def progress_bar(progress, **options):
    """A tqdm bar on standard error, hidden without `progress`."""
    return tqdm(disable=not progress, **options)


def download(url, path, sha256=None, progress=True, max_size=MAX_SIZE):
    """Fetch a file by HTTP and put it at `path` once it is complete and checked.

    An interruption leaves `path` with ".part" appended; the next call continues there if the server
    supports it and `sha256` is given, to check the result.

    Args:
        url: address of the file.
        path: of the file; directories are created.
        sha256: hex digest that the file must have, or how it starts.
        progress: show a progress bar.
        max_size: bytes; the download stops if the server sends more.

    Returns: `path` as a `Path`.
    Raises: WeightsError: offline, not found, wrong content, too large, no space. The message says
        what to do.
    """
    import requests

    path = Path(path)
    part = path.with_name(path.name + ".part")
    if is_offline():
        raise WeightsError(f"{FORBIDDEN}. Fetch {url} by other means and put it at {path}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    if sha256 is None:
        part.unlink(missing_ok=True)

    failures, farthest = 0, _size(part)
    while True:
        try:
            with disk_full_explained(part.parent, unfinished=part):
                _fetch(url, part, progress, max_size)
            break
        except requests.RequestException as error:
            response = error.response
            if response is not None and response.status_code in REFUSALS:
                raise WeightsError(
                    f"{url} answers {response.status_code} {response.reason}. "
                    f"If it has moved, put the file at {path}."
                ) from error
            # Only consecutive attempts without new data count.
            failures = 1 if _size(part) > farthest else failures + 1
            farthest = max(farthest, _size(part))
            if failures == ATTEMPTS:
                raise WeightsError(
                    f"Can't fetch {url}: {_reason(error)}. Try again later (the part received is "
                    f"kept and not fetched again), or put the file at {path}."
                ) from error
            time.sleep(PAUSE * 2 ** (failures - 1))

    if sha256 is not None and not (found := sha256_of(part)).startswith(sha256):
        part.unlink()
        raise WeightsError(
            f"{url} sent a file with sha256 {found}; it should start with {sha256}. The file was "
            "deleted. Try again; if this persists, the server has a different file."
        )
    os.replace(part, path)
    return path


def _fetch(url, part, progress, max_size):
    """One attempt to fetch the rest of a file.

    Raises: requests.RequestException: try again. WeightsError: the file is too large.
    """
    import requests

    start = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        status, sent = response.status_code, response.headers.get("Content-Range", "")
        if start and status == 416 and sent.endswith(f"/{start}"):
            return  # it was whole already
        if status == 416 or (status == 206 and not sent.startswith(f"bytes {start}-")):
            part.unlink(missing_ok=True)
            raise requests.ConnectionError(
                f"the server answers {status}, Content-Range {sent or 'missing'}, when asked to "
                + (f"go on at byte {start}" if start else "send the whole file")
            )
        response.raise_for_status()
        if status not in (200, 206):
            raise requests.ConnectionError(f"the server answers {status}, which is no file")
        start = start if status == 206 else 0
        total = _announced(response.headers.get("Content-Length"), start)
        if total is not None and total > max_size:
            raise _too_large(url, part, f"{total / 1e6:,.0f} MB", max_size)
        check_space(part.parent, (total or 0) - start)
        options = {"total": total, "initial": start, "unit": "B", "unit_scale": True}
        with (
            open(part, "ab" if start else "wb") as file,
            progress_bar(progress, desc=part.stem, **options) as bar,
        ):
            pace = Pace(url)
            for piece in _pieces(response):
                start += len(piece)
                if start > max_size:
                    raise _too_large(url, part, "more and more", max_size)
                bar.update(file.write(piece))
                pace.came(len(piece))
    if total is not None and _size(part) != total:
        raise requests.ConnectionError(f"{_size(part)} of {total} bytes came")


def _pieces(response):
    """The body in pieces as they arrive. Raises: requests.RequestException."""
    import requests
    import urllib3

    read = getattr(response.raw, "read1", None)
    if read is None:  # urllib3 1
        yield from response.iter_content(1 << 14)
        return
    try:
        while piece := read(1 << 20, decode_content=True):
            yield piece
    except urllib3.exceptions.HTTPError as error:
        raise requests.ConnectionError(str(error)) from error


def _announced(length, start):
    """Bytes of the whole file by the header Content-Length; `None` without one."""
    import requests

    if not length:
        return None
    if not (length.isascii() and length.isdecimal()):
        raise requests.ConnectionError(f"the server says Content-Length: {length[:40]!r}")
    return start + int(length)


def _too_large(url, part, what, max_size):
    part.unlink(missing_ok=True)
    return WeightsError(
        f"{url} sends {what}, but the file should have {max_size / 1e6:,.0f} MB at most. It was "
        "not kept. The server has a different file."
    )


def download_from_hub(repo, file, optional=False, sha256=None, max_size=None):
    """Fetch a file of a Hugging Face repository through the hub's own cache.

    Settings of `huggingface_hub` are respected: HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE, tokens.

    Args:
        repo: "user/repository".
        file: path in the repository.
        optional: return `None` if the repository has no such file.
        sha256: hex digest that the file must have, or how it starts. Without it too, a file that
            differs from the hub's digest is rejected.
        max_size: bytes; by default `MAX_SIZE`, and `MAX_JSON` of JSON files.

    Returns: path in the hub's cache.
    Raises: WeightsError: it cannot be fetched, is too large, or differs from the hub's digest.
    """
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    address = f"hf://{repo}/{file}"
    max_size = max_size or (MAX_JSON if file.endswith(".json") else MAX_SIZE)
    cache = Path(constants.HF_HUB_CACHE)
    blobs = cache / f"models--{repo}".replace("/", "--") / "blobs"
    bounds = HubBounds(address, max_size, blobs)
    try:
        path = Path(
            bounds.download(
                huggingface_hub.hf_hub_download, repo, file, local_files_only=is_offline()
            )
        )
    except WeightsError:
        raise
    except LocalEntryNotFoundError as error:
        known = huggingface_hub.try_to_load_from_cache(repo, file)
        if optional and known is not None and not isinstance(known, str):
            return None  # the cache remembers that the repository has none
        cause = _reason(error.__cause__ or error)
        why = FORBIDDEN if is_offline() else f"the hub does not answer ({cause})"
        raise WeightsError(
            f"Can't fetch {address}: {why}, and the hub's cache does not have it."
        ) from error
    except EntryNotFoundError as error:
        if optional:
            return None
        raise WeightsError(f"Can't fetch {address}: there is no such file.") from error
    except Exception as error:  # whatever HTTP client the hub uses has its own exceptions
        raise WeightsError(f"Can't fetch {address}: {_reason(error)}.") from error

    blob = path.resolve()  # large files are named after their sha256 in the hub's cache
    if re.fullmatch("[0-9a-f]{64}", blob.name) and sha256_of(blob) != blob.name:
        path.unlink()
        blob.unlink(missing_ok=True)
        raise WeightsError(
            f"{address} arrived damaged: its sha256 isn't {blob.name}. It was deleted; try again."
        )
    if sha256 is not None and not (found := sha256_of(blob)).startswith(sha256):
        raise WeightsError(
            f"{address} has sha256 {found}; it should start with {sha256}. The file in the "
            "repository has changed."
        )
    return path


def _size(file):
    return file.stat().st_size if file.exists() else 0


def _reason(error):
    """The reason of a failure in one line: the innermost cause that urllib3 wraps."""
    cause = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(cause, Exception):  # of "Max retries exceeded with url: ... (Caused by ...)"
        error = re.sub(r"^\w+\([^)]*\): ", "", str(cause)) or type(cause).__name__
    return (str(error) or type(error).__name__).strip().splitlines()[0].rstrip(".")
