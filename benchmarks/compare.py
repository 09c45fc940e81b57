"""Is anything slower than it was? Two recordings of the same benchmarks, row by row.

    python benchmarks/compare.py before/latency.json after/latency.json
    python benchmarks/compare.py before after            # folders: each file of the same name

Rows are those of `--json`. "ratio", how many times faster than the first competitor of the same
run, hardly depends on the machine and is compared always; seconds only where processor and number
of cores are the same. Exit code: 1 if a row lost more than `--tolerance`, or is missing.
"""

import argparse
import json
import sys
from pathlib import Path

from contest import table

# Larger is better.
RATIO = "ratio"
# Compared on any machine, then; every other number but these is a time.
MEMORY = ("peak_megabytes",)
DERIVED = ("share", "images_per_second", "fastest", "network_megabytes")
TOLERANCE = 0.1
COLUMNS = {
    "what": ("what", ""),
    "measure": ("measure", ""),
    "before": ("before", ".3g"),
    "after": ("after", ".3g"),
    "loss": ("worse by", ".0%"),
}


def read(path):
    """A recording: its machine, and its rows by what they were measured of."""
    recording = json.loads(Path(path).read_text(encoding="utf-8"))
    rows = {}
    for row in recording["rows"]:
        told = (str(v) for k, v in row.items() if isinstance(v, str) or k in ("batch", "size"))
        rows[" ".join(told)] = {k: v for k, v in row.items() if isinstance(v, float)}
    return recording["machine"], rows


def compare(before, after):
    """Rows of figures that both have: `loss` is by how much one is worse, as a part of 1."""
    (old_machine, old), (new_machine, new) = read(before), read(after)
    same = all(old_machine[part] == new_machine[part] for part in ("processor", "cores"))
    rows = []
    for what, figures in old.items():
        if what not in new:
            rows.append({"what": what, "measure": "missing", "loss": float("inf")})
            continue
        for name, was in figures.items():
            timed = name not in (RATIO, *MEMORY)
            if name in DERIVED or (timed and not same):
                continue
            now = new[what][name]
            loss = was / now - 1 if name == RATIO else now / was - 1
            rows.append({"what": what, "measure": name, "before": was, "after": now, "loss": loss})
    return rows


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="0.1 is 10 %%")
    args = parser.parse_args(arguments)
    pairs = [(args.before, args.after)]
    if args.before.is_dir():
        pairs = [(path, args.after / path.name) for path in sorted(args.before.glob("*.json"))]
    if not pairs or not all(path.is_file() for pair in pairs for path in pair):
        sys.exit(f"Two recordings, or folders of them. Received: {args.before}, {args.after}.")
    worse = []
    for before, after in pairs:
        rows = compare(before, after)
        worse += [row for row in rows if row["loss"] > args.tolerance]
        print(f"{after}: {len(rows)} figures compared")
    if worse:
        print(table(worse, COLUMNS))
    return int(bool(worse))


if __name__ == "__main__":
    sys.exit(main())
