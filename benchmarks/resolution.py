"""Cost against resolution: milliseconds and floating-point operations per pixel.

    python benchmarks/resolution.py --preset dpt_base --sizes 256 384 512 768 --plot resolution.png
    python benchmarks/resolution.py --preset depth_anything_v2_small --sizes 252x364 518 1036

Attention compares each token with each, so operations per pixel grow with the picture; the time
should grow no faster.
"""

import argparse
import math
from contextlib import ExitStack

from contest import BACKENDS, Competitor, count_flops, save, table, take_turns

COLUMNS = {
    "name": ("network", ""),
    "size": ("size", ""),
    "milliseconds": ("ms", ".0f"),
    "microseconds_per_pixel": ("µs per pixel", ".2f"),
    "flops_per_pixel": ("operations per pixel", ".3g"),
    "gigaflops_per_second": ("GFLOP/s", ".0f"),
    "peak_megabytes": ("peak MB", ".0f"),
}


def size(text):
    """`(height, width)` of "384" or "252x364"."""
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="dpt_base")
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=size,
        default=[(side, side) for side in (256, 384, 512, 768, 1024, 1536)],
        metavar="SIDE|HxW",
    )
    parser.add_argument("--backends", nargs="+", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plot", help="write a picture there")
    parser.add_argument("--json", help="write the figures there as well")
    return parser.parse_args()


def measure(args):
    rows = []
    with ExitStack() as stack:
        competitors = [
            stack.enter_context(
                Competitor(name, "keras_dpt", name, preset=args.preset, threads=args.threads)
            )
            for name in args.backends
        ]
        for height, width in sorted(args.sizes, key=math.prod):
            flops, pixels = count_flops(args.preset, (height, width)), height * width
            for row in take_turns(competitors, args.rounds, 1, size=(height, width)):
                rows.append(
                    row
                    | {
                        "size": f"{height}x{width}",
                        "pixels": pixels,
                        "milliseconds": 1000 * row["seconds"],
                        "microseconds_per_pixel": 1e6 * row["seconds"] / pixels,
                        "flops_per_pixel": flops / pixels,
                        "gigaflops_per_second": flops / row["seconds"] / 1e9,
                        "peak_megabytes": row["peak_memory"] / 1e6,
                    }
                )
    return rows


def plot(rows, path):
    """Time and operations per pixel, both relative to the smallest size."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        first = mine[0]["microseconds_per_pixel"]
        axes.plot(
            [row["pixels"] ** 0.5 for row in mine],
            [row["microseconds_per_pixel"] / first for row in mine],
            marker="o",
            label=name,
        )
    mine = [row for row in rows if row["name"] == rows[0]["name"]]
    first = mine[0]["flops_per_pixel"]
    sides = [row["pixels"] ** 0.5 for row in mine]
    counts = [row["flops_per_pixel"] / first for row in mine]
    axes.plot(sides, counts, "k--", label="floating-point operations")
    axes.set(xlabel="side of the picture (pixels)", ylabel=f"cost per pixel ({sides[0]:.0f} = 1)")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path, dpi=120)


def main():
    args = parse_arguments()
    rows = measure(args)
    print(table(rows, COLUMNS))
    if args.plot:
        plot(rows, args.plot)
    save(args.json, rows, preset=args.preset)


if __name__ == "__main__":
    main()
