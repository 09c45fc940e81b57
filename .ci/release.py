"""Build wheel and source archive, check what is in them, and print the text of the tag.

    python .ci/release.py [--out dist] [--unreleased]

It needs `build`. Exit code: 1 if a check fails; everything that is wrong is named.
"""

import argparse
import datetime
import email
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
PRESETS = "keras_dpt_presets"
BUNDLED = ("dpt_mini_camvid", "dpt_mini_nyuv2", "dpt_mini_nyuv2_metric")
LICENSES = ("LICENSE", "LICENSES.md")
MAX_MB = 40  # of an archive; the bundled weights are half of it
# Parts of paths that no archive has: tests, data sets, what runs leave behind.
UNWANTED = ("tests", "data", "datasets_cache", "__pycache__", "build", ".git", ".ci", "runs")


def check_wheel(names):
    """What is wrong with the files of a wheel, a list of sentences.

    Args: names: paths inside it.
    """
    problems = _unwanted(names)
    tops = {name.split("/")[0] for name in names}
    tops = {top for top in tops if not top.endswith(".dist-info")}
    if tops != {"keras_dpt", PRESETS}:
        problems.append(f"The wheel holds {sorted(tops)}, and not keras_dpt and {PRESETS} alone.")
    wanted = [f"keras_dpt/{file.relative_to(ROOT / 'keras_dpt').as_posix()}" for file in _modules()]
    wanted += [f"{PRESETS}/{file.name}" for file in (ROOT / "presets").glob("*.json")]
    wanted += [f"{PRESETS}/{name}/model.weights.h5" for name in BUNDLED]
    problems += [f"The wheel lacks {name}." for name in wanted if name not in names]
    licenses = {PurePosixPath(x).name for x in names if ".dist-info/licenses/" in x}
    problems += [f"The wheel lacks its {name}." for name in LICENSES if name not in licenses]
    return problems


def check_sdist(names):
    """What is wrong with the files of a source archive, a list of sentences.

    Args: names: paths inside it, each below one folder.
    """
    names = [name.partition("/")[2] for name in names]
    wanted = ["pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "presets/LICENSES.md"]
    wanted += [file.relative_to(ROOT).as_posix() for file in _modules()]
    wanted += [f"presets/{name}/model.weights.h5" for name in BUNDLED]
    lacking = [f"The source archive lacks {name}." for name in wanted if name not in names]
    return _unwanted(names) + lacking


def check_changelog(text, version, today):
    """What is wrong with a changelog for the release of a version, a list of sentences.

    Args: text: of CHANGELOG.md, newest version first. version: "1.2.3". today: a `date`.
    """
    found = re.search(r"^## (\S+) - (\S+)$", text, flags=re.MULTILINE)
    if found is None or found[1] != version:
        newest = found[1] if found else "none"
        return [f"CHANGELOG.md must begin with version {version}, its newest is {newest}."]
    try:
        date = datetime.date.fromisoformat(found[2])
    except ValueError:
        return [f"CHANGELOG.md dates {version} {found[2]!r}; put the date there, as {today}."]
    late = date > today
    return [f"CHANGELOG.md dates {version} {date}, which is to come."] if late else []


def tag_text(text, version):
    """The annotation of the tag: what the changelog says of a version, without its heading."""
    body = re.split(rf"^## {re.escape(version)} - \S+$", text, flags=re.MULTILINE)[1]
    body = re.split(r"^## ", body, flags=re.MULTILINE)[0].strip()
    return f"keras_dpt {version}\n\n" + body.replace("### ", "")


def _unwanted(names):
    bad = [name for name in names if set(PurePosixPath(name).parts) & set(UNWANTED)]
    return [f"{name} must not be in the archive." for name in bad]


def _modules():
    return sorted((ROOT / "keras_dpt").rglob("*.py"))


def _metadata(wheel):
    """The wheel's metadata; `["License-Expression"]` and so on."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(x for x in archive.namelist() if x.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def main():
    """Build, check and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--unreleased", action="store_true", help="do not ask for a date")
    args = parser.parse_args()
    for old in args.out.glob("keras_dpt-*"):
        old.unlink()
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)  # a wheel would hold what is there
    command = [sys.executable, "-m", "build", "--outdir", str(args.out), str(ROOT)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wheel, sdist = next(args.out.glob("*.whl")), next(args.out.glob("*.tar.gz"))
    problems = check_wheel(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(sdist) as archive:
        problems += check_sdist([x.name for x in archive.getmembers() if x.isfile()])
    for file in (wheel, sdist):
        size = file.stat().st_size / 1e6
        print(f"{file.name}  {size:.1f} MB")
        if size > MAX_MB:
            problems.append(f"{file.name} has {size:.0f} MB; {MAX_MB} is the most.")
    metadata = _metadata(wheel)
    version, text = metadata["Version"], (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if not metadata["License-Expression"]:
        problems.append("The wheel's metadata state no licence.")
    if not args.unreleased:
        problems += check_changelog(text, version, datetime.date.today())
    for problem in problems:
        print(f"release: {problem}", file=sys.stderr)
    if problems:
        return 1
    if not args.unreleased:
        print(f"\nTag v{version}, with this text:\n\n{tag_text(text, version)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
