"""Time and memory of a training step beside transformers on PyTorch, all in one run.

    python benchmarks/training.py --preset dpt_base --batch 2 --dtypes float32 bfloat16

Forward, mean absolute error, backward and an Adam step on 384 x 384 pixels. In half precision ours
is Keras's mixed precision: float32 weights, half-precision sums.
"""

import argparse
from contextlib import ExitStack

from contest import (
    BACKENDS,
    FLOAT32,
    Competitor,
    keeping_memory,
    save,
    table,
    take_turns,
)

COLUMNS = {
    "dtype": ("dtype", ""),
    "name": ("network", ""),
    "milliseconds": ("ms a step", ".0f"),
    "ratio": ("x faster", ".2f"),
    "peak_megabytes": ("peak MB", ".0f"),
    "network_megabytes": ("of it after import", ".0f"),
}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="dpt_base")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--backends", nargs="+", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--size", nargs=2, type=int, default=[384, 384], metavar=("H", "W"))
    parser.add_argument(
        "--keep-memory", action="store_true", help="each also with keras_dpt.keep_freed_memory"
    )
    parser.add_argument(
        "--gradient-checkpointing", action="store_true", help="each of ours also with it"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", help="write the figures there as well")
    return parser.parse_args()


def contestants(args, dtype):
    """transformers in float32, then ours on each backend."""
    options = {"preset": args.preset, "training": True, "threads": args.threads}
    makers = [("transformers", "transformers", options)]
    for backend in args.backends:
        mine = options | {"backend": backend, "dtype": dtype}
        makers.append((f"keras_dpt {backend}", "keras_dpt", mine))
        if args.gradient_checkpointing:
            twice = mine | {"checkpointing": True}
            makers.append((f"keras_dpt {backend}, checkpointing", "keras_dpt", twice))
    return makers


def main():
    args = parse_arguments()
    rows = []
    for dtype in args.dtypes:
        makers = contestants(args, dtype)
        if args.keep_memory:
            makers += keeping_memory(makers)
        with ExitStack() as stack:
            competitors = [
                stack.enter_context(Competitor(name, library, **options))
                for name, library, options in makers
            ]
            new = take_turns(
                competitors, args.rounds, warm_up=1, do="train", batch=args.batch, size=args.size
            )
        for row in new:
            row |= {
                "dtype": "float32" if row["name"] in FLOAT32 else dtype,
                "milliseconds": 1000 * row["seconds"],
                "ratio": new[0]["seconds"] / row["seconds"],
                "peak_megabytes": row["peak_memory"] / 1e6,
                "network_megabytes": row["network_memory"] / 1e6,
            }
        print(table(new, COLUMNS), flush=True)
        rows += new
    save(args.json, rows, preset=args.preset, batch=args.batch)


if __name__ == "__main__":
    main()
