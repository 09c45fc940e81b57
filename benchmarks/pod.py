"""What eight GPUs do with the DPT paper's training, on paper: bytes, steps, hours.

    KERAS_BACKEND=torch python benchmarks/pod.py DATA/nyuv2

No GPU is used. Measured here: bytes of files, the time to read and augment them, the network's
FLOPs and weights. Cited: the paper's schedule and the vendor's peak rate. Assumed, and arguments:
which share of that rate a training reaches, the size of stored images, and the network between
hosts. It prints a Markdown table that says which is which.
"""

import argparse
import time
from pathlib import Path

from contest import count_flops
from PIL import Image

from keras_dpt import DPTDepth
from keras_dpt.datasets import PAPER_DEPTH, Batches, nyuv2
from keras_dpt.presets import read_preset

# Ranftl et al. 2021 (arXiv 2103.13413), section 4.1: images of MIX 6, epochs, steps, batch, side.
IMAGES, EPOCHS, STEPS, BATCH, SIDE = 1_400_000, 60, 72_000, 16, 384
# NVIDIA's A100 data sheet: dense bfloat16 FLOP/s, NVLink bytes/s of a GPU in each direction.
PEAK, NVLINK = 312e12, 300e9
# Backward: gradients by inputs and by weights, each the sum of the forward pass.
TRAINING = 3


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of nyuv2, see keras_dpt.datasets.nyuv2")
    parser.add_argument("--preset", default="dpt_hybrid")
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--share", type=float, nargs="+", default=[0.2, 0.35, 0.5])
    parser.add_argument("--stored", default="480x640", help="HxW of the images on disk")
    parser.add_argument("--network", type=float, default=25e9, help="bytes/s between hosts")
    parser.add_argument("--samples", type=int, default=100, help="images that are timed")
    return parser.parse_args()


def seconds(work):
    """CPU time, which other programs on a shared machine hardly change."""
    started = time.process_time()
    work()
    return time.process_time() - started


def measure_data(folder, samples):
    """Bytes and pixels of an image and its target, and one thread's seconds to read and augment."""
    source = nyuv2(folder, "train").subset(slice(samples))
    size = sum(
        path.stat().st_size
        for kind in ("rgb", "depth")
        for path in (folder / "train" / kind).iterdir()
    )
    count = len(list((folder / "train" / "rgb").iterdir()))
    with Image.open(next((folder / "train" / "rgb").iterdir())) as image:
        pixels = image.width * image.height
    batches = Batches(source, (SIDE, SIDE), 10, augment=PAPER_DEPTH, threads=0)
    read = min(seconds(lambda: list(source)) for _ in range(3)) / len(source)
    work = lambda: [batches.batch(0, i) for i in range(len(batches))]  # noqa: E731
    whole = min(seconds(work) for _ in range(3)) / (10 * len(batches))
    return {"bytes": size / count, "pixels": pixels, "read": read, "augment": whole - read}


def rows(args):
    """`(quantity, value, where it is from)`."""
    data = measure_data(args.data, args.samples)
    height, width = map(int, args.stored.split("x"))
    larger = height * width / data["pixels"]
    flops = count_flops(args.preset, (SIDE, SIDE))
    weights = DPTDepth.from_architecture(read_preset(args.preset)).count_params()
    images = EPOCHS * STEPS * BATCH
    gpus = f"{args.gpus} GPUs"
    yield "images of the data set", f"{IMAGES:,}", "the paper"
    yield "images seen", f"{images / 1e6:.1f} million", f"{EPOCHS} x {STEPS:,} steps of {BATCH}"
    yield "each image is seen", f"{images / IMAGES:.0f} times", ""
    yield "steps", f"{EPOCHS * STEPS:,}", "the paper"
    stored = larger * data["bytes"]
    yield "image and target on disk", f"{stored / 1e3:.0f} kB", f"measured, x {larger:.0f} pixels"
    yield "data set on disk", f"{IMAGES * stored / 1e9:.0f} GB", ""
    cpu = larger * data["read"] + data["augment"]
    yield f"read (x {larger:.0f}) and augment", f"{1e3 * cpu:.1f} ms of a CPU", "measured"
    yield "forward pass of an image", f"{flops / 1e9:.0f} GFLOP", f"counted, {args.preset}"
    yield "peak rate of a GPU", f"{PEAK / 1e12:.0f} TFLOP/s", "cited: A100, bfloat16"
    for share in args.share:
        rate = args.gpus * share * PEAK / (TRAINING * flops)
        of = f"assumed: {100 * share:.0f} % of peak"
        yield f"**{gpus}, {100 * share:.0f} %: images/s**", f"{rate:.0f}", of
        yield "step", f"{1e3 * BATCH / rate:.0f} ms", ""
        yield "whole training", f"{images / rate / 3600:.0f} hours", ""
        yield "read from disk", f"{rate * stored / 1e6:.0f} MB/s", ""
        yield "CPUs for the data", f"{rate * cpu:.0f}", "such as the one measured"
    gradients = 4 * weights
    yield "gradients of a step", f"{gradients / 1e6:.0f} MB", "counted, float32"
    ring = 2 * gradients * (args.gpus - 1) / args.gpus
    yield f"summed in one host of {gpus}", f"{1e3 * ring / NVLINK:.1f} ms", "cited: NVLink"
    between = 2 * gradients * (args.hosts - 1) / args.hosts / args.network
    network = f"assumed: {args.network / 1e9:g} GB/s"
    yield f"summed among {args.hosts} hosts", f"{1e3 * between:.1f} ms", network


def main():
    args = parse_arguments()
    print("| | | from |\n|---|---:|---|")
    for row in rows(args):
        print("| {} | {} | {} |".format(*row), flush=True)


if __name__ == "__main__":
    main()
