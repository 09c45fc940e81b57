"""Install the wheel into an empty environment and use it there, away from the checkout.

    python .ci/clean_room.py dist/keras_dpt-*.whl [--python python3.12]

What runs there: the README's first Python blocks (on bundled presets, where they name others), the
command line, the bundled presets, and `from_preset` of a local file. The environment that runs
this script makes the file, so it needs the developers' packages.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = 3  # of the README
STAND_INS = {"DPTDepth": "dpt_mini_nyuv2", "DPTSegmentation": "dpt_mini_camvid"}

PROGRAM = """
import sys
import numpy as np
import keras_dpt

assert sys.prefix in keras_dpt.__file__, keras_dpt.__file__
depth = keras_dpt.DPTDepth.from_preset("dpt_mini_nyuv2").predict_image("photo.jpg")
assert depth.values.shape == (480, 640) and np.isfinite(depth.values).all()
room = keras_dpt.DPTDepth.from_preset("dpt_mini_nyuv2_metric").predict_image("photo.jpg")
assert room.metres.shape == (480, 640) and (room.metres > 0).all()
labels = keras_dpt.DPTSegmentation.from_preset("dpt_mini_camvid").predict_image("photo.jpg")
assert sum(labels.shares().values()) > 0.99
model = keras_dpt.DPTDepth.from_preset("small.safetensors")
assert model.predict_image("photo.jpg").kind == "relative_inverse_depth"
print("bundled presets and a local file:", depth, room, labels)
"""
COMMANDS = (
    ("--version",),
    ("presets",),
    ("depth", "photo.jpg", "--preset", "dpt_mini_nyuv2", "-o", "out"),
    ("segment", "photo.jpg", "--preset", "dpt_mini_camvid", "-o", "out"),
    ("verify", "--help"),
)


def first_blocks(readme):
    """The README's first Python blocks, the presets in them replaced by bundled ones."""
    blocks = re.findall(r"^```python\n(.*?)^```", readme, flags=re.DOTALL | re.MULTILINE)[:BLOCKS]

    def bundled(match):
        task, preset = match.groups()
        return (
            f'{task}.from_preset("{preset if preset.startswith("dpt_mini") else STAND_INS[task]}"'
        )

    pattern = rf'({"|".join(STAND_INS)})\.from_preset\("([^"]+)"'
    return [re.sub(pattern, bundled, block) for block in blocks]


def main():
    """Make the room, use it, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--python", default=sys.executable, help="that makes the environment")
    parser.add_argument("--backend", default="tensorflow", help="keras-hub brings this one")
    parser.add_argument("--with", dest="extra", nargs="*", default=[], help="more to install")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="clean-room-") as folder:
        room, begin = Path(folder).resolve(), time.monotonic()
        _files(room)
        bin_ = room / "environment" / ("Scripts" if os.name == "nt" else "bin")
        subprocess.run([args.python, "-m", "venv", str(bin_.parent)], check=True)
        install = [str(bin_ / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
        install += ["--quiet", str(args.wheel.resolve()), *args.extra]
        # With a checkout on its path, pip takes the package for installed.
        clean = {name: x for name, x in os.environ.items() if not name.startswith("PYTHON")}
        subprocess.run(install, check=True, cwd=room, env=clean)
        print(f"installed in {time.monotonic() - begin:.0f} s", flush=True)
        kept = {k: v for k, v in os.environ.items() if k in ("HOME", "LANG", "SYSTEMROOT")}
        environment = kept | {
            "PATH": os.pathsep.join((str(bin_), os.defpath)),
            "KERAS_BACKEND": args.backend,
            "KERAS_DPT_CACHE": str(room / "cache"),
            "KERAS_DPT_OFFLINE": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        for step in [*(["keras-dpt", *command] for command in COMMANDS),
                     ["python", "program.py"], ["python", "readme.py"]]:  # fmt: skip
            print("$", *step, flush=True)
            output = subprocess.DEVNULL if step[1] == "presets" else None
            step[0] = str(bin_ / step[0])
            subprocess.run(step, check=True, cwd=room, env=environment, stdout=output)
        for name in ("photo_color.png", "photo_overlay.png"):
            assert (room / "out" / name).is_file(), name
        print(f"clean room: all of it ran, {time.monotonic() - begin:.0f} s")
    return 0


def _files(room):
    """A photo, a checkpoint of the authors' names, and the two programs."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
    import numpy as np
    from conversion.checkpoints import small_tensors
    from PIL import Image
    from safetensors.numpy import save_file

    pixels = np.random.default_rng(0).uniform(0, 255, (12, 16, 3)).astype("uint8")
    photo = Image.fromarray(pixels).resize((640, 480))
    for name in ("photo.jpg", "street.jpg", "room.jpg"):
        photo.save(room / name)
    (room / "examples").mkdir()
    shutil.copy(ROOT / "examples" / "motorcycle.jpg", room / "examples")
    save_file(small_tensors(), room / "small.safetensors")
    blocks = first_blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    assert blocks, "README.md has no Python blocks"
    (room / "program.py").write_text(PROGRAM, encoding="utf-8")
    (room / "readme.py").write_text("\n".join(blocks), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
