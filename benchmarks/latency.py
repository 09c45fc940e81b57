"""Latency, throughput and memory beside transformers on PyTorch, all in one run.

    python benchmarks/latency.py --presets dpt_base --batches 1 4 --decoders --json latency.json
    python benchmarks/latency.py --presets dpt_swin2_tiny_256 --size 256 256 --batches 1
    python benchmarks/latency.py --presets depth_anything_v2_small --size 518 518 --batches 1

Random weights; no network is needed. Competitors are processes of their own that take turns, so
that other load on the machine hits all alike; medians and ratios are printed. "share" is the
network's own floating-point rate over the machine's best matrix product (see `contest.py`).
"""

import argparse
from contextlib import ExitStack

from contest import (
    BACKENDS,
    FLOAT32,
    Competitor,
    count_flops,
    keeping_memory,
    matrix_rate,
    save,
    table,
    take_turns,
)

COLUMNS = {
    "preset": ("preset", ""),
    "dtype": ("dtype", ""),
    "batch": ("batch", "d"),
    "name": ("network", ""),
    "milliseconds": ("ms", ".0f"),
    "images_per_second": ("images/s", ".2f"),
    "ratio": ("x faster", ".2f"),
    "share": ("share of matrix rate", ".0%"),
    "peak_megabytes": ("peak MB", ".0f"),
    "network_megabytes": ("of it after import", ".0f"),
}

DECODER_SIZE = (336, 336)  # 24 x 24 patches of keras-hub's 14 pixels


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["dpt_base", "dpt_hybrid", "dpt_large"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--backends", nargs="+", default=BACKENDS, choices=(*BACKENDS, "openvino"))
    parser.add_argument("--size", nargs=2, type=int, default=[384, 384], metavar=("H", "W"))
    parser.add_argument("--decoders", action="store_true", help="also beside keras-hub's decoder")
    parser.add_argument(
        "--keep-memory", action="store_true", help="each also with keras_dpt.keep_freed_memory"
    )
    parser.add_argument("--compiled", action="store_true", help="torch.compile transformers, too")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", help="write the figures there as well")
    return parser.parse_args()


def contestants(args, preset, dtype):
    """transformers in float32 and in `dtype`, then ours on each backend."""
    makers = []
    if not preset.startswith("dpt_mini"):  # transformers has no such architecture
        eager = {"preset": preset, "threads": args.threads}
        makers.append(("transformers", "transformers", eager))
        if dtype != "float32":
            makers.append((f"transformers {dtype}", "transformers", eager | {"dtype": dtype}))
        if args.compiled:
            options = eager | {"dtype": dtype, "compiled": True}
            makers.append(("transformers compiled", "transformers", options))
    for backend in args.backends:
        options = {"backend": backend, "preset": preset, "dtype": dtype, "threads": args.threads}
        makers.append((f"keras_dpt {backend}", "keras_dpt", options))
        if preset.startswith("depth_anything"):
            options = options | {"size": args.size}
            makers.append((f"keras_hub {backend}", "keras_hub", options))
    return makers + keeping_memory(makers) if args.keep_memory else makers


def decoders(args, backend):
    """keras-hub's decoder and ours on a backend, behind four blocks of a ViT."""
    options = {"backend": backend, "threads": args.threads}
    return [
        (f"{package} {backend}", f"{package}_decoder", options)
        for package in ("keras_hub", "keras_dpt")
    ]


def rows_of(args, makers, size, preset, dtype, batch):
    """Rows of networks that take turns; "x faster" is relative to the first."""
    with ExitStack() as stack:
        competitors = [
            stack.enter_context(Competitor(name, library, **options))
            for name, library, options in makers
        ]
        rows = take_turns(competitors, args.rounds, batch=batch, size=size)
    for row in rows:
        row |= {
            "preset": preset,
            "dtype": "float32" if row["name"] in FLOAT32 else dtype,
            "batch": batch,
            "milliseconds": 1000 * row["seconds"],
            "images_per_second": batch / row["seconds"],
            "ratio": rows[0]["seconds"] / row["seconds"],
            "peak_megabytes": row["peak_memory"] / 1e6,
            "network_megabytes": row["network_memory"] / 1e6,
        }
    return rows


def main():
    args = parse_arguments()
    rows = []
    rates = {dtype: matrix_rate(dtype, args.threads) for dtype in args.dtypes}
    for dtype, rate in rates.items():
        print(f"best matrix product in {dtype}: {rate / 1e9:.0f} GFLOP/s")
        for preset in args.presets:
            for batch in args.batches:
                makers = contestants(args, preset, dtype)
                new = rows_of(args, makers, args.size, preset, dtype, batch)
                flops = batch * count_flops(preset, args.size)
                for row in new:
                    if row["name"].startswith("keras_dpt"):
                        row["share"] = flops / row["seconds"] / rate
                print(table(new, COLUMNS), flush=True)
                rows += new
    for backend in args.backends if args.decoders else ():
        new = rows_of(args, decoders(args, backend), DECODER_SIZE, "decoder", "float32", 1)
        print(table(new, COLUMNS), flush=True)
        rows += new
    save(args.json, rows, matrix_rates=rates)


if __name__ == "__main__":
    main()
