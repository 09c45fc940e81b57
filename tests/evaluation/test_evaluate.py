"""One pass over a data set: records, resuming, refusals, degenerate truth and predictions."""

import dataclasses
import hashlib
import html.parser
import importlib.metadata
import json
import platform
import sys
import time
import zlib
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tiny

import keras_dpt
from keras_dpt import evaluation
from keras_dpt.datasets import Sample, Source
from keras_dpt.errors import DepthError, EvaluationError
from keras_dpt.evaluation import PROTOCOLS, Evaluation
from keras_dpt.evaluation.journal import Journal
from keras_dpt.evaluation.measure import Measured, measure
from keras_dpt.evaluation.provenance import describe, fingerprint, hash_of_weights, versions
from keras_dpt.evaluation.report import write_report
from keras_dpt.evaluation.tables import class_table, markdown_table, text_table
from keras_dpt.maps.depth_map import DepthMap
from keras_dpt.maps.label_map import LabelMap

SIZE = (24, 32)
NAMES = ("a", "b", "c")


def depth_source(count=6, change=None):
    """Planes that fall away from the camera, each steeper than the last."""
    images = tiny.photos(count, *SIZE)
    ramp = np.linspace(1, 2, SIZE[0] * SIZE[1]).reshape(SIZE)
    targets = [(ramp * (1 + i)).astype("float32") for i in range(count)]
    for i, target in (change or {}).items():
        targets[i] = np.full(SIZE, target, "float32") if np.isscalar(target) else target
    ids = [f"{i:03d}" for i in range(count)]
    return Source("planes", ids, lambda i: (images[i], targets[i]), "metric_depth")


def label_source(count=4):
    rng = np.random.default_rng(0)
    images = tiny.photos(count, *SIZE)
    labels = rng.choice([0, 1, 2, 255], (count, *SIZE)).astype("uint8")
    ids = [f"{i:03d}" for i in range(count)]
    return Source("noise", ids, lambda i: (images[i], labels[i]), "labels", NAMES)


class Oracle:
    """A model that looks up what it predicts: the cost of no network."""

    kind = "relative_inverse_depth"
    weights = ()

    class backbone:
        dtype_policy = keras.dtype_policies.DTypePolicy("float32")

    def __init__(self, source, predict, stop_after=None):
        self.answers = {
            sample.image.tobytes(): predict(i, sample) for i, sample in enumerate(source)
        }
        self.stop_after = stop_after
        self.seen = 0
        self.options = []

    def predict_images(self, images, batch_size=4, **options):
        self.options.append(options)
        answers = []
        for image in images:
            if self.seen == self.stop_after:
                raise KeyboardInterrupt
            self.seen += 1
            answer = self.answers[image.tobytes()]
            answers.append(answer if hasattr(answer, "kind") else DepthMap(answer, self.kind))
        return answers

    def converter_of_photos(self):
        return keras_dpt.DPTImageConverter()

    def count_params(self):
        return 0


class LabelOracle(Oracle):
    kind = "labels"
    num_classes, class_names, ignore_index = 3, NAMES, 255
    palette = ((0, 0, 0), (250, 0, 0), (0, 0, 250))


def noisy_inverse(i, sample):
    """Inverse depth up to scale and shift, with an error of its own in each image."""
    noise = np.random.default_rng(i).normal(0, 0.1 * (i + 1), SIZE)
    return (30 / np.where(sample.valid, sample.target, 1) * np.exp(noise) - 3).astype("float32")


@pytest.fixture(scope="module")
def result():
    source = depth_source()
    return evaluation.evaluate(Oracle(source, noisy_inverse), source, "aligned_depth")


def test_values_are_those_of_a_second_hand(result):
    source = depth_source()
    for i, record in enumerate(result.records):
        truth, x = source[i].target.astype("float64"), noisy_inverse(i, source[i])
        scale, shift = np.polyfit(x.ravel().astype("float64"), 1 / truth.ravel(), 1)
        metres = 1 / np.maximum(scale * x + shift, 1 / truth.max())
        assert record["values"]["abs_rel"] == pytest.approx(np.mean(np.abs(metres / truth - 1)))
        assert [record["fit"]["scale"], record["fit"]["shift"]] == pytest.approx([scale, shift])
        assert (record["id"], record["size"], record["pixels"]) == (f"{i:03d}", [24, 32], 768)
    expected = np.mean([record["values"]["abs_rel"] for record in result.records])
    assert result.metrics["abs_rel"] == pytest.approx(expected)
    assert [record["id"] for record in result.ranked()] == [f"{i:03d}" for i in range(6)]
    assert result.name == "aligned_depth" and not result.notes


def test_saved_and_loaded(result, tmp_path):
    result.save(tmp_path / "result.json")
    data = json.loads((tmp_path / "result.json").read_text())
    assert data["name"] == "aligned_depth"
    assert data["provenance"]["backend"] == keras.backend.backend()
    assert data["provenance"]["versions"]["keras"] == keras.__version__
    assert data["provenance"]["data"]["images"] == len(data["images"]) == 6
    assert Evaluation.load(tmp_path / "result.json").as_dict() == result.as_dict()
    (tmp_path / "other.json").write_text('{"format": 0}')
    with pytest.raises(EvaluationError, match="other.json holds no evaluation"):
        Evaluation.load(tmp_path / "other.json")


@pytest.mark.parametrize("where", ["metrics", "counted", "pixels", "image"])
def test_a_summary_that_is_not_that_of_its_images(where, result, tmp_path):
    data = json.loads(json.dumps(result.as_dict()))
    if where == "metrics":
        data["summary"]["metrics"]["abs_rel"] *= 0.9
    elif where == "image":
        data["images"][2]["values"]["rmse"] += 1.0
    else:
        data["summary"][where] += 1
    path = tmp_path / "result.json"
    path.write_text(json.dumps(data))
    name = {"metrics": "metrics.abs_rel", "image": "metrics.rmse"}.get(where, where)
    with pytest.raises(EvaluationError, match=f"result.json .*summary.{name} is .* images give"):
        Evaluation.load(path)


def test_an_interrupted_run_goes_on(result, tmp_path):
    source = depth_source()
    with pytest.raises(KeyboardInterrupt):
        model = Oracle(source, noisy_inverse, stop_after=5)
        evaluation.evaluate(model, source, "aligned_depth", batch_size=2, journal=tmp_path)
    (journal,) = tmp_path.iterdir()
    with journal.open("a") as file:
        file.write('{"id": "004", "val')  # as if the power had failed here
    model = Oracle(source, noisy_inverse)
    again = evaluation.evaluate(model, source, "aligned_depth", batch_size=2, journal=tmp_path)
    assert model.seen == 2
    assert again.records == result.records
    assert again.metrics == result.metrics
    assert again.provenance["images_resumed"] == 4


def test_a_complete_run_is_no_run_to_resume(result, tmp_path):
    source = depth_source()
    for _ in range(2):
        model = Oracle(source, noisy_inverse)
        again = evaluation.evaluate(model, source, "aligned_depth", journal=tmp_path)
        assert model.seen == 6 and again.provenance["images_resumed"] == 0
        assert again.records == result.records


def interrupted(source, journal, after=4, predict=noisy_inverse):
    """Leave the records of the first images in a journal; returns its file."""
    with pytest.raises(KeyboardInterrupt):
        model = Oracle(source, predict, stop_after=after)
        evaluation.evaluate(model, source, "aligned_depth", batch_size=1, journal=journal)
    (file,) = journal.iterdir()
    assert len(file.read_text().splitlines()) == 1 + after
    return file


def test_another_unit_does_not_resume(tmp_path):
    """RMSE of metres was once given out as that of half metres."""
    source = depth_source()
    interrupted(source, tmp_path)
    halves = source.changed(lambda image, target: (image, target / 2))
    model = Oracle(halves, noisy_inverse)
    result = evaluation.evaluate(model, halves, "aligned_depth", journal=tmp_path)
    assert model.seen == 6
    assert result.metrics == evaluation.evaluate(model, halves, "aligned_depth").metrics


@pytest.mark.parametrize("which", ["image", "target"])
def test_a_replaced_file_is_measured_again(which, tmp_path):
    source = depth_source()
    interrupted(source, tmp_path)
    images, targets = ([sample[k].copy() for sample in source] for k in (0, 1))
    (images if which == "image" else targets)[1][0, 0] += 1
    other = Source("planes", source.ids, lambda i: (images[i], targets[i]), "metric_depth")
    model = Oracle(other, noisy_inverse)
    result = evaluation.evaluate(model, other, "aligned_depth", journal=tmp_path)
    assert model.seen == 3 and result.provenance["images_resumed"] == 3
    assert result.records == evaluation.evaluate(model, other, "aligned_depth").records


def test_another_meaning_of_the_same_pixels_does_not_resume(tmp_path):
    source = label_source()
    guess = np.random.default_rng(1).integers(0, 3, (4, *SIZE))
    model = LabelOracle(source, lambda i, sample: LabelMap(guess[i], NAMES), stop_after=3)
    with pytest.raises(KeyboardInterrupt):
        evaluation.evaluate(model, source, "labels", batch_size=1, journal=tmp_path)
    named = Source(
        "noise", source.ids, lambda i: (source[i].image, source[i].target), "labels", tuple("xyz")
    )
    model.stop_after, model.seen, model.class_names = None, 0, tuple("xyz")
    evaluation.evaluate(model, named, "labels", journal=tmp_path)
    assert model.seen == 4


def test_a_config_is_part_of_the_model(tmp_path):
    """Two networks of equal weights are not equal: scale and shift are no weights."""
    source = depth_source()
    file = interrupted(source, tmp_path)
    model = Oracle(source, noisy_inverse)
    model.get_config = lambda: {
        "name": "dpt_7",
        "scale": 2.0,
        "dtype": keras.DTypePolicy("float32"),
    }
    evaluation.evaluate(model, source, "aligned_depth", journal=tmp_path)
    assert model.seen == 6 and len(list(tmp_path.iterdir())) == 2
    model.get_config = lambda: {
        "name": "dpt_8",
        "scale": 2.0,
        "dtype": keras.DTypePolicy("float32"),
    }
    evaluation.evaluate(model, source, "aligned_depth", journal=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2 and file.exists()  # names are no difference


def test_two_images_of_one_name_are_refused():
    source = depth_source().subset([0, 1, 1])
    with pytest.raises(EvaluationError, match="two images called 001. Names must be unique"):
        evaluation.evaluate(Oracle(source, noisy_inverse), source, "aligned_depth")


@pytest.mark.parametrize("room", [-50, 10])
def test_a_full_disk_costs_no_record(room, tmp_path):
    """Nothing that is in a journal is written again, and half a record is taken back."""
    resource = pytest.importorskip("resource")
    source = depth_source()
    file = interrupted(source, tmp_path)
    before = file.read_bytes()
    with file.open("ab") as stream:
        stream.write(b'{"id": "00')
    model = Oracle(source, noisy_inverse)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, unlimited[1]))
    try:
        with pytest.raises(EvaluationError, match="Cannot write .*kept: free some space"):
            evaluation.evaluate(model, source, "aligned_depth", journal=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert file.read_bytes() == before
    model = Oracle(source, noisy_inverse)
    evaluation.evaluate(model, source, "aligned_depth", journal=tmp_path)
    assert model.seen == 2


def test_one_process_at_a_time_writes_a_journal(tmp_path):
    pytest.importorskip("fcntl")
    with Journal(tmp_path, "x", "0" * 64) as journal:
        record = {"id": "a", "status": "counted", "pixels": 3, "values": {"abs_rel": 0.5}}
        journal.append(record)
        with pytest.raises(EvaluationError, match="Another run is writing"):
            Journal(tmp_path, "x", "0" * 64)
    with Journal(tmp_path, "x", "0" * 64) as journal:
        assert journal.records == {"a": record}


def test_a_result_that_cannot_be_saved_leaves_the_journal(tmp_path):
    source = depth_source()
    (tmp_path / "j").mkdir()
    options = {"journal": tmp_path / "j", "save_to": tmp_path / "nowhere" / "result.json"}
    with pytest.raises(EvaluationError, match="there is no folder"):
        evaluation.evaluate(Oracle(source, noisy_inverse), source, "aligned_depth", **options)
    model = Oracle(source, noisy_inverse)
    options["save_to"] = tmp_path / "result.json"
    result = evaluation.evaluate(model, source, "aligned_depth", **options)
    assert model.seen == 0
    assert Evaluation.load(tmp_path / "result.json").as_dict() == result.as_dict()


def test_damaged_journal(tmp_path):
    source = depth_source()
    evaluation.evaluate(Oracle(source, noisy_inverse), source, "aligned_depth", journal=tmp_path)
    (journal,) = tmp_path.iterdir()
    journal.write_text("no json\n" + journal.read_text())
    with pytest.raises(EvaluationError, match="damaged in line 1"):
        evaluation.evaluate(
            Oracle(source, noisy_inverse), source, "aligned_depth", journal=tmp_path
        )
    with pytest.raises(EvaluationError, match="no folder"):
        model = Oracle(source, noisy_inverse)
        evaluation.evaluate(model, source, "aligned_depth", journal=tmp_path / "nowhere")


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line.replace(b'"abs_rel":0.', b'"abs_rel":1.'),  # another number, no less JSON
        lambda line: b'{"crc32":"00000000","content":{"id":"003"}}\n',
        lambda line: b"{}\n",
        lambda line: b"[" * 100_000 + b"\n",
        lambda line: b'{"id":3}\n',
        lambda line: b"\xff\xfe\n",
    ],
)
def test_a_damaged_record_is_measured_again(result, damage, tmp_path):
    source = depth_source()
    file = interrupted(source, tmp_path)
    lines = file.read_bytes().splitlines(keepends=True)
    changed = damage(lines[2])
    assert changed != lines[2]
    file.write_bytes(b"".join([*lines[:2], changed, *lines[3:]]))
    model = Oracle(source, noisy_inverse)
    again = evaluation.evaluate(model, source, "aligned_depth", batch_size=1, journal=tmp_path)
    assert model.seen == 3  # two were never measured
    assert again.records == result.records


def test_names_are_refused_and_lent_to_nothing_else():
    source = depth_source()
    model = Oracle(source, noisy_inverse)
    with pytest.raises(EvaluationError, match="nyuv2_val means 329 images"):
        evaluation.evaluate(model, source, "nyuv2_val")
    with pytest.raises(EvaluationError, match="but 000 is 24 x 32"):
        evaluation.evaluate(model, source, "nyuv2_val", limit=2)
    with pytest.raises(EvaluationError, match="Eigen crop"):
        model.kind = "metric_depth"
        evaluation.evaluate(model, source, "nyu_eigen", unnamed=True)
    assert model.seen == 0
    model = Oracle(source, noisy_inverse)
    result = evaluation.evaluate(model, source, "nyuv2_val", unnamed=True, limit=4)
    assert result.deviations == (
        "4 of 6 images",
        "a set of 6 images instead of 329",
        "images of other sizes, such as 24 x 32",
    )
    assert result.name.startswith("unnamed, like nyuv2_val but: 4 of 6 images; a set of 6")
    assert result.as_dict()["name"] is None
    assert [record["id"] for record in result.records] == ["000", "001", "003", "004"]
    whole = evaluation.evaluate(model, source, "aligned_depth", limit=6)
    assert whole.name == "aligned_depth"


def test_truth_with_holes_or_without_any():
    ramp = depth_source()[0].target
    holes = np.where(np.indices(SIZE).sum(0) % 3 == 0, np.nan, ramp).astype("float32")
    single = np.zeros(SIZE, "float32")
    single[3, 4] = 2
    source = depth_source(change={0: holes, 1: 0.0, 2: np.nan, 3: single, 4: -1.0})
    result = evaluation.evaluate(Oracle(source, noisy_inverse), source, "aligned_depth")
    assert [r["status"] for r in result.records] == ["counted", *["no_truth"] * 4, "counted"]
    assert result.records[0]["pixels"] == 512
    assert result.summary["excluded"] == {"no_truth": 4}
    values = [result.records[i]["values"]["d1"] for i in (0, 5)]
    assert result.metrics["d1"] == pytest.approx(np.mean(values))
    assert result.notes == ["4 of 6 images left out: too little known ground truth."]
    assert "4 of 6 images left out" in text_table(result)
    blank = depth_source(3, {i: 0.0 for i in range(3)})
    with pytest.raises(EvaluationError, match="none of the 3 images could be measured"):
        evaluation.evaluate(Oracle(blank, noisy_inverse), blank, "aligned_depth")


@pytest.mark.parametrize("value", [0.0, 7.0])
@pytest.mark.parametrize("protocol", ["aligned_depth", "metric_depth"])
def test_constant_predictions_are_measured_and_counted(protocol, value):
    source = depth_source()
    model = Oracle(source, lambda i, sample: np.full(SIZE, value, "float32"))
    model.kind = "metric_depth" if protocol == "metric_depth" else model.kind
    result = evaluation.evaluate(model, source, protocol)
    assert all(np.isfinite(x) for x in result.metrics.values())
    assert result.summary["constant"] == 6
    assert result.notes == ["6 predictions are the same at all measured pixels."]
    if protocol == "aligned_depth":  # as good as the best constant, whatever the value
        truth = source[0].target.astype("float64")
        mean = np.mean(1 / truth)
        expected = np.mean(np.abs(1 / (mean * truth) - 1))
        assert result.records[0]["values"]["abs_rel"] == pytest.approx(expected)


def test_predictions_that_are_no_numbers_are_refused_by_name():
    source = depth_source()

    class Broken(Oracle):
        def predict_images(self, images, batch_size=4, **options):
            raise DepthError("3 of 9 depth values are NaN.")

    with pytest.raises(EvaluationError, match="planes, 000, 001: 3 of 9"):
        evaluation.evaluate(Broken(source, noisy_inverse), source, "aligned_depth", batch_size=2)


def test_labels_and_multiscale():
    source = label_source()
    guess = np.random.default_rng(1).integers(0, 3, (4, *SIZE))
    model = LabelOracle(source, lambda i, sample: LabelMap(guess[i], NAMES))
    result = evaluation.evaluate(model, source, "labels")
    truth = np.stack([sample.target for sample in source])
    known = truth != 255
    sklearn = pytest.importorskip("sklearn.metrics")
    expected = {
        "mean_iou": sklearn.jaccard_score(truth[known], guess[known], average="macro"),
        "pixel_accuracy": sklearn.accuracy_score(truth[known], guess[known]),
    }
    assert result.metrics == pytest.approx(expected, abs=1e-9)
    assert class_table(result, NAMES).splitlines()[0].split() == ["class", "IoU"]
    assert model.options == [{}]
    evaluation.evaluate(model, source, "labels", limit=1)
    with pytest.raises(EvaluationError, match="59 classes, the model 3"):
        evaluation.evaluate(model, source, "pascal_context_multiscale")
    protocol = dataclasses.replace(PROTOCOLS["pascal_context_multiscale"], num_classes=3, counts=())
    evaluation.evaluate(model, source, protocol, limit=1)
    assert model.options[-1] == {"scales": protocol.scales, "flip": True}


class _Page(html.parser.HTMLParser):
    """Counts tags, and checks that they are closed."""

    def __init__(self):
        super().__init__()
        self.counts, self.open = {}, []

    def handle_starttag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("kind", ["depth", "labels"])
def test_report(kind, tmp_path):
    if kind == "depth":
        source = depth_source(change={2: 0.0})
        model, protocol = Oracle(source, noisy_inverse), "aligned_depth"
    else:
        source = label_source()
        guess = np.random.default_rng(1).integers(0, 3, (4, *SIZE))
        model = LabelOracle(source, lambda i, sample: LabelMap(guess[i], NAMES))
        protocol = "labels"
    result = evaluation.evaluate(model, source, protocol)
    write_report(result, model, source, tmp_path / "report.html", "tiny <model>")
    text = (tmp_path / "report.html").read_text()
    page = _Page()
    page.feed(text)
    assert not page.open
    assert page.counts["h2"] == 3 and page.counts["figure"] == 12
    assert "tiny &lt;model&gt;" in text and "tiny <model>" not in text
    assert ">nan<" not in text.lower()
    assert result.provenance["data"]["ids_sha256"] in text
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_markdown_table(result):
    source = label_source()
    model = LabelOracle(source, lambda i, sample: LabelMap(sample.target % 3, NAMES))
    labels = evaluation.evaluate(model, source, "labels")
    lines = markdown_table([("one", result), ("two", labels)]).splitlines()
    assert lines[0].startswith("| model | protocol | images | AbsRel ↓ | RMSE (m) ↓ |")
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    assert lines[2].startswith(f"| one | aligned_depth | 6 | {result.metrics['abs_rel']:.3f} |")
    assert lines[3].split("|")[-3:] == [" 1.000 ", " 1.000 ", ""]


@pytest.mark.slow
def test_a_real_network():
    model = tiny.depth(preprocessor=tiny.preprocessor((32, 32), keep_aspect_ratio=False))
    source = depth_source(2)
    result = evaluation.evaluate(model, source, "aligned_depth", batch_size=2)
    depth = model.predict_images([sample.image for sample in source], 2)
    for record, sample, prediction in zip(result.records, source, depth, strict=True):
        truth = sample.target.astype("float64")
        scale, shift = keras_dpt.align_scale_shift(prediction.values, 1 / truth)
        metres = 1 / np.maximum(
            scale * prediction.values.astype("float64") + shift, 1 / truth.max()
        )
        errors = np.abs(metres - truth) / truth
        assert record["values"]["abs_rel"] == pytest.approx(errors.mean(), rel=1e-4)
    assert result.provenance["parameters"] == model.count_params()
    before = result.provenance["weights_sha256"]
    model.head.conv3.bias.assign_add([1.0])
    after = evaluation.evaluate(model, source, "aligned_depth", batch_size=2)
    assert after.provenance["weights_sha256"] != before
    # Least squares in inverse depth takes any shift of the prediction away.
    assert after.metrics["abs_rel"] == pytest.approx(result.metrics["abs_rel"], rel=1e-3)


def test_provenance_by_hand():
    source, model = label_source(3), LabelOracle(label_source(3), lambda i, sample: None)
    mean, std = [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]
    converter = keras_dpt.DPTImageConverter((64, 96), multiple_of=32, mean=mean, std=std)
    model.converter_of_photos = lambda: converter
    model.count_params = lambda: np.int64(7)
    found = describe(model, source)
    assert json.loads(json.dumps(found)) == found  # JSON types
    assert found == {
        "model": "LabelOracle",
        "kind": "labels",
        "parameters": 7,
        "weights_sha256": hashlib.sha256().hexdigest(),
        "dtype": "float32",
        "image": {
            "image_size": [64, 96],
            "keep_aspect_ratio": converter.keep_aspect_ratio,
            "multiple_of": 32,
            "resize": converter.resize,
            "size_rule": converter.size_rule,
            "pad": converter.pad,
            "mean": mean,
            "std": std,
        },
        "data": {
            "name": "noise",
            "kind": "labels",
            "images": 3,
            "ids_sha256": hashlib.sha256(b"000\n001\n002").hexdigest(),
        },
        "backend": keras.backend.backend(),
        "versions": versions(),
        "machine": platform.machine(),
    }
    installed = versions()
    assert installed["python"] == platform.python_version()
    assert installed["keras_dpt"] == keras_dpt.__version__
    names = ("keras", "keras-hub", "numpy", "pillow", "opencv-python-headless")
    for name in names:
        if name in installed:  # such as another build of OpenCV
            assert installed[name] == importlib.metadata.version(name)
    assert {"keras", "numpy", "pillow"} < set(installed)
    assert set(installed) <= {"python", "keras_dpt", keras.backend.backend(), *names}
    model.converter_of_photos = lambda: keras_dpt.DPTImageConverter(None)
    assert describe(model, source)["image"]["image_size"] is None
    names = "converter_of_photos", "count_params", "weights", "backbone"
    plain = SimpleNamespace(**{name: getattr(model, name) for name in names})
    assert describe(plain, source)["kind"] == "labels"


@pytest.mark.parametrize(
    ("what", "value"),
    [("class_names", ("a", "b")), ("ignore_index", 254), ("sparse", True), ("protocol", "camvid")],
)
def test_what_a_fingerprint_depends_on(what, value):
    def of(protocol="labels", scale=1.0, name="model_1", **changes):
        source = {"class_names": ("a", "c"), "ignore_index": 255, "sparse": False} | changes
        config = {"scale": scale, "layers": [{"name": name, "dtype": "float32"}]}
        model = SimpleNamespace(get_config=lambda: config)
        return fingerprint({"machine": "x"}, PROTOCOLS[protocol], model, SimpleNamespace(**source))

    assert of(**{what: value}) != of()
    assert of(scale=2.0) != of() == of(name="model_2")


def test_the_identity_of_a_sample(result):
    """By which a replaced file is noticed."""
    for i, record in enumerate(result.records):
        image, target, _ = depth_source()[i]
        crc = zlib.crc32(target.tobytes(), zlib.crc32(image.tobytes()))
        assert (record["crc32"], record["size"]) == (f"{crc:08x}", [24, 32])


def test_the_hash_of_weights_is_of_shapes_and_values():
    def of(*arrays):
        weights = [keras.Variable(np.array(x, "float32")) for x in arrays]
        return hash_of_weights(SimpleNamespace(weights=weights))

    content = b"(2, 1)" + np.array([1, 2], "<f4").tobytes() + b"(1,)" + bytes(4)
    assert of([[1], [2]], [0]) == hashlib.sha256(content).hexdigest()
    hashes = {of([[1], [2]]), of([[1, 2]]), of([1, 2]), of([2, 1]), of([1], [2])}
    assert len(hashes) == 5


@pytest.mark.parametrize(
    ("total", "limit", "expected"),
    [
        (6, None, [0, 1, 2, 3, 4, 5]),
        (6, 9, [0, 1, 2, 3, 4, 5]),
        (6, 3, [0, 2, 4]),
        (5, 2, [0, 2]),
        (7, 1, [0]),
    ],
)
def test_a_limit_takes_images_from_everywhere(total, limit, expected):
    source = depth_source(total)
    model = Oracle(source, noisy_inverse)
    result = evaluation.evaluate(model, source, "aligned_depth", limit=limit)
    assert [int(record["id"]) for record in result.records] == expected


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_of_no_image(limit):
    source = depth_source(2)
    with pytest.raises(EvaluationError, match="`limit` must be at least 1. Received: "):
        evaluation.evaluate(Oracle(source, noisy_inverse), source, "aligned_depth", limit=limit)


@pytest.mark.parametrize("size", [0, -1, 1.5, "2"])
def test_a_batch_of_no_image(size):
    source = depth_source(2)
    with pytest.raises(EvaluationError, match="`batch_size` must be at least 1. Received: "):
        model = Oracle(source, noisy_inverse)
        evaluation.evaluate(model, source, "aligned_depth", batch_size=size)


@pytest.mark.parametrize(("batch_size", "sizes"), [(4, [4, 2]), (5, [5, 1]), (np.int64(9), [6])])
def test_images_are_predicted_in_batches(batch_size, sizes):
    source, seen = depth_source(6), []

    class Noted(Oracle):
        def predict_images(self, images, batch_size):
            seen.append((len(images), batch_size))
            return super().predict_images(images)

    options = {} if batch_size == 4 else {"batch_size": batch_size}
    evaluation.evaluate(Noted(source, noisy_inverse), source, "aligned_depth", **options)
    assert seen == [(size, batch_size) for size in sizes]


@pytest.mark.parametrize(
    ("options", "disabled"), [({}, True), ({"progress": True}, False), ({"progress": None}, None)]
)
def test_a_progress_bar_counts_images(options, disabled, tmp_path, monkeypatch):
    made = []

    class Bar:
        def __init__(self, **options):
            self.options, self.count = options, 0
            made.append(self)

        def update(self):
            self.count += 1

        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda self, *_: None  # noqa: E731

    source = depth_source(6)
    interrupted(source, tmp_path, after=4)
    monkeypatch.setattr("tqdm.tqdm", Bar)
    model = Oracle(source, noisy_inverse)
    evaluation.evaluate(model, source, "aligned_depth", journal=tmp_path, **options)
    (bar,) = made
    shown = {"total": 6, "initial": 4, "unit": "image", "desc": "aligned_depth"}
    assert bar.options == shown | {"disable": disabled} and bar.count == 2


def test_what_is_told_about_a_run(monkeypatch):
    times = [0.0, 12.34]
    clock = SimpleNamespace(**vars(time) | {"time": lambda: times.pop(0)})
    monkeypatch.setattr(sys.modules["keras_dpt.evaluation.evaluate"], "time", clock)
    source = depth_source(2)
    model, about = Oracle(source, noisy_inverse), {"preset": "x", "machine": "mine"}
    found = evaluation.evaluate(model, source, "aligned_depth", about=about).provenance
    assert about.items() <= found.items()
    assert (found["date"], found["seconds"]) == ("1970-01-01T00:00:00Z", 12.3)


def test_a_result_with_every_kind_of_note(result):
    summary = {"excluded": {"no_truth": 2, "odd": 1}, "images": 9, "constant": 3, "inverted": 4}
    assert dataclasses.replace(result, summary=summary).notes == [
        "2 of 9 images left out: too little known ground truth.",
        "1 of 9 images left out: odd.",
        "3 predictions are the same at all measured pixels.",
        "4 predictions fit best with near and far swapped.",
    ]


# ---- one image ----------------------------------------------------------------------------------


def measured_by(protocol, prediction, kind, truth, valid=None, **changes):
    truth = np.array(truth, "float32")
    valid = np.ones(truth.shape, bool) if valid is None else np.array(valid, bool)
    sample = Sample(np.zeros((*truth.shape, 3), "uint8"), truth, valid)
    protocol = dataclasses.replace(PROTOCOLS[protocol], **changes)
    return measure(protocol, sample, DepthMap(np.array(prediction, "float32"), kind), "x")


def test_metres_of_one_image():
    nan = np.nan
    found = measured_by(
        "metric_depth",
        [[1.0, 3.0, 50.0, 0.5]],
        "metric_depth",
        [[2.0, 3.0, 8.0, 9.0]],
        [[True, True, True, False]],
        max_depth=10.0,
    )
    assert (found.status, found.pixels, found.classes) == ("counted", 3, None)
    np.testing.assert_array_equal(found.truth, [[2, 3, 8, nan]])
    np.testing.assert_array_equal(found.prediction, [[1, 3, 10, 0.5]])  # clipped to 10 m
    np.testing.assert_array_equal(found.error, [[0.5, 0, 0.25, nan]])
    assert found.values["abs_rel"] == pytest.approx(0.25) and found.fit == {"constant": False}


def test_one_known_pixel_is_enough_for_metres_alone():
    truth, valid = [[2.0, 3.0]], [[True, False]]
    one = measured_by("metric_depth", [[1.0, 1.0]], "metric_depth", truth, valid)
    assert one.values["abs_rel"] == 0.5 and one.fit == {"constant": True}
    for protocol, change in (
        ("aligned_depth", {}),
        ("metric_depth", {"alignment": "median_scale"}),
    ):
        found = measured_by(protocol, [[1.0, 1.0]], "metric_depth", truth, valid, **change)
        assert vars(found) == vars(Measured("no_truth"))


@pytest.mark.parametrize("kind", ["metric_depth", "relative_inverse_depth"])
def test_disparity_of_one_image(kind):
    truth, valid = [[1.0, 2.0, 3.0, 9.0]], [[True, True, True, False]]
    line = np.array([[2.0, 4.0, 8.0, 16.0]])
    prediction = 1 / line if kind == "metric_depth" else line
    found = measured_by("aligned_disparity", prediction, kind, truth, valid)
    scale, shift = np.polyfit(line[0, :3], truth[0][:3], 1)
    assert [found.fit["scale"], found.fit["shift"]] == pytest.approx([scale, shift], rel=1e-5)
    np.testing.assert_allclose(found.prediction, scale * line + shift, rtol=1e-5)
    np.testing.assert_array_equal(found.truth, [[1, 2, 3, np.nan]])
    error = np.abs(scale * line + shift - truth)[0, :3] / np.std(truth[0][:3])
    np.testing.assert_allclose(found.error, [[*error, np.nan]], atol=1e-6)
    assert found.pixels == 3 and set(found.values) == {"nrmse", "nmae"}


@pytest.mark.parametrize("truth", [[[2.0, 2.0, 2.0]], [[2.0, 0.0, 0.0]]])
def test_disparity_without_a_spread(truth):
    found = measured_by("aligned_disparity", [[1.0, 2.0, 3.0]], "relative_inverse_depth", truth)
    assert found.status == "no_truth"


def test_labels_of_one_image():
    truth = np.array([[0, 2, 255, 2]])
    sample = Sample(np.zeros((1, 4, 3), "uint8"), truth.astype("uint8"), truth != 255)
    predicted = LabelMap(np.array([[0, 1, 1, 2]]), NAMES)
    found = measure(PROTOCOLS["labels"], sample, predicted)
    assert (found.status, found.pixels) == ("counted", 3)
    assert found.classes == {0: (1, 1, 1), 1: (0, 0, 1), 2: (1, 2, 1)}
    assert found.values == {"pixel_accuracy": pytest.approx(2 / 3), "mean_iou": 0.5}
    np.testing.assert_array_equal(found.error, [[0, 1, np.nan, 0]])
    np.testing.assert_array_equal(found.truth, truth)
    np.testing.assert_array_equal(found.prediction, [[0, 1, 1, 2]])
    unknown = sample._replace(valid=np.zeros((1, 4), bool))
    assert measure(PROTOCOLS["labels"], unknown, predicted).status == "no_truth"


def test_pairs_of_one_image():
    values = np.array([[1.0, 2.0, 4.0]], "float32")
    sample = Sample(np.zeros((1, 3, 3), "uint8"), np.array([(0, 1, 0, 0, 1)]), np.ones(1, bool))
    protocol = PROTOCOLS["zero_shot_diw"]
    found = measure(protocol, sample, DepthMap(values, "metric_depth"))
    assert (found.pixels, found.values, found.fit) == (1, {"whdr": 1.0}, {"constant": False})
    np.testing.assert_array_equal(found.prediction, 1 / values)
    none = sample._replace(target=np.zeros((0, 5), int))
    assert measure(protocol, none, DepthMap(values, "metric_depth")).status == "no_truth"


def test_a_prediction_of_another_size():
    with pytest.raises(EvaluationError, match=r"x: predicted \(1, 2\), but \(1, 3\) was shown"):
        measured_by("metric_depth", [[1.0, 2.0]], "metric_depth", [[1.0, 2.0, 3.0]])
    with pytest.raises(EvaluationError, match="metric_depth needs metres; .* relative_inverse"):
        measured_by("metric_depth", [[1.0]], "relative_inverse_depth", [[1.0]])


def test_the_images_of_a_protocol_have_its_name():
    source = depth_source(2)
    sizes = (24, 25), (31, 32)
    protocol = dataclasses.replace(PROTOCOLS["aligned_depth"], sizes=sizes, counts=(2,))
    result = evaluation.evaluate(Oracle(source, noisy_inverse), source, protocol)
    assert result.deviations == () and result.name == "aligned_depth"
