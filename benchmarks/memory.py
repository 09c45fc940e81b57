"""Resident memory under load: many photos, large photos, and training for many epochs.

    python benchmarks/memory.py --backends tensorflow jax torch

Each case runs in a process of its own, on a small network with random weights, whose own memory
hides nothing; the table shows the process's resident memory, in MB, at several points of the work.
Linux only: it reads /proc.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CASES = ("small", "list", "large", "fit")
POINTS = {"fit": (10, 50, 100, 150, 200)}


def resident():
    """MB of this process that are in memory, after its garbage is collected."""
    import gc

    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)


def peak():
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


def network(image_size):
    import keras_dpt
    from keras_dpt.encoders import ViTEncoder

    encoder = ViTEncoder(4, 32, 2, 64, position_grid=(4, 4), out_indices=(0, 1, 2, 3))
    backbone = keras_dpt.DPTBackbone(encoder, reassemble_channels=(16,) * 4, fusion_channels=16)
    converter = keras_dpt.DPTImageConverter(image_size=image_size)
    preprocessor = keras_dpt.DPTDepthPreprocessor(converter)
    return keras_dpt.DPTDepth(backbone, preprocessor, head_channels=(8, 4))


def photo_files(folder, count, height, width):
    """Different photos of noise and gradients, as JPEG files."""
    import numpy as np
    from PIL import Image

    rng, paths = np.random.default_rng(0), []
    for i in range(count):
        coarse = rng.integers(0, 256, (16, 16, 3), "uint8")
        paths.append(Path(folder, f"{i}.jpg"))
        Image.fromarray(coarse).resize((width, height), Image.BICUBIC).save(paths[-1])
    return paths


def photos(folder, files, count, height, width, points):
    """RSS after so many photos, whose maps are thrown away."""
    model = network((64, 64))
    paths = photo_files(folder, files, height, width)
    names = (paths[i % files] for i in range(count))
    rows = {}
    for i, _ in enumerate(model.predict_stream(names), start=1):
        if i in points:
            rows[i] = resident()
    return rows


def small(folder, count):
    points = [count // 10, count // 4, count // 2, count]
    return photos(folder, 40, count, 60, 80, points)


def large(folder, count):
    points = [max(1, count // 5), count // 2, count]
    return photos(folder, 2, count, 6000, 8000, points)


def as_list(folder, count):
    """RSS after `predict_images` of 10, 25, 50 and 100 %, less the bytes of the maps themselves."""
    model = network((64, 64))
    paths = photo_files(folder, 40, 60, 80)
    rows = {}
    for n in (count // 10, count // 4, count // 2, count):
        maps = model.predict_images([paths[i % 40] for i in range(n)])
        rows[n] = round(resident() - sum(x.values.nbytes for x in maps) / 1e6)
        del maps
    return rows


def fit(folder, count):
    import keras
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (8, 64, 64, 3)).astype("float32")
    targets = rng.uniform(0.1, 1, (8, 64, 64, 1)).astype("float32")
    model = network((64, 64))
    model.compile()
    rows = {}

    def note(epoch, logs):
        if epoch + 1 in POINTS["fit"]:
            rows[epoch + 1] = resident()

    callback = keras.callbacks.LambdaCallback(on_epoch_end=note)
    model.fit(images, targets, batch_size=4, epochs=count, verbose=0, callbacks=[callback])
    return rows


def run_case(case, count):
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        work = {"small": small, "list": as_list, "large": large, "fit": fit}[case]
        rows = work(folder, count)
    print(json.dumps({"rows": rows, "peak": peak(), "seconds": round(time.monotonic() - begin)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "jax", "torch"])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--small", type=int, default=10_000, metavar="N", help="photos of 60 x 80")
    parser.add_argument(
        "--large", type=int, default=50, metavar="N", help="photos of 48 megapixels"
    )
    parser.add_argument("--epochs", type=int, default=200, metavar="N")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    counts = {"small": args.small, "list": args.small, "large": args.large, "fit": args.epochs}
    if args.case:
        return run_case(args.case, counts[args.case])
    for case in args.cases:
        for backend in args.backends:
            words = [sys.executable, __file__, "--case", case, "--small", str(args.small)]
            words += ["--large", str(args.large), "--epochs", str(args.epochs)]
            variables = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
            done = subprocess.run(words, env=variables, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                raise SystemExit(f"{case} on {backend} ended with {done.returncode}")
            result = json.loads(done.stdout.splitlines()[-1])
            cells = ", ".join(f"{n}: {mb} MB" for n, mb in result["rows"].items())
            print(f"{case:<6}{backend:<11}{cells}; peak {result['peak']} MB, {result['seconds']} s")


if __name__ == "__main__":
    main()
