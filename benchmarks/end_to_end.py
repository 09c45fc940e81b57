"""From photo files to saved depth: how long a folder takes, and where the time goes.

    KERAS_BACKEND=tensorflow python benchmarks/end_to_end.py --size 480x640

Runs `keras-dpt depth` on a folder of JPEG photos, made by the command unless --photos names one,
after the network has seen their size once. The steps' times are wall clock inside each; those of
reading and saving overlap with the network's, so that they add up to more than the whole. "Network"
is the share of the whole in which the network was at work.
"""

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from contest import save, table
from PIL import Image
from skimage import data

from keras_dpt import DPTDepth, cli
from keras_dpt.images import reading
from keras_dpt.maps.depth_map import DepthMap
from keras_dpt.models.image_converter import DPTImageConverter

# What is timed, by the name of its step: owner and attribute.
STEPS = {
    "decode": (reading, "read_image"),
    "resize": (DPTImageConverter, "convert"),
    "network": (keras.Model, "predict_on_batch"),
    "resize back": (DPTDepth, "postprocess"),
    "save": (DepthMap, "save"),
}


@contextlib.contextmanager
def stopwatch():
    """Seconds spent in each of `STEPS`, as a dict that fills while the context lasts."""
    seconds, originals = defaultdict(float), {}

    def timed(step, function):
        def run(*args, **kwargs):
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[step] += time.perf_counter() - started

        return run

    for step, (owner, name) in STEPS.items():
        originals[step] = getattr(owner, name)
        setattr(owner, name, timed(step, originals[step]))
    try:
        yield seconds
    finally:
        for step, (owner, name) in STEPS.items():
            setattr(owner, name, originals[step])


def make_photos(folder, count, size):
    """Write different windows of a real photo as JPEG files."""
    photo = Image.fromarray(data.stereo_motorcycle()[0])
    rng = np.random.default_rng(0)
    for i in range(count):
        left, top = rng.uniform(0, 0.4, 2) * photo.size
        box = (left, top, left + 0.6 * photo.width, top + 0.6 * photo.height)
        window = photo.resize(size[::-1], Image.Resampling.LANCZOS, box)
        window.save(folder / f"{i:04}.jpg", quality=92)


def run(photos, output, args):
    """One run of the command; returns its row."""
    loaded = DPTDepth.from_preset(args.preset)
    first = sorted(photos.iterdir())[0]
    for count in (1, args.batch_size):  # compiled for the last, smaller batch as well
        loaded.predict_images([first] * count, args.batch_size)
    command = ["depth", str(photos), "-o", str(output), "--preset", args.preset]
    command += ["--batch-size", str(args.batch_size), "--format", *args.format]
    from_preset = DPTDepth.from_preset
    DPTDepth.from_preset = classmethod(lambda cls, *_, **__: loaded)  # not part of the measurement
    try:
        with stopwatch() as seconds, contextlib.redirect_stdout(io.StringIO()):
            started = time.perf_counter()
            code = cli.main(command)
            whole = time.perf_counter() - started
    finally:
        DPTDepth.from_preset = from_preset
    if code:
        raise SystemExit(f"keras-dpt depth ended with {code}")
    count = len(list(photos.iterdir()))
    times = {step: 1000 * seconds[step] / count for step in STEPS}
    return {"whole": 1000 * whole / count, "share": seconds["network"] / whole} | times


COLUMNS = {
    "backend": ("backend", ""),
    "whole": ("ms a photo", ".1f"),
    "decode": ("decode", ".1f"),
    "resize": ("resize", ".1f"),
    "network": ("network", ".1f"),
    "resize back": ("resize back", ".1f"),
    "save": ("save", ".1f"),
    "share": ("network's share", ".0%"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="dpt_mini_nyuv2")
    parser.add_argument("--photos", type=Path, help="folder of photos; left out, they are made")
    parser.add_argument("--count", type=int, default=200, help="of photos that are made")
    parser.add_argument("--size", default="480x640", help="HxW of photos that are made")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--format", nargs="+", default=["png"], help="as of keras-dpt depth")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="write the figures there as well")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos = args.photos or Path(folder, "photos")
        if args.photos is None:
            photos.mkdir()
            make_photos(photos, args.count, tuple(map(int, args.size.split("x"))))
        rows = [run(photos, Path(folder, f"results_{n}"), args) for n in range(args.rounds)]
    median = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    rows = [{"backend": keras.config.backend()} | median]
    print(table(rows, COLUMNS))
    save(args.json, rows)


if __name__ == "__main__":
    main()
