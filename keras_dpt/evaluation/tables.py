"""Evaluations as tables of text: on screen and in Markdown."""

from keras_dpt.evaluation.protocols import METRICS
from keras_dpt.evaluation.result import Evaluation

# Metrics of a comparison table; a single evaluation prints all.
_MAIN_METRICS = ("abs_rel", "rmse", "d1", "nrmse", "whdr", "mean_iou", "pixel_accuracy")


def rows_of(evaluation: Evaluation) -> list[tuple[str, int, dict]]:
    """`(what, images that counted, metrics)`: a row per group and their mean, or a single one."""
    summary = evaluation.summary
    groups = summary.get("groups", {})
    rows = [(name, group["counted"], group["metrics"]) for name, group in groups.items()]
    label = "mean of the above" if groups else "all"
    return [*rows, (label, summary["counted"], summary["metrics"])]


def text_table(evaluation: Evaluation) -> str:
    """The metrics of one evaluation for a terminal, with their remarks."""
    names = evaluation.protocol.metrics
    header = ("", "images", *(METRICS[name][0] for name in names))
    rows = [
        (what, str(images), *(f"{metrics[name]:.4f}" for name in names))
        for what, images, metrics in rows_of(evaluation)
    ]
    lines = [evaluation.name, *_aligned([header, *rows])]
    return "\n".join([*lines, *(f"Note: {note}" for note in evaluation.notes)])


def class_table(evaluation: Evaluation, class_names) -> str:
    """Intersection over union of each class, best first, for a terminal."""
    ious = sorted(evaluation.summary["class_iou"].items(), key=lambda item: -item[1])
    rows = [(class_names[int(c)], f"{iou:.4f}") for c, iou in ious]
    return "\n".join(_aligned([("class", "IoU"), *rows]))


def markdown_table(evaluations: list[tuple[str, Evaluation]]) -> str:
    """One table of several evaluations.

    Args: evaluations: pairs of a model's name and its `Evaluation`.
    Returns: a Markdown table; a metric that no protocol reports has no column.
    """
    shown = [
        name
        for name in _MAIN_METRICS
        if any(name in evaluation.protocol.metrics for _, evaluation in evaluations)
    ]
    arrows = {True: "↓", False: "↑"}
    header = ["model", "protocol", "images"]
    header += [f"{METRICS[name][0]} {arrows[METRICS[name][1]]}" for name in shown]
    lines = ["| " + " | ".join(header) + " |"]
    lines.append("|---|---|" + "---:|" * (len(header) - 2))
    for model, evaluation in evaluations:
        for what, images, metrics in rows_of(evaluation):
            label = evaluation.name if what == "all" else f"{evaluation.name}: {what}"
            reported = evaluation.protocol.metrics
            cells = [f"{metrics[n]:.3f}" if n in reported else "" for n in shown]
            lines.append("| " + " | ".join([model, label, str(images), *cells]) + " |")
    return "\n".join(lines) + "\n"


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows as lines: the first column left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
