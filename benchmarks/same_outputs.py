"""Whether a change leaves every preset's outputs as they were, bit by bit.

    git worktree add ../before COMMIT
    KERAS_BACKEND=torch PYTHONPATH=../before python benchmarks/same_outputs.py --save before.npz
    KERAS_BACKEND=torch python benchmarks/same_outputs.py --compare before.npz

Networks with official weights get random ones, drawn from the paths of their variables, so that
both commits have the same. Bundled presets have their own. Each network sees two sizes, alone and
in a batch; bundled ones are also saved and loaded, and predict for a photo.
"""

import argparse
import os
import sys
import tempfile
import zlib
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_dpt

SIZES = {"small": (64, 96), "wide": (96, 224)}


def network(name):
    """The preset's model; with weights drawn from their paths unless it has bundled ones."""
    task = {"depth": keras_dpt.DPTDepth, "segmentation": keras_dpt.DPTSegmentation}
    preset = keras_dpt.presets.read_preset(name)
    bundled = keras_dpt.presets.preset_path(name) is not None
    model = task[preset["task"]].from_preset(name, load_weights=bundled)
    if not bundled:
        for variable in model.weights:
            rng = np.random.default_rng(zlib.crc32(variable.path.encode()))
            values = rng.normal(0, 0.05, variable.shape).astype("float32")
            positive = variable.path.endswith(("gamma", "moving_variance"))
            variable.assign(1 + values if positive else values)
    return model, bundled


def outputs(names):
    """`{key: array}` of all that is compared."""
    found = {}
    for name in names:
        model, bundled = network(name)
        for size, (height, width) in SIZES.items():
            rng = np.random.default_rng(height)
            images = rng.uniform(-1, 1, (2, height, width, 3)).astype("float32")
            for count in (1, 2):
                result = keras.Model.predict_on_batch(model, images[:count])
                found[f"{name} {size} {count}"] = np.asarray(result)
        if bundled:
            with tempfile.TemporaryDirectory() as folder:
                model.save(Path(folder) / "model.keras")
                again = keras.models.load_model(Path(folder) / "model.keras")
            found[f"{name} saved"] = np.asarray(keras.Model.predict_on_batch(again, images[:1]))
            picture = rng.integers(0, 256, (120, 90, 3)).astype("uint8")
            result = model.predict_image(picture)
            found[f"{name} image"] = getattr(result, "values", getattr(result, "labels", None))
        print(f"{name}: done", file=sys.stderr, flush=True)
        del model
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--save", type=Path)
    what.add_argument("--compare", type=Path)
    parser.add_argument("--presets", nargs="+", help="by default those of the saved file, or all")
    args = parser.parse_args()
    if args.save:
        found = outputs(args.presets or keras_dpt.presets.preset_names())
        np.savez_compressed(args.save, **found)
        return 0
    with np.load(args.compare) as before:
        names = args.presets or sorted({key.split()[0] for key in before})
        found = outputs(names)
        worst = 0.0
        for key, values in found.items():
            difference = float(np.max(np.abs(values.astype("float64") - before[key])))
            worst = max(worst, difference)
            if difference:
                print(f"{key}: differs by {difference:.3g}")
    print(f"{len(found)} outputs on {keras.backend.backend()}, largest difference {worst:.3g}")
    return int(worst > 0)


if __name__ == "__main__":
    sys.exit(main())
