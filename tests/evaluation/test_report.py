"""The report's parts: which images and numbers it shows, and what its charts draw."""

import dataclasses
import html
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from keras_dpt.errors import EvaluationError
from keras_dpt.evaluation import Evaluation, Group, Protocol, report
from keras_dpt.evaluation.measure import Measured
from keras_dpt.evaluation.report import write_report
from keras_dpt.evaluation.summary import summarize
from keras_dpt.evaluation.tables import class_table, markdown_table, text_table

DEPTH = Protocol("mine", "some <images>", "metric_depth", ("rmse", "abs_rel", "d1"))
LABELS = Protocol("mine", "some images", "labels", ("mean_iou", "pixel_accuracy"))
MODEL = SimpleNamespace(class_names=("sky", "tree", "road"))


def evaluation(count=10, protocol=DEPTH, deviations=(), left_out=1):
    """Image 7 is the best one, 0 the worst, and the last ones could not be measured."""
    records = []
    for i in range(count):
        error = 0.1 + (7 * (count - i)) % count / 10
        values = {"rmse": error, "abs_rel": error / 8, "d1": 1 - error / 4}
        if protocol is LABELS:
            values = {"mean_iou": 1 / (1 + error), "pixel_accuracy": 0.5}
        counted = {"id": f"<{i}>", "status": "counted", "pixels": 9, "values": values}
        classes = {"2": [9, 9, 9], "0": [1, 4, 2], "1": [2, 3, 5]}
        records.append(counted | {"classes": classes, "size": [6, 8]})
    for record in records[count - left_out :]:
        record |= {"status": "no_truth", "values": None}
    provenance = {"data": {"images": count, "name": "planes"}, "seconds": 1.5}
    return Evaluation(protocol, deviations, summarize(protocol, records), records, provenance)


@pytest.fixture
def page(monkeypatch, tmp_path):
    """`page(evaluation)` is the text of its report, without drawing anything."""
    predicted = []

    def predict_and_measure(model, source, protocol, indices):
        (index,) = indices
        predicted.append(index)
        photo = np.zeros((6, 8, 3), "uint8")
        yield index, SimpleNamespace(image=photo), Measured("counted")

    def panels(sample, measured, model, space):
        names = ("photo", "truth", "prediction", "error")
        return {name: Image.fromarray(sample.image) for name in names}

    monkeypatch.setattr(report, "predict_and_measure", predict_and_measure)
    monkeypatch.setattr(report, "panels", panels)
    monkeypatch.setattr(report, "_svg", lambda figure, label: f"<{label}>")

    def write(result, each=None):
        source = SimpleNamespace(ids=[record["id"] for record in result.records])
        options = {} if each is None else {"each": each}
        write_report(result, MODEL, source, tmp_path / "report.html", "a & b", **options)
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    write.predicted = predicted
    return write


def test_the_head(page):
    text = page(evaluation())
    assert "<title>a &amp; b on mine</title>" in text and "<h1>a &amp; b</h1>" in text
    assert "<p class=sub>mine · some &lt;images&gt;. 9 of 10 images measured.</p>" in text
    result = evaluation()
    values = [result.metrics[name] for name in ("rmse", "abs_rel", "d1")]
    cards = re.findall(r"<div class=card><b>(.*?)</b><span>(.*?)</span></div>", text)
    names = "RMSE (m) ↓", "AbsRel ↓", "δ &lt; 1.25 ↑"
    assert cards == [(f"{x:.3f}", name) for x, name in zip(values, names, strict=True)]
    notes = re.findall("<p class=note>(.*?)</p>", text)
    assert notes == ["1 of 10 images left out: too little known ground truth."]


def test_deviations_are_the_first_note(page):
    text = page(evaluation(deviations=("10 of 20 images",)))
    first, second = re.findall("<p class=note>(.*?)</p>", text)
    name = "unnamed, like mine but: 10 of 20 images"
    assert first == f"Not a result of mine: {name}." and second.startswith("1 of 10")


def test_at_most_four_cards():
    names = "d2", "d1_above", "sq_rel", "d1", "abs_rel", "rmse"
    protocol = dataclasses.replace(DEPTH, metrics=names)
    assert report._headline(protocol) == ["d2", "abs_rel", "d1", "d1_above"]


def test_the_table_of_groups(page):
    protocol = dataclasses.replace(DEPTH, groups=(Group("<1"), Group("<")))
    result = evaluation(protocol=protocol)
    metrics = [group["metrics"] for group in result.summary["groups"].values()]
    rows = zip(("&lt;1", "&lt;", "mean of the above"), (1, 8, 9), strict=True)
    expected = "<table><tr><th></th><th>images</th><th>RMSE (m)</th><th>AbsRel</th>"
    expected += "<th>δ &lt; 1.25</th></tr>"
    for (name, images), values in zip(rows, [*metrics, result.metrics], strict=True):
        cells = "".join(f"<td>{values[n]:.4f}</td>" for n in protocol.metrics)
        expected += f"<tr><td>{name}</td><td>{images}</td>{cells}</tr>"
    assert expected + "</table>" in page(result)


@pytest.mark.parametrize(
    ("count", "each", "best", "median", "worst"),
    [
        (13, None, [0, 1, 2], [4, 5, 6], [11, 10, 9]),
        (13, 2, [0, 1], [5, 6], [11, 10]),
        (8, 3, [0, 1], [2, 3], [6, 5]),
        (4, 3, [0], [1], [2]),
        (3, 3, [0], [], [1]),
        (2, 3, [0], [], []),
    ],
)
def test_the_images_that_are_shown(count, each, best, median, worst, page):
    """No image twice; the worst one is the first of the worst."""
    result = evaluation(count)
    text = page(result, each)
    ranked = [result.records.index(record) for record in result.ranked()]
    shown = {"Best": best, "Median": median, "Worst": worst}
    shown = {name: places for name, places in shown.items() if places}
    assert re.findall("<h2>(.*?)</h2>", text) == list(shown)
    expected = [ranked[place] for places in shown.values() for place in places]
    assert page.predicted == expected
    ids = re.findall("<div class=row><p><code>&lt;(.*?)&gt;</code>", text)
    assert ids == [str(i) for i in expected]
    values = result.records[ranked[0]]["values"]
    line = f"RMSE (m) <b>{values['rmse']:.3f}</b> · AbsRel <b>{values['abs_rel']:.3f}</b> · "
    assert f"{line}δ &lt; 1.25 <b>{values['d1']:.3f}</b></p>" in text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["prediction", "error, 0 to 50 % of the depth"]),
        ({"alignment": "median_scale"}, ["prediction, aligned", "error, 0 to 50 % of the depth"]),
        (
            {"space": "disparity", "target": "relative_inverse_depth"},
            ["prediction", "error, 0 to 50 % of the standard deviation"],
        ),
        ({"target": "labels", "metrics": ("pixel_accuracy",)}, ["prediction", "wrong pixels"]),
    ],
)
def test_captions(changes, expected, page):
    protocol = dataclasses.replace(DEPTH, **changes)
    record = {"id": "<0>", "values": dict.fromkeys(protocol.metrics, 0.5)}
    source = SimpleNamespace(ids=["<0>"])
    text = report._images(record, MODEL, source, protocol)
    captions = re.findall("<figcaption>(.*?)</figcaption>", text)
    assert captions == ["photo", "truth", *expected]
    alternatives = re.findall("alt='(.*?)'", text)
    names = ("photo", "truth", "prediction", "error")
    assert alternatives == [f"{name} of &lt;0&gt;" for name in names]


def test_all_images_and_how_to_repeat_it(page):
    result = evaluation(3)
    text = page(result)
    rows = []
    for i, record in enumerate(result.records[:2]):
        cells = "".join(f"<td>{record['values'][n]:.4f}</td>" for n in DEPTH.metrics)
        rows.append(f"<tr><td>&lt;{i}&gt;</td>{cells}</tr>")
    rows.append("<tr><td>&lt;2&gt; (no_truth)</td><td></td><td></td><td></td></tr>")
    head = "<th></th><th>RMSE (m)</th><th>AbsRel</th><th>δ &lt; 1.25</th>"
    assert f"<summary>All 3 images</summary><table><tr>{head}</tr>{''.join(rows)}</table>" in text
    about = json.loads(html.unescape(re.search("<pre>(.*?)</pre>", text, re.DOTALL)[1]))
    data = json.loads(json.dumps(result.as_dict()))
    assert about == {name: data[name] for name in ("protocol", "deviations", "provenance")}


def test_a_picture_is_made_small(monkeypatch):
    saved = []
    monkeypatch.setattr(Image.Image, "save", lambda self, *_, **__: saved.append(self))
    for size in ((1000, 500), (380, 10), (50, 40), (4000, 1)):
        report._jpeg(Image.new("P", size))
    assert [picture.size for picture in saved] == [(380, 190), (380, 10), (50, 40), (380, 1)]
    assert {picture.mode for picture in saved} == {"RGB"}


# ---- charts --------------------------------------------------------------------------------------


@pytest.fixture
def charts(monkeypatch):
    """`{label: axes}` of the charts drawn in a test."""
    found = {}

    def svg(figure, label):
        (found[label],) = figure.axes
        return ""

    monkeypatch.setattr(report, "_svg", svg)
    return found


def test_a_histogram(charts):
    result = evaluation(41)
    result.records[0]["values"]["rmse"] = 1000.0  # shares the last bar
    report._histogram(result)
    axes = charts["Histogram of RMSE (m) over the images"]
    values = np.array([record["values"]["rmse"] for record in result.records[:-1]])
    top = np.percentile(values, 98) * 1.15
    bars = axes.patches
    assert len(bars) == 10 and sum(bar.get_height() for bar in bars) == 40
    assert bars[0].get_x() == pytest.approx(values.min())
    last = bars[-1].get_x() + bars[-1].get_width()
    assert last == pytest.approx(min(top, 1000)) and bars[-1].get_height() >= 1
    mean, median = axes.get_lines()
    assert mean.get_xdata()[0] == pytest.approx(values.mean()) and mean.get_linestyle() == "-"
    assert median.get_xdata()[0] == pytest.approx(np.median(values))
    assert median.get_linestyle() == ":"
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == [f"mean {values.mean():.3f}", f"median {np.median(values):.3f}"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("RMSE (m) of an image", "images")


@pytest.mark.parametrize(("count", "bars"), [(3, 5), (23, 5), (32, 8), (400, 30)])
def test_the_number_of_bars(count, bars, charts):
    report._histogram(evaluation(count, left_out=0))
    (axes,) = charts.values()
    assert len(axes.patches) == bars


def test_the_metric_of_each_image(charts):
    result = evaluation(5)
    report._second_chart(result, MODEL)
    axes = charts["RMSE (m) of each image"]
    (line,) = axes.get_lines()
    values = [record["values"]["rmse"] for record in result.records[:4]]
    np.testing.assert_allclose(line.get_ydata(), [*values, np.nan])
    assert line.get_marker() == "." and axes.get_ylim()[0] == 0
    assert axes.get_xlabel() == "image, in the order of the data set"
    assert axes.get_ylabel() == "RMSE (m)"


@pytest.mark.parametrize(("most", "shown"), [(30, 3), (2, 2)])
def test_the_best_classes(most, shown, charts):
    result = evaluation(5, LABELS)
    report._class_chart(result, MODEL, **({} if most == 30 else {"most": most}))
    axes = charts["Intersection over union of each class"]
    expected = [("sky", 0.2), ("tree", 1 / 3), ("road", 1.0)][-shown:]  # the best one on top
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [name for name, _ in expected]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == pytest.approx([iou for _, iou in expected])
    (mean,) = axes.get_lines()
    assert mean.get_xdata()[0] == result.metrics["mean_iou"] and axes.get_xlim() == (0, 1)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["mean"]
    assert axes.get_xlabel() == "intersection over union"


def test_many_classes_need_a_higher_chart(charts):
    result = evaluation(5, LABELS)
    result.summary["class_iou"] = {str(i): i / 40 for i in range(40)}
    model = SimpleNamespace(class_names=[f"c{i}" for i in range(40)])
    report._second_chart(result, model)
    (axes,) = charts.values()
    assert len(axes.patches) == 30 and axes.get_yticklabels()[-1].get_text() == "c39"
    assert tuple(axes.figure.get_size_inches()) == pytest.approx((5.6, 7.8))


# ---- tables --------------------------------------------------------------------------------------


def test_a_table_for_a_terminal():
    result = evaluation(3, deviations=("3 of 9 images",))
    rmse, abs_rel, d1 = (result.metrics[name] for name in DEPTH.metrics)
    assert text_table(result).splitlines() == [
        "unnamed, like mine but: 3 of 9 images",
        "     images  RMSE (m)  AbsRel  δ < 1.25",
        f"all       2  {rmse:>8.4f}  {abs_rel:.4f}  {d1:>8.4f}",
        "Note: 1 of 3 images left out: too little known ground truth.",
    ]


def test_a_table_of_classes_begins_with_the_best():
    assert class_table(evaluation(3, LABELS), MODEL.class_names).splitlines() == [
        "class     IoU",
        "road   1.0000",
        "tree   0.3333",
        "sky    0.2000",
    ]


def test_a_table_of_models():
    grouped = dataclasses.replace(DEPTH, groups=(Group("<1"), Group("<")))
    results = [("one", evaluation(3, grouped, left_out=0)), ("two", evaluation(3, LABELS))]
    lines = markdown_table(results).splitlines()
    assert lines[:2] == [
        "| model | protocol | images | AbsRel ↓ | RMSE (m) ↓ | δ < 1.25 ↑ | mIoU ↑ | pixAcc ↑ |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    names = "mine: <1", "mine: <", "mine: mean of the above"
    parts = [*results[0][1].summary["groups"].values(), results[0][1].summary]
    for line, name, part in zip(lines[2:5], names, parts, strict=True):
        cells = [f"{part['metrics'][n]:.3f}" for n in ("abs_rel", "rmse", "d1")]
        start = f"| one | {name} | {part['counted']} | "
        assert line == start + " | ".join(cells) + " |  |  |"
    iou = results[1][1].metrics["mean_iou"]
    assert lines[5:] == [f"| two | mine | 2 |  |  |  | {iou:.3f} | 0.500 |"]


def test_a_report_that_cannot_be_written(page, tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(EvaluationError, match="report.html"):
        page(evaluation())
