"""Official files with random weights, made when a server is asked for them and deleted after.

As a program, `python made_files.py PRESET.json NUMBER FOLDER` writes the files of one source of a
preset; the memory of a large network goes back to the system with the process.
"""

import hashlib
import json
import mmap
import subprocess
import sys
import threading
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
if str(ROOT / "tests") not in sys.path:
    sys.path.insert(0, str(ROOT / "tests"))
# ruff: noqa: E402
from weights.server import Server

INDEX = "index.json"


class MadeFiles:
    """`{path: content}` for a `Server`; the files of one source lie on the disk at a time.

    `index.json` in the folder keeps size and sha256 of whatever was made before: a file that is
    made again must be the same.
    """

    def __init__(self, folder, make_room=lambda path: None):
        """Args: folder: of the files. make_room: called with the path whose file is made next."""
        self.folder, self.make_room = Path(folder), make_room
        self.sources, self._lock, self._present = {}, threading.Lock(), None
        self.folder.mkdir(parents=True, exist_ok=True)
        index = self.folder / INDEX
        self.index = json.loads(index.read_text()) if index.is_file() else {}

    def add(self, preset_file, number, paths):
        """Register a source: `paths` is `{path on the server: file name}`."""
        for path, name in paths.items():
            self.sources[path] = (Path(preset_file), number, name)

    def __contains__(self, path):
        return path in self.sources

    def __getitem__(self, path):
        """The content, mapped from the disk. Raises: RuntimeError: it could not be made."""
        preset_file, number, name = self.sources[path]
        with self._lock:
            self._make(path, preset_file, number)
            file = self.folder / preset_file.stem / name
            with open(file, "rb") as stream:
                content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            self._register(path, content)
        return content

    def _make(self, path, preset_file, number):
        if self._present == (preset_file, number):
            return
        self.clear()
        self.make_room(path)
        place = self.folder / preset_file.stem
        place.mkdir()
        print(f"    making {preset_file.stem}, file {number}", flush=True)
        command = [sys.executable, __file__, str(preset_file), str(number), str(place)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with code {done.returncode}")
        self._present = (preset_file, number)

    def _register(self, path, content):
        if path in self.index and path in self.seen:
            return
        found = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        if self.index.setdefault(path, found) != found:
            raise RuntimeError(
                f"{path} was made again and is not what it was: delete {self.folder}"
            )
        self.seen.add(path)
        (self.folder / INDEX).write_text(json.dumps(self.index, indent=1))

    def clear(self):
        """Delete what lies on the disk, the index aside."""
        self._present, self.seen = None, set()
        for file in sorted(self.folder.rglob("*"), reverse=True):
            if file.is_dir():
                file.rmdir()
            elif file.name != INDEX:
                file.unlink()


class MadeServer(Server):
    """Announces size and sha256 of what was made before without making it again.

    The command asks for both of every file before it fetches the first. So what was never made is
    not announced when it is asked for once; the second time somebody wants it, and it is made.
    """

    def __init__(self, port=0):
        super().__init__(port)
        self.asked = set()

    def size(self, path):
        return self.files.index.get(path, {}).get("size")

    def digest(self, path):
        if path not in self.files.index:
            if not path.endswith("config.json") and path not in self.asked:
                self.asked.add(path)
                return None
            self.files[path]
        return self.files.index[path]["sha256"]


def write(preset, number, folder):
    """Write the files of a preset's source, as its authors or the hub have them."""
    from verification import authors_files, hub_files

    source, seed = preset["sources"][number], zlib.crc32(preset["name"].encode())
    if source["format"] in hub_files.FORMATS:
        hub_files.write(preset, source, seed, folder)
        return
    names = names_of(source)
    contents = authors_files.files_of(preset, source, seed)
    for name, content in zip(names, contents, strict=True):
        if name.endswith(".safetensors"):
            from safetensors.numpy import save_file

            save_file(content, folder / name, metadata={"format": "pt"})
        else:
            with open(folder / name, "wb") as file:  # a path would be written into the file
                _torch_save(content, file)


def names_of(source):
    """Names of a source's files, without `config.json`."""
    if "repo" in source:
        return [source["file"]]
    return [source[key].rpartition("/")[2] for key in ("url", "encoder_url") if key in source]


def _torch_save(content, file):
    import numpy as np
    import torch

    def tensors(x):
        if isinstance(x, dict):
            return {name: tensors(value) for name, value in x.items()}
        return torch.from_numpy(np.ascontiguousarray(x)) if isinstance(x, np.ndarray) else x

    torch.save(tensors(content), file)


if __name__ == "__main__":
    preset_file, number, folder = sys.argv[1:]
    write(json.loads(Path(preset_file).read_text()), int(number), Path(folder))
