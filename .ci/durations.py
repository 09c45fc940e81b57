"""Make tests/durations.csv of what tests took: `make durations` after a change of many tests.

    KERAS_DPT_DURATIONS=build/durations pytest -m "not slow and not parity" --numprocesses 2
    python .ci/durations.py build/durations

The folder has a file per backend and process, lines of CPU seconds and a test's name. Tests of a
backend that was not run keep their figures. Only what takes a second somewhere is kept: the rest
is in the default suite in any case.
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path

TABLE = Path(__file__).resolve().parents[1] / "tests" / "durations.csv"
BACKENDS = ("tensorflow", "jax", "torch")
KEPT = 1.0  # seconds


def read_table(path=TABLE):
    """`{test: {backend: seconds}}` of the table."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {
            row["test"]: {name: float(row[name]) for name in BACKENDS if row[name]}
            for row in csv.DictReader(file)
        }


def measured(folder):
    """The same of a folder of measurements."""
    seconds = defaultdict(lambda: defaultdict(float))
    for path in sorted(Path(folder).glob("*.txt")):
        backend = path.name.partition("-")[0]
        for line in path.read_text(encoding="utf-8").splitlines():
            taken, _, test = line.partition(" ")
            seconds[test][backend] += float(taken)
    return seconds


def merged(old, new):
    """Both, of tests that still exist where a backend was measured; sorted by name."""
    ran = {backend for taken in new.values() for backend in taken}
    table = defaultdict(dict)
    for test, taken in old.items():
        table[test] |= {name: s for name, s in taken.items() if name not in ran}
    for test, taken in new.items():
        table[test] |= taken
    return {
        test: taken
        for test, taken in sorted(table.items())
        if max(taken.values(), default=0) >= KEPT
    }


def main(folder):
    table = merged(read_table(), measured(folder))
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["test", *BACKENDS])
        for test, taken in table.items():
            seconds = (f"{taken[name]:.1f}" if name in taken else "" for name in BACKENDS)
            writer.writerow([test, *seconds])
    print(f"{TABLE.name}: {len(table)} tests of a second or more")


if __name__ == "__main__":
    main(sys.argv[1])
