"""A report of one evaluation as an HTML file: averages, distributions, and images."""

import base64
import html
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from keras_dpt.errors import EvaluationError
from keras_dpt.evaluation.drawing import panels
from keras_dpt.evaluation.evaluate import predict_and_measure
from keras_dpt.evaluation.protocols import METRICS
from keras_dpt.evaluation.result import Evaluation
from keras_dpt.evaluation.tables import rows_of
from keras_dpt.files import written_whole

_INK, _ACCENT, _SOFT = "#22303c", "#2f6f8f", "#9ab7c6"
_PANEL_WIDTH = 380


def write_report(evaluation: Evaluation, model, source, path, title: str, each: int = 3) -> None:
    """Write a self-contained HTML report.

    Args:
        evaluation: of `model` on `source`.
        model, source: to predict the shown images again, because predictions are not stored.
        path: the file; it appears complete or not at all.
        title: name of the model.
        each: number of the best, median and worst images to show.

    Raises: EvaluationError: (a ValueError) the file cannot be written.
    """
    content = "\n".join(
        [
            _head(evaluation, title),
            _table(evaluation),
            f'<div class="charts">{_histogram(evaluation)}{_second_chart(evaluation, model)}</div>',
            *_sections(evaluation, model, source, each),
            _all_images(evaluation),
            _provenance(evaluation),
        ]
    )
    page = _PAGE.format(title=html.escape(f"{title} on {evaluation.protocol.name}"), body=content)
    with written_whole(Path(path), EvaluationError) as file:
        file.write(page.encode("utf-8"))


def _head(evaluation, title):
    cards = "".join(
        f"<div class=card><b>{evaluation.metrics[name]:.3f}</b>"
        f"<span>{html.escape(METRICS[name][0])} {'↓' if METRICS[name][1] else '↑'}</span></div>"
        for name in _headline(evaluation.protocol)
    )
    notes = list(evaluation.notes)
    if evaluation.deviations:
        notes.insert(0, f"Not a result of {evaluation.protocol.name}: {evaluation.name}.")
    notes = "".join(f"<p class=note>{html.escape(note)}</p>" for note in notes)
    data = evaluation.provenance["data"]
    counted = evaluation.summary["counted"]
    about = f"{evaluation.protocol.data}. {counted} of {data['images']} images measured."
    return (
        f"<h1>{html.escape(title)}</h1><p class=sub>{html.escape(evaluation.protocol.name)} · "
        f"{html.escape(about)}</p>{notes}<div class=cards>{cards}</div>"
    )


def _headline(protocol):
    """The most important metrics, up to four."""
    wanted = ("abs_rel", "d1", "d1_above", "rmse", *protocol.metrics)
    chosen = [protocol.metrics[0], *(name for name in wanted if name in protocol.metrics)]
    return list(dict.fromkeys(chosen))[:4]


def _table(evaluation):
    names = evaluation.protocol.metrics
    head = "".join(f"<th>{html.escape(METRICS[name][0])}</th>" for name in names)
    body = "".join(
        f"<tr><td>{html.escape(what)}</td><td>{images}</td>"
        + "".join(f"<td>{metrics[name]:.4f}</td>" for name in names)
        + "</tr>"
        for what, images, metrics in rows_of(evaluation)
    )
    return f"<table><tr><th></th><th>images</th>{head}</tr>{body}</table>"


def _histogram(evaluation):
    """The distribution of the first metric over the images."""
    name = evaluation.protocol.metrics[0]
    values = np.array([record["values"][name] for record in evaluation.ranked()])
    # A few outliers would squeeze all others into one bar: they share the last one.
    top = max(np.percentile(values, 98) * 1.15, 1e-6)
    figure, axes = _figure()
    axes.hist(np.minimum(values, top), bins=min(30, max(5, len(values) // 4)), color=_SOFT)
    for value, style, label in (
        (values.mean(), "-", f"mean {values.mean():.3f}"),
        (np.median(values), ":", f"median {np.median(values):.3f}"),
    ):
        axes.axvline(value, color=_ACCENT, linestyle=style, label=label)
    axes.set_xlabel(f"{METRICS[name][0]} of an image")
    axes.set_ylabel("images")
    axes.legend(frameon=False)
    return _svg(figure, f"Histogram of {METRICS[name][0]} over the images")


def _second_chart(evaluation, model):
    """IoU per class for labels; for depth, the metric of each image."""
    if "class_iou" in evaluation.summary:
        return _class_chart(evaluation, model)
    name = evaluation.protocol.metrics[0]
    values = [r["values"][name] if r["values"] else np.nan for r in evaluation.records]
    figure, axes = _figure()
    axes.plot(values, ".", color=_ACCENT, markersize=4)
    axes.set_xlabel("image, in the order of the data set")
    axes.set_ylabel(METRICS[name][0])
    axes.set_ylim(bottom=0)
    return _svg(figure, f"{METRICS[name][0]} of each image")


def _class_chart(evaluation, model, most=30):
    ious = sorted(evaluation.summary["class_iou"].items(), key=lambda item: item[1])[-most:]
    names = [model.class_names[int(c)] for c, _ in ious]
    figure, axes = _figure(height=max(3.2, 0.26 * len(ious)))
    axes.barh(names, [iou for _, iou in ious], color=_SOFT)
    axes.axvline(evaluation.metrics["mean_iou"], color=_ACCENT, label="mean")
    axes.set_xlim(0, 1)
    axes.set_xlabel("intersection over union")
    axes.legend(frameon=False, loc="lower right")
    return _svg(figure, "Intersection over union of each class")


def _sections(evaluation, model, source, each):
    """Best, median and worst images; of a small set, each image once."""
    ranked = evaluation.ranked()
    each = min(each, max(1, len(ranked) // 3))
    middle, last = max(each, (len(ranked) - each) // 2), max(each, len(ranked) - each)
    parts = {
        "Best": ranked[:each],
        "Median": ranked[middle : min(middle + each, last)],
        "Worst": ranked[last:][::-1],
    }
    for name, records in parts.items():
        if records:
            rows = "".join(
                _images(record, model, source, evaluation.protocol) for record in records
            )
            yield f"<h2>{name}</h2>{rows}"


def _images(record, model, source, protocol):
    index = source.ids.index(record["id"])
    _, sample, measured = next(predict_and_measure(model, source, protocol, [index]))
    figures = "".join(
        f"<figure><img src='{_jpeg(picture)}' alt='{caption} of {html.escape(record['id'])}'>"
        f"<figcaption>{_captions(protocol).get(caption, caption)}</figcaption></figure>"
        for caption, picture in panels(sample, measured, model, protocol.space).items()
    )
    values = " · ".join(
        f"{html.escape(METRICS[name][0])} <b>{record['values'][name]:.3f}</b>"
        for name in _headline(protocol)
    )
    return (
        f"<div class=row><p><code>{html.escape(record['id'])}</code> {values}</p>"
        f"<div class=panels>{figures}</div></div>"
    )


def _captions(protocol):
    if protocol.target == "labels":
        return {"error": "wrong pixels"}
    aligned = "" if protocol.alignment == "none" else ", aligned"
    unit = "of the depth" if protocol.space == "depth" else "of the standard deviation"
    return {
        "prediction": f"prediction{aligned}",
        "error": f"error, 0 to 50 % {unit}",
    }


def _all_images(evaluation):
    names = evaluation.protocol.metrics
    head = "".join(f"<th>{html.escape(METRICS[name][0])}</th>" for name in names)
    rows = []
    for record in evaluation.records:
        values = record["values"] or {}
        cells = "".join(f"<td>{values[n]:.4f}</td>" if n in values else "<td></td>" for n in names)
        status = "" if record["values"] else f" ({record['status']})"
        rows.append(f"<tr><td>{html.escape(record['id'])}{status}</td>{cells}</tr>")
    return (
        f"<details><summary>All {len(rows)} images</summary><table><tr><th></th>{head}</tr>"
        f"{''.join(rows)}</table></details>"
    )


def _provenance(evaluation):
    data = evaluation.as_dict()
    about = {name: data[name] for name in ("protocol", "deviations", "provenance")}
    text = html.escape(json.dumps(about, indent=2, ensure_ascii=False))
    return f"<details><summary>How to repeat this</summary><pre>{text}</pre></details>"


def _figure(width=5.6, height=3.2):
    from matplotlib.figure import Figure  # late: only reports need it

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK, labelsize=9)
    return figure, axes


def _svg(figure, label):
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    data = base64.b64encode(file.getvalue().encode()).decode()
    return f"<img class=chart alt='{html.escape(label)}' src='data:image/svg+xml;base64,{data}'>"


def _jpeg(picture):
    width = min(_PANEL_WIDTH, picture.width)
    size = width, max(1, round(picture.height * width / picture.width))
    file = io.BytesIO()
    picture.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(file, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #22303c; background: #fbfcfc;
  max-width: 1240px; margin: 2rem auto; padding: 0 1.2rem; }}
h1 {{ font-size: 1.7rem; margin: 0; }}
h2 {{ margin: 2.2rem 0 .4rem; font-size: 1.15rem; }}
.sub {{ color: #5b6b78; margin: .2rem 0 1rem; }}
.note {{ background: #fff4dc; border-left: 4px solid #e0a82e; padding: .5rem .8rem; }}
.cards {{ display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0; }}
.card {{ background: #fff; border: 1px solid #dfe6ea; border-radius: 10px; padding: .7rem 1.2rem; }}
.card b {{ display: block; font-size: 1.6rem; }}
.card span {{ color: #5b6b78; font-size: .85rem; }}
table {{ border-collapse: collapse; font-size: .86rem; margin: 1rem 0; }}
th, td {{ padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #e6ecef;
  font-variant-numeric: tabular-nums; }}
th:first-child, td:first-child {{ text-align: left; }}
.charts {{ display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; }}
.chart {{ max-width: 100%; }}
.row {{ margin: 1rem 0 1.6rem; }}
.row p {{ margin: 0 0 .3rem; }}
.panels {{ display: grid; grid-template-columns: repeat(4, 1fr); gap: .5rem; }}
figure {{ margin: 0; }}
figure img {{ width: 100%; border-radius: 4px; display: block; }}
figcaption {{ color: #5b6b78; font-size: .78rem; }}
details {{ margin: 1.5rem 0; }}
summary {{ cursor: pointer; font-weight: 600; }}
pre {{ overflow-x: auto; background: #f1f5f7; padding: 1rem; font-size: .78rem; }}
</style>
<body>
{body}
</body></html>
"""
