"""`keras-dpt verify` on files of full size with random weights, from a server on loopback.

    python tests/verification/full_size.py dpt_hybrid dpt_large depth_anything_v2_small
    python tests/verification/full_size.py --all --one-each --pictures 1

It needs transformers, about 8 GB of memory and, in the folder of `--out`, 8 GB of disk. What it
shows: time and memory of each file, and that nothing but rounding is between the networks. Files
are made when the command fetches them, from a seed, and deleted before the next one is made. What
was verified is kept: a second call goes on, also after a kill.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))
# ruff: noqa: E402
from verification.made_files import MadeFiles, MadeServer, names_of

# Waiting for a file to be made is not a failure of the hub.
PATIENCE = {"HF_HUB_DOWNLOAD_TIMEOUT": "900", "HF_HUB_ETAG_TIMEOUT": "900"}


def preset_names():
    """Presets with official files, by name."""
    files = sorted((ROOT / "presets").glob("*.json"))
    return [file.stem for file in files if json.loads(file.read_text())["sources"]]


def one_each(presets):
    """Keep one source of each preset: of the format that came least often, then the rarest one."""
    rare = Counter(source["format"] for preset in presets for source in preset["sources"])
    came = Counter()
    for preset in presets:
        formats = [source["format"] for source in preset["sources"]]
        best = min(range(len(formats)), key=lambda n: (came[formats[n]], rare[formats[n]]))
        came[formats[best]] += 1
        preset["sources"] = [preset["sources"][best]]


def served(preset, url):
    """A copy of a preset whose files are on the server at `url`, and their paths there.

    Returns: the copy, and for each source `{path: file name}`.
    """
    preset = json.loads(json.dumps(preset))
    every = []
    for source in preset["sources"]:
        for key in ("sha256", "encoder_sha256"):
            source.pop(key, None)
        source["sha256_prefix"] = None
        names = names_of(source)
        if "repo" in source:
            names.append("config.json")
            every.append({f"/{source['repo']}/resolve/main/{name}": name for name in names})
            continue
        every.append({f"/release/{preset['name']}/{name}": name for name in names})
        for key, path in zip(("url", "encoder_url"), every[-1], strict=False):
            source[key] = url + path
    return preset, every


def prepare(place, server, names, only_one):
    """Copy the package and write the presets."""
    for folder in ("keras_dpt", "tests/parity"):
        shutil.copytree(ROOT / folder, place / folder, dirs_exist_ok=True)
    folder = place / "presets"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    presets = [json.loads((ROOT / "presets" / f"{name}.json").read_text()) for name in names]
    if only_one:
        one_each(presets)
    for preset in presets:
        preset, every = served(preset, server.url)
        file = folder / f"{preset['name']}.json"
        file.write_text(json.dumps(preset, indent=2))
        for number, paths in enumerate(every):
            server.files.add(file, number, paths)
    if not (folder / "dpt_large.json").is_file():  # by which the package knows its folder
        shutil.copy(ROOT / "presets" / "dpt_large.json", folder)


def forget_others(cache, path):
    """Delete what the hub's cache holds of other repositories than that of a path on the server."""
    ours = "models--" + path.partition("/resolve/")[0].strip("/").replace("/", "--")
    for folder in cache.glob("models--*"):
        if folder.name != ours:
            shutil.rmtree(folder)


def main():
    """Serve, verify, and return the command's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="*", metavar="NAME")
    parser.add_argument("--all", action="store_true", help="every preset with official files")
    parser.add_argument("--one-each", action="store_true", help="one file of each preset")
    parser.add_argument("--pictures", default="3", help="of `keras-dpt verify`")
    parser.add_argument("--out", type=Path, default=Path("build/verification"))
    parser.add_argument("--port", type=int, default=8719)
    args = parser.parse_args()
    if bool(args.presets) == args.all or not {*args.presets} <= {*preset_names()}:
        parser.error("name presets with official files, or pass --all")
    place = args.out.absolute()
    hub = place / "hub"
    files = MadeFiles(place / "files", lambda path: forget_others(hub / "hub", path))
    files.clear()
    with MadeServer(args.port).running() as server:  # addresses are part of what is verified
        server.files = files
        prepare(place, server, preset_names() if args.all else args.presets, args.one_each)
        environment = (
            os.environ
            | PATIENCE
            | {
                "HF_ENDPOINT": server.url,
                "HF_HOME": str(hub),
                "KERAS_DPT_CACHE": str(place / "cache"),
                "PYTHONPATH": str(place),
            }
        )
        command = [sys.executable, "-m", "keras_dpt", "verify", *(args.presets or ["--all"])]
        command += ["--pictures", args.pictures, "--out", "results"]
        try:
            return subprocess.run(command, cwd=place, env=environment).returncode
        finally:
            files.clear()


if __name__ == "__main__":
    sys.exit(main())
