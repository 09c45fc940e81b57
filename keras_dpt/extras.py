"""Optional packages: how to install them, true for the way in which this package is installed."""

import json
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlparse


def install_command(extra: str) -> str:
    """The pip command that installs one of this package's extras, such as "video".

    It works in any folder: in a clone, and where this package was installed from one, it names that
    folder; elsewhere it names the packages themselves.
    """
    editable, folder = _origin()
    if folder is not None:
        return f'pip install {"-e " * editable}"{folder}[{extra}]"'
    return "pip install " + " ".join(f'"{package}"' for package in _packages(extra))


def _origin() -> tuple[bool, Path | None]:
    """Whether the installation is editable, and the folder of the source if it is still there."""
    checkout = Path(__file__).resolve().parent.parent
    if _is_source(checkout):
        return True, checkout
    try:
        text = metadata.distribution("keras-dpt").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        text = None
    address = urlparse(json.loads(text or "{}").get("url", ""))
    folder = Path(unquote(address.path))
    return False, folder if address.scheme == "file" and _is_source(folder) else None


def _is_source(folder: Path) -> bool:
    return (folder / "pyproject.toml").is_file() and (folder / "keras_dpt").is_dir()


def _packages(extra: str) -> list[str]:
    """The requirements of an extra, from the metadata of the installed package."""
    try:
        required = metadata.requires("keras-dpt") or []
    except metadata.PackageNotFoundError:
        required = []
    pairs = [line.partition(";") for line in required]
    ends = f"extra == '{extra}'", f'extra == "{extra}"'
    found = [package.strip() for package, _, marker in pairs if marker.strip().endswith(ends)]
    return found or [f"keras-dpt[{extra}]"]
