"""Which backend exports to which format, and how near the file comes to Keras: tried, not claimed.

    python benchmarks/export_table.py --presets dpt_mini_nyuv2 dpt_mini_camvid --json exports.json

Each cell is `keras-dpt export` in a process of its own. It writes a file, runs it in its runtime
beside Keras, and gives the largest difference over the range of Keras's output, the worst of two
batch sizes and, with free sizes, of two sizes. Under the table stands what a "no" is due to.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from contest import BACKENDS, save, table

from keras_dpt.cli.export import FORMATS
from keras_dpt.presets import read_preset

SUFFIXES = {"onnx": ".onnx", "litert": ".tflite", "openvino": ".xml", "tf_saved_model": ""}
COMMAND = [sys.executable, "-c", "from keras_dpt.cli import main; raise SystemExit(main())"]
ERROR = "keras-dpt: "  # how the command begins to say what is wrong


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["dpt_mini_nyuv2", "dpt_mini_camvid"])
    parser.add_argument("--backends", nargs="+", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS)
    parser.add_argument("--timeout", type=float, default=1200, help="seconds for each cell")
    parser.add_argument("--json", help="write the figures there as well")
    return parser.parse_args()


def export(preset, backend, form, size, timeout):
    """One cell: `error`, the largest that was measured, or `reason`, why there is none."""
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "network" + SUFFIXES[form])
        command = [*COMMAND, "export", "--preset", preset, "--format", form, "-o", str(file)]
        command += size
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            return {"reason": f"not done after {timeout:.0f} s"}
        if done.returncode == 0:
            parity = json.loads(Path(f"{file}.json").read_text(encoding="utf-8"))["parity"]
            return {"error": max(check["max_relative_error"] for check in parity["checks"])}
    said = [line for line in done.stderr.splitlines() if line.startswith(ERROR)]
    return {"reason": said[-1].removeprefix(ERROR) if said else done.stderr[-300:]}


def rows_of(args):
    for form in args.formats:
        for sizes in ("fixed", "free"):
            row = {"format": form, "sizes": sizes, "reasons": {}}
            for backend in args.backends:
                cells = []
                for preset in args.presets:
                    aim = "x".join(map(str, read_preset(preset)["image"]["image_size"]))
                    size = ["--image-size", aim] if sizes == "fixed" else ["--dynamic"]
                    cells.append(export(preset, backend, form, size, args.timeout))
                    print(preset, backend, form, sizes, cells[-1], file=sys.stderr, flush=True)
                reasons = [cell["reason"] for cell in cells if "reason" in cell]
                row[backend] = "no" if reasons else f"{max(x['error'] for x in cells):.1e}"
                row["reasons"] |= {backend: reasons[0]} if reasons else {}
            yield row


def main():
    args = parse_arguments()
    rows = list(rows_of(args))
    columns = {"format": ("format", ""), "sizes": ("image sizes", "")}
    columns |= {backend: (backend, "") for backend in args.backends}
    print(table(rows, columns))
    told = set()
    for row in rows:
        for backend, reason in row["reasons"].items():
            if (backend, row["format"]) not in told:
                print(f"\n- {backend}, {row['format']}: {reason}", end="")
                told.add((backend, row["format"]))
    print()
    save(args.json, rows, presets=args.presets)


if __name__ == "__main__":
    main()
