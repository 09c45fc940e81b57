import numpy as np
import pytest
import tiny
from keras import ops

from keras_dpt import DPTDepth, losses
from keras_dpt.datasets import Batches, Source
from keras_dpt.errors import TrainingError
from keras_dpt.training import fit_metric, to_metric

SIZE = (32, 64)
PHOTOS = list(tiny.photos(4, *SIZE))


@pytest.fixture(scope="module")
def model():
    return tiny.depth(preprocessor=tiny.preprocessor(SIZE))


@pytest.fixture(scope="module")
def outputs(model):
    return [depth.values for depth in model.predict_images(PHOTOS)]


def source(depths, kind="metric_depth"):
    names = [str(i) for i in range(len(depths))]
    return Source("made", names, lambda i: (PHOTOS[i], depths[i].astype("float32")), kind)


def test_average_of_the_alignments_is_baked_in(model, outputs, tmp_path):
    lines = [(0.02, 0.1), (0.03, 0.2), (0.04, 0.15), (0.03, 0.35)]
    depths = [1 / (a * x + b) for (a, b), x in zip(lines, outputs, strict=True)]
    depths[2][:20] = 0  # unknown
    metric = to_metric(model, source(depths))
    assert metric.kind == "metric_depth"
    assert metric.scale == pytest.approx(0.03, rel=1e-4)
    for x, depth in zip(outputs, metric.predict_images(PHOTOS), strict=True):
        np.testing.assert_allclose(depth.metres, 1 / (0.03 * x + 0.2), rtol=1e-3)
    assert isinstance(metric.loss, losses.ScaleInvariantLogLoss)
    metric.save_to_preset(str(tmp_path))
    again = DPTDepth.from_preset(str(tmp_path))
    assert (again.kind, again.scale, again.shift) == (metric.kind, metric.scale, metric.shift)
    for a, b in zip(again.get_weights(), metric.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_one_call_aligns_and_trains():
    """What is left of the truth after alignment, a slope from left to right, is learnt."""
    model = tiny.depth(preprocessor=tiny.preprocessor(SIZE))
    slope = np.linspace(0.8, 1.25, SIZE[1])
    depths = [slope / (0.03 * x.values + 0.2) for x in model.predict_images(PHOTOS)]
    batches = Batches(source(depths), SIZE, 4, "depth", augment=False)
    metric = fit_metric(model, batches, learning_rate=2e-3, epochs=8, verbose=0)
    assert metric.kind == "metric_depth"
    course = metric.history.history["loss"]
    assert course[-1] < 0.9 * course[0]


def test_batches_say_the_same_as_their_source(model, outputs):
    depths = [1 / (0.03 * x + 0.2) for x in outputs]
    batches = Batches(source(depths), SIZE, 4, "depth", augment=False)
    metric = to_metric(model, batches)
    assert (metric.scale, metric.shift) == pytest.approx((0.03, 0.2), rel=1e-3)
    images, targets, weights = batches[0]
    targets[:, :9] = 80.0  # nonsense, but marked as such
    weights[:, :9] = 0
    metric = to_metric(model, [(images, targets, weights), (images, np.zeros_like(targets))])
    assert (metric.scale, metric.shift) == pytest.approx((0.03, 0.2), rel=1e-3)
    for rest in ((), (1,)):  # with an axis for channels, and without
        shaped = (x.reshape(4, *SIZE, *rest) for x in (targets, weights))
        metric = to_metric(model, [(images, *shaped)])
        assert (metric.scale, metric.shift) == pytest.approx((0.03, 0.2), rel=1e-3)


@pytest.mark.parametrize("farthest", [4.0, 9.0])
def test_what_is_farthest_can_be_predicted(model, outputs, farthest):
    """On average output 0 is 5 m away; the head, which ends there, has to reach the farthest."""
    depths = [1 / (0.03 * x + 0.2) for x in outputs]
    depths[0][0, 0] = farthest
    metric = to_metric(model, source(depths), "median")
    line = 1 / metric.shift  # where the head's zeros are
    assert line == pytest.approx(max(farthest, 5.0), rel=0.01)
    for depth, prediction in zip(depths[1:], metric.predict_images(PHOTOS)[1:], strict=True):
        np.testing.assert_allclose(prediction.metres, depth, rtol=0.01)


def test_nothing_ends_up_behind_infinity(model, outputs):
    """The fit may say that output 0 is at a negative inverse depth: then it is the farthest."""
    lowest = min(x.min() for x in outputs)
    assert 0.03 * lowest > 0.005
    depths = [1 / (0.03 * (x - lowest) + 0.005) for x in outputs]
    metric = to_metric(model, source(depths))
    assert metric.scale == pytest.approx(0.03, rel=1e-3)
    assert metric.shift == pytest.approx(0.005, rel=1e-3)  # not 0.005 - 0.03 * lowest, below zero
    for depth, prediction in zip(depths, metric.predict_images(PHOTOS), strict=True):
        np.testing.assert_allclose(prediction.metres, depth, rtol=2e-3)
    bias = [ops.convert_to_numpy(m.head.conv3.bias)[0] for m in (model, metric)]
    assert bias[1] < bias[0]  # the relative model keeps its own


def test_samples_that_cannot_be_aligned_are_left_to_the_others(model, outputs):
    depths = [1 / (0.03 * x + 0.2) for x in outputs]
    depths[1] = np.zeros(SIZE)
    assert to_metric(model, source(depths)).scale == pytest.approx(0.03, rel=1e-3)
    with pytest.raises(
        TrainingError, match="Nothing to align the model to: .*2048, of which 0 can"
    ):
        to_metric(model, source([np.zeros(SIZE)] * 4))


def test_what_makes_no_sense_is_refused(model, outputs):
    with pytest.raises(TrainingError, match="average scale is -0.03: what this model calls near"):
        to_metric(model, source([1 / (30 - 0.03 * x) for x in outputs]))
    with pytest.raises(TrainingError, match="made holds relative_inverse_depth"):
        to_metric(model, source(outputs, "relative_inverse_depth"))
    metric = to_metric(model, source([1 / (0.03 * x + 0.2) for x in outputs]))
    with pytest.raises(TrainingError, match="this one is metric_depth"):
        to_metric(metric, source(outputs))


@pytest.mark.filterwarnings("ignore::keras_dpt.errors.DataWarning")  # the source suspects it, too
def test_millimetres_are_refused_before_any_work(model, outputs):
    depths = [np.rint(1000 / (0.02 * x + 0.2)) for x in outputs]
    with pytest.raises(TrainingError, match="Depth of the data: did you mean metres"):
        to_metric(model, source(depths))
    with pytest.raises(TrainingError, match="did you mean metres"):
        fit_metric(model, Batches(source(depths), SIZE, 4, "depth", augment=False), epochs=1)


@pytest.mark.parametrize(("alignment", "used"), [(None, "batches"), ("others", "others")])
def test_what_fit_metric_aligns_with_and_trains(alignment, used, monkeypatch):
    calls = []

    class Metric:
        def compile(self, **options):
            calls.append(options)

        def fit(self, batches, **options):
            calls.append((batches, options))

    def to_metric(*arguments):
        calls.append(arguments)
        return metric

    metric = Metric()
    monkeypatch.setattr("keras_dpt.training.metric_depth.to_metric", to_metric)
    options = {"learning_rate": 0.5, "epochs": 3}
    assert fit_metric("relative", "batches", alignment_data=alignment, **options) is metric
    aligned, compiled, fitted = calls
    assert aligned == ("relative", used) and fitted == ("batches", {"epochs": 3})
    loss = compiled.pop("loss")
    assert isinstance(loss, losses.ScaleInvariantLogLoss) and compiled == {"learning_rate": 0.5}
    config = loss.get_config()
    assert (config["variance_focus"], config["root"]) == (0.85, True)


def test_a_backend_that_does_not_train_is_named(model, monkeypatch):
    monkeypatch.setattr("keras_dpt.ops.training.keras.config.backend", lambda: "openvino")
    with pytest.raises(TrainingError, match="`fit_metric`"):
        fit_metric(model, [])


@pytest.mark.compiles_long
@pytest.mark.parametrize(("size", "sizes"), [(8, [4]), (3, [3, 1]), (2, [2, 2])])
def test_samples_are_predicted_in_batches(size, sizes, model, outputs, monkeypatch):
    seen = []
    predict = type(model).predict_images

    def predict_images(self, images, batch_size):
        seen.append((len(images), batch_size))
        return predict(self, images, batch_size)

    monkeypatch.setattr(type(model), "predict_images", predict_images)
    depths = [1 / (0.03 * x + 0.2) for x in outputs]
    options = {} if size == 8 else {"batch_size": size}
    assert to_metric(model, source(depths), **options).scale == pytest.approx(0.03, rel=1e-3)
    assert seen == [(n, size) for n in sizes]


@pytest.mark.compiles_long
@pytest.mark.parametrize(
    ("shift", "expected"), [(0.0, 0.25), (-1.0, 0.25), (0.2, 0.2), (0.25, 0.25), (0.5, 0.25)]
)
def test_where_an_output_of_zero_is(shift, expected, model, outputs, monkeypatch):
    """Never at infinity, nor nearer than the farthest ground truth, here 4 m."""
    monkeypatch.setattr(
        "keras_dpt.training.metric_depth.align_scale_shift", lambda *_: (0.5, shift)
    )
    metric = to_metric(model, source([np.full(SIZE, 4.0), np.full(SIZE, 2.0)]))
    assert (metric.scale, metric.shift) == pytest.approx((0.5, expected))
    biases = [ops.convert_to_numpy(m.head.conv3.bias)[0] for m in (model, metric)]
    assert biases[1] - biases[0] == pytest.approx((shift - expected) / 0.5, abs=1e-6)


def test_a_scene_of_less_than_a_metre(model, monkeypatch):
    monkeypatch.setattr("keras_dpt.training.metric_depth.align_scale_shift", lambda *_: (0.5, 9.0))
    near = [np.full(SIZE, 0.5), np.full(SIZE, 0.25)]
    assert to_metric(model, source(near)).shift == pytest.approx(2.0)  # not 1, of a metre


def test_levels_of_batches_are_rounded(model, outputs, monkeypatch):
    seen = []
    predict = type(model).predict_images

    def predict_images(self, images, batch_size):
        seen.extend(images)
        return predict(self, images, batch_size)

    monkeypatch.setattr(type(model), "predict_images", predict_images)
    images = np.stack(PHOTOS).astype("float32")
    images[0, 0, :5, 0] = -3.0, 0.4, 0.6, 254.6, 300.0
    depths = np.stack([1 / (0.03 * x + 0.2) for x in outputs])
    to_metric(model, [(images, depths)])
    np.testing.assert_array_equal(seen[0][0, :5, 0], [0, 0, 1, 255, 255])
    np.testing.assert_array_equal(seen[3], PHOTOS[3])
    assert seen[0].dtype == np.uint8
