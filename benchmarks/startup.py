"""How long a newcomer waits: import, building from a preset, the first and the second prediction.

    python benchmarks/startup.py

Each line is the median of fresh processes. "First" includes tracing and compiling; beside it stands
the import of keras-hub alone, which ours cannot undercut.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

from contest import BACKENDS, WORKER, save, table

STEPS = """
import json, sys, time
started = time.perf_counter()
def lap():
    global started
    now = time.perf_counter()
    seconds, started = now - started, now
    return seconds
import {package}
times = {{"import": lap()}}
if "{package}" == "keras_dpt":
    import numpy as np
    model = keras_dpt.DPTDepth.from_preset("dpt_mini_nyuv2")
    times["build"] = lap()
    photo = np.random.default_rng(0).integers(0, 256, (240, 320, 3), "uint8")
    lap()
    model.predict_image(photo)
    times["first"] = lap()
    model.predict_image(photo)
    times["second"] = lap()
print(json.dumps(times))
"""

COLUMNS = {
    "backend": ("backend", ""),
    "package": ("package", ""),
    "import": ("import (s)", ".2f"),
    "build": ("from_preset (s)", ".2f"),
    "first": ("first prediction (s)", ".2f"),
    "second": ("second (s)", ".3f"),
}


def run(package, backend):
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["PYTHONPATH"] = str(WORKER.parents[1])
    output = subprocess.run(
        [sys.executable, "-c", STEPS.format(package=package)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(output.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="write the figures there as well")
    args = parser.parse_args()
    rows = []
    for backend in args.backends:
        tries = {package: [] for package in ("keras_hub", "keras_dpt")}
        for _ in range(args.rounds):
            for package, results in tries.items():
                results.append(run(package, backend))
        for package, results in tries.items():
            medians = {key: statistics.median(x[key] for x in results) for key in results[0]}
            rows.append({"backend": backend, "package": package} | medians)
    print(table(rows, COLUMNS))
    save(args.json, rows)


if __name__ == "__main__":
    main()
