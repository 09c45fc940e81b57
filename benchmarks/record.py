"""Run the benchmarks one after the other and keep their figures: `make benchmarks`.

    python benchmarks/record.py --out build/benchmarks
    python benchmarks/record.py --out build/benchmarks --only startup latency

Each writes OUT/NAME.json, with machine and versions; what is there already is not run again, so
that a recording that was cut off goes on. OUT/tables.md has their tables with date, processor and
command. `benchmarks/compare.py` compares two such folders.
"""

import argparse
import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import startup
from contest import save, table

HERE = Path(__file__).parent
# Script and arguments of each; `latency` and `depth_anything` are the same script.
RUNS = {
    "latency": (
        "latency.py",
        "--presets dpt_base dpt_hybrid dpt_large --batches 1 --rounds 5",
    ),
    "depth_anything": (
        "latency.py",
        "--presets depth_anything_v2_small depth_anything_v2_base --size 518 518 --batches 1 "
        "--rounds 5",
    ),
    "midas": (
        "latency.py",
        "--presets dpt_swin2_tiny_256 --size 256 256 --batches 1 --rounds 5",
    ),
    "training": ("training.py", "--preset dpt_base --batch 2 --dtypes float32 --rounds 2"),
    "startup": ("startup.py", ""),
}
# Titles of what tables show, where a row has it.
COLUMNS = {
    "preset": ("preset", ""),
    "dtype": ("dtype", ""),
    "batch": ("batch", "d"),
    "name": ("network", ""),
    **startup.COLUMNS,
    "milliseconds": ("ms", ".0f"),
    "seconds": ("seconds", ".2f"),
    "ratio": ("x faster", ".2f"),
    "share": ("share of matrix rate", ".0%"),
    "peak_megabytes": ("peak MB", ".0f"),
}


def command(name, path):
    """The command line of a benchmark, as it is printed and run."""
    script, arguments = RUNS[name]
    return [f"benchmarks/{script}", *arguments.split(), "--json", str(path)]


def record(name, folder):
    """Run a benchmark unless its figures are there."""
    path = folder / f"{name}.json"
    if not path.is_file():
        words = command(name, path)
        print("python", *words, flush=True)
        subprocess.run([sys.executable, *words], cwd=HERE.parent, check=True)
        recording = json.loads(path.read_text(encoding="utf-8"))
        rows, machine = recording.pop("rows"), recording.pop("machine")
        more = {"date": date.today().isoformat(), "command": " ".join(["python", *words])}
        save(path, rows, **recording | more | {"machine": machine})
    return path


def tables(folder):
    """The text of tables.md: every recording of a folder."""
    parts = ["# Recorded benchmarks\n"]
    for path in sorted(folder.glob("*.json")):
        recording = json.loads(path.read_text(encoding="utf-8"))
        machine, rows = recording["machine"], recording["rows"]
        shown = {
            key: column
            for key, column in COLUMNS.items()
            if any(row.get(key) is not None for row in rows)
            and not (key == "seconds" and "milliseconds" in rows[0])
        }
        versions = ", ".join(f"{name} {v}" for name, v in machine["versions"].items() if v)
        parts += [
            f"## {path.stem}\n",
            f"{recording.get('date', 'undated')}, {machine['processor']}, {machine['cores']} "
            f"cores; {versions}.\n",
            f"    {recording.get('command', '')}\n",
            table(rows, shown) + "\n",
        ]
    return "\n".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks"))
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    folder = args.out.resolve()
    for name in args.only:
        record(name, folder)
    (folder / "tables.md").write_text(tables(folder), encoding="utf-8")
    print(f"{args.out}/tables.md")


if __name__ == "__main__":
    main()
