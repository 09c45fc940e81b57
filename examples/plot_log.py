"""Draw the curves of a training from the `log.csv` that the recipes write.

python examples/plot_log.py runs/mini/log.csv --metrics abs_rel d1 --out curves.png
"""

import argparse
import csv

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log")
    parser.add_argument("--metrics", nargs="+", required=True, help="columns, without `val_`")
    parser.add_argument("--out", required=True, help="picture to write")
    return parser.parse_args()


def read_curve(rows, column):
    """Epochs, from 1, and values of a column where it has any; validation may be rare."""
    known = [(int(row["epoch"]) + 1, row.get(column)) for row in rows]
    known = [(epoch, float(value)) for epoch, value in known if value not in (None, "", "NA")]
    return [epoch for epoch, _ in known], [value for _, value in known]


def main():
    args = parse_arguments()
    with open(args.log) as file:
        rows = list(csv.DictReader(file))
    figure, axes = plt.subplots(
        1, len(args.metrics), figsize=(4.5 * len(args.metrics), 3.2), layout="constrained"
    )
    for axis, metric in zip([axes] if len(args.metrics) == 1 else axes, args.metrics, strict=True):
        for column, label in ((metric, "training"), (f"val_{metric}", "validation")):
            axis.plot(*read_curve(rows, column), label=label, marker="." if "val" in column else "")
        axis.set(xlabel="epoch", title=metric)
        axis.legend()
    figure.savefig(args.out, dpi=100)


if __name__ == "__main__":
    main()
