"""Official files before they are fetched: which, how large, whether they changed, enough disk?"""

import hashlib
import json
from dataclasses import dataclass, field

from keras_dpt import presets
from keras_dpt.errors import WeightsError
from keras_dpt.version import __version__
from keras_dpt.weights.download import TIMEOUT, is_offline, sha256_of
from keras_dpt.weights.originals import is_here

_FILE_PER_PRESET = 4.2  # bytes per parameter of a file, and of what it is converted to


@dataclass(frozen=True)
class Job:
    """One official file of a preset.

    Attributes:
        preset: the preset's dict. number: of the file in its `sources`.
        size: bytes by the server, `None` if it does not say.
        tag: what the server says of the content, an ETag; "" if it says nothing.
        here: whether the file is in the cache already.
    """

    preset: dict = field(repr=False)
    number: int
    size: int | None
    tag: str
    here: bool

    @property
    def source(self):
        return self.preset["sources"][self.number]

    @property
    def address(self):
        return presets.source_address(self.source)

    @property
    def key(self):
        """What a result is found by in an earlier run's file."""
        return f"{self.preset['name']} {self.address}"

    @property
    def converted_size(self):
        return int(_FILE_PER_PRESET * self.preset["parameters"])

    @property
    def expected_size(self):
        return self.converted_size if self.size is None else self.size

    def fingerprint(self, settings):
        """Digest of what a result depends on, the file's content aside.

        Args: settings: strings, such as versions.
        """
        parts = [self.preset[key] for key in ("architecture", "image", "output")]
        text = json.dumps([__version__, self.source["format"], *settings, *parts])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def jobs_of(names):
    """A `Job` for each file of these presets; servers are asked for size and tag, not for content.

    Raises: ValueError: there is no such preset. WeightsError: one has no official file.
    """
    found = []
    for preset in map(presets.read_preset, names):
        if not preset["sources"]:
            raise WeightsError(
                f"The weights of {preset['name']!r} come with the package: there is no official "
                "file to verify."
            )
        for number, source in enumerate(preset["sources"]):
            size, tag = (None, "") if is_offline() else _asked(source)
            found.append(Job(preset, number, size, tag, is_here(source)))
    return found


def disk_need(jobs):
    """Bytes that stay in the hub's cache, and the most that is needed besides at any time."""
    staying = sum(j.expected_size for j in jobs if "repo" in j.source and not j.here)
    passing = [
        j.converted_size + (j.expected_size if "repo" not in j.source and not j.here else 0)
        for j in jobs
    ]
    return staying, max(passing, default=0)


def _asked(source):
    """Size and tag of a source by its server; what it does not say is `None` and ""."""
    if "repo" in source:
        return _of_hub(source["repo"], source["file"])
    answers = [_of_url(source[key]) for key in ("url", "encoder_url") if key in source]
    sizes = [size for size, _ in answers]
    size = None if None in sizes else sum(sizes)
    tags = [tag for _, tag in answers]
    return size, " ".join(tags) if all(tags) else ""


def _of_hub(repo, file):
    import huggingface_hub

    try:
        url = huggingface_hub.hf_hub_url(repo, file)
        found = huggingface_hub.get_hf_file_metadata(url, timeout=TIMEOUT[0])
    except Exception:  # of whatever client the hub uses; fetching will say what is wrong
        return None, ""
    return found.size, found.etag or ""


def _of_url(url):
    import requests

    try:
        answer = requests.head(url, allow_redirects=True, timeout=TIMEOUT)
        answer.raise_for_status()
    except requests.RequestException:
        return None, ""
    length = answer.headers.get("Content-Length", "")
    tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    return int(length) if length.isdecimal() else None, tag


def hashes_of(path):
    """`{file name: sha256}` of a file, or of each file of a folder."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return {file.name: sha256_of(file) for file in files if file.suffix != ".part"}


def known_hashes(source):
    """`{file name: sha256 or its start}` of a source's files, as far as the preset knows them."""
    main = source["file"] if "repo" in source else source["url"]
    pairs = [(main, presets.source_sha256(source))]
    pairs.append((source.get("encoder_url", ""), source.get("encoder_sha256")))
    return {name.rpartition("/")[2]: start for name, start in pairs if start}
