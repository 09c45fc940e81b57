"""Latency of exported files in ONNX Runtime, OpenVINO and LiteRT beside Keras, all in one run.

    python benchmarks/export_latency.py --presets dpt_mini_nyuv2 dpt_base --json exported.json

Random weights; no network is needed. The files are written first, on TensorFlow. Then all take
turns, each in a process of its own, so that other load on the machine hits all alike; medians are
printed, and ratios to Keras on the first of the backends.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

from contest import BACKENDS, Competitor, save, table, take_turns

COLUMNS = {
    "preset": ("preset", ""),
    "batch": ("batch", "d"),
    "name": ("network", ""),
    "milliseconds": ("ms", ".1f"),
    "ratio": ("x faster", ".2f"),
}
# Name, format, suffix, options: OpenVINO's own choice of precision is bfloat16 on new processors.
RUNTIMES = [
    ("ONNX Runtime", "onnx", ".onnx", None),
    ("OpenVINO float32", "openvino", ".xml", None),
    ("OpenVINO as it comes", "openvino", ".xml", {}),
    ("LiteRT", "litert", ".tflite", None),
]
PACKAGES = ("onnxruntime", "openvino", "ai-edge-litert", "tf2onnx")
EXPORT = """
import sys
import keras_dpt
from keras_dpt.export import export_model
from keras_dpt.presets import read_preset
preset, height, width, *files = sys.argv[1:]
model = keras_dpt.DPTDepth.from_architecture(read_preset(preset))
for name, path in zip(files[::2], files[1::2]):
    # With random weights a map may be so flat that rounding is a percent of its range.
    export_model(model, path, name, image_size=(int(height), int(width)), tolerance=0.1)
"""


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["dpt_mini_nyuv2", "dpt_base"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1])
    parser.add_argument("--backends", nargs="+", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--size", nargs=2, type=int, default=[384, 384], metavar=("H", "W"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", help="write the figures there as well")
    return parser.parse_args()


def write_files(preset, size, folder):
    """Export a preset, with random weights, to every format that is timed."""
    files = {form: Path(folder, f"{preset}{suffix}") for _, form, suffix, _ in RUNTIMES}
    named = [str(word) for item in files.items() for word in item]
    subprocess.run(
        [sys.executable, "-c", EXPORT, preset, *map(str, size), *named],
        env=os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True,
    )
    return files


def contestants(args, preset, files):
    """Keras on each backend, then the runtimes."""
    for backend in args.backends:
        yield Competitor(f"Keras, {backend}", "keras_dpt", backend, args.threads, preset=preset)
    for name, form, _, options in RUNTIMES:
        file = {"path": str(files[form]), "format": form, "options": options}
        # The backend is only imported, with keras_dpt; TensorFlow's is the fastest to be.
        yield Competitor(
            name, "exported", "tensorflow", args.threads, runtime_threads=args.threads, **file
        )


def rows_of(args, preset, folder):
    files = write_files(preset, args.size, folder)
    with ExitStack() as stack:
        competitors = [stack.enter_context(c) for c in contestants(args, preset, files)]
        for batch in args.batches:
            results = take_turns(competitors, args.rounds, batch=batch, size=args.size)
            for result in results:
                yield {
                    "preset": preset,
                    "batch": batch,
                    "name": result["name"],
                    "milliseconds": 1000 * result["seconds"],
                    "fastest_milliseconds": 1000 * result["fastest"],
                    "ratio": results[0]["seconds"] / result["seconds"],
                }


def main():
    args = parse_arguments()
    rows = []
    for preset in args.presets:
        with tempfile.TemporaryDirectory() as folder:
            rows += rows_of(args, preset, folder)
    print(table(rows, COLUMNS))
    runtimes = {package: version(package) for package in PACKAGES}
    save(args.json, rows, size=args.size, threads=args.threads, runtimes=runtimes)


if __name__ == "__main__":
    main()
