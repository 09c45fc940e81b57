import keras
import numpy as np
import pytest
from contracts import arrays

from keras_dpt.metrics import MeanIoU, PixelAccuracy

# Rows are labels, columns predictions. Class 3 never appears, class 2 is only predicted.
LABELS = np.array([[[0, 0, 0, 0], [1, 1, 1, 255]], [[0, 1, 255, 255], [0, 0, 1, 1]]])
PREDICTED = np.array([[[0, 0, 0, 1], [1, 1, 2, 0]], [[0, 0, 2, 1], [0, 1, 1, 1]]])
CONFUSION = [[5, 2, 0, 0], [1, 4, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
IOU = [5 / 8, 4 / 8, 0, np.nan]


def logits(classes, num_classes=4):
    """Logits whose largest is that of the given class."""
    noise = np.random.default_rng(0).uniform(0, 1, (*classes.shape, num_classes))
    return (noise + 2 * np.eye(num_classes)[classes]).astype("float32")


def updated(metric, *args, **kwargs):
    metric.update_state(*args, **kwargs)
    return metric


def result(metric):
    return float(arrays(metric.result()))


def test_confusion_by_hand():
    metric = updated(MeanIoU(4), LABELS, logits(PREDICTED))
    np.testing.assert_array_equal(arrays(metric.total_cm), CONFUSION)
    np.testing.assert_allclose(metric.per_class(), IOU)
    # The class that appears nowhere is left out, the one that is only predicted counts as 0.
    assert result(metric) == pytest.approx((5 / 8 + 4 / 8 + 0) / 3, abs=1e-6)


def test_accuracy_by_hand():
    assert result(updated(PixelAccuracy(), LABELS, logits(PREDICTED))) == pytest.approx(9 / 13)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_types_and_channels(dtype):
    labels = LABELS.astype(dtype)[..., None]
    metric = updated(MeanIoU(4), labels, logits(PREDICTED))
    np.testing.assert_array_equal(arrays(metric.total_cm), CONFUSION)
    assert result(updated(PixelAccuracy(), labels, logits(PREDICTED))) == pytest.approx(9 / 13)


def test_batches_add_up_and_reset():
    metrics = [MeanIoU(4), PixelAccuracy()]
    whole = [result(updated(metric, LABELS, logits(PREDICTED))) for metric in metrics]
    for metric, expected in zip(metrics, whole, strict=True):
        metric.reset_state()
        assert result(metric) == 0
        for i in range(2):
            updated(metric, LABELS[i : i + 1], logits(PREDICTED)[i : i + 1])
        assert result(metric) == pytest.approx(expected)


def test_nothing_known_counts_nothing():
    unknown = np.full_like(LABELS, 255)
    for metric in (MeanIoU(4), PixelAccuracy()):
        assert result(updated(metric, unknown, logits(PREDICTED))) == 0
        updated(metric, LABELS, logits(PREDICTED))
        expected = result(metric)
        assert expected == result(updated(metric, unknown, logits(PREDICTED)))


def test_labels_that_are_no_class_are_left_out():
    labels = np.where(LABELS == 255, 200, LABELS)
    labels[labels == 200] = [-1, 4, 200]
    metric = updated(MeanIoU(4), labels, logits(PREDICTED))
    np.testing.assert_array_equal(arrays(metric.total_cm), CONFUSION)
    assert result(updated(PixelAccuracy(), labels, logits(PREDICTED))) == pytest.approx(9 / 13)


def test_another_ignore_index():
    metric = updated(MeanIoU(4, ignore_index=1), LABELS, logits(PREDICTED))
    np.testing.assert_array_equal(arrays(metric.total_cm)[0], CONFUSION[0])
    assert not arrays(metric.total_cm)[1:].any()
    accuracy = updated(PixelAccuracy(ignore_index=1), LABELS, logits(PREDICTED))
    assert result(accuracy) == pytest.approx(5 / 7)


def test_sample_weights():
    weights = np.where(PREDICTED == 2, 0, 0.5).astype("float32")
    metric = updated(MeanIoU(4), LABELS, logits(PREDICTED), sample_weight=weights)
    expected = np.array(CONFUSION) * 0.5
    expected[:, 2] = 0
    np.testing.assert_array_equal(arrays(metric.total_cm), expected)
    accuracy = updated(PixelAccuracy(), LABELS, logits(PREDICTED), sample_weight=weights)
    assert result(accuracy) == pytest.approx(9 / 12)
    # One for each picture.
    accuracy = updated(PixelAccuracy(), LABELS, logits(PREDICTED), sample_weight=np.array([1, 0]))
    assert result(accuracy) == pytest.approx(5 / 7)


def test_small_logits_are_resized_to_the_labels():
    small = logits(np.array([[[0, 1], [2, 3]]]))
    labels = np.zeros((1, 5, 7), "uint8")
    metric = updated(MeanIoU(4), labels, small)
    predicted = arrays(metric.total_cm)[0]
    assert predicted.sum() == 35 and (predicted > 0).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_scikit_learn(seed):
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 2, 4, 255], (3, 20, 30), p=[0.4, 0.3, 0.1, 0.1, 0.1])
    scores = rng.normal(size=(3, 20, 30, 6)).astype("float32")
    scores[..., 5] = -9  # neither labelled nor predicted
    known = labels != 255
    truth, predicted = labels[known], scores.argmax(-1)[known]
    metric = updated(MeanIoU(6), labels, scores)
    confusion = sklearn.confusion_matrix(truth, predicted, labels=range(6))
    np.testing.assert_array_equal(arrays(metric.total_cm), confusion)
    expected = sklearn.jaccard_score(truth, predicted, average="macro")
    assert result(metric) == pytest.approx(expected, abs=1e-6)
    accuracy = updated(PixelAccuracy(), labels, scores)
    assert result(accuracy) == pytest.approx(sklearn.accuracy_score(truth, predicted), abs=1e-6)


def test_in_fit_with_sizes_that_change():
    inputs = keras.Input((None, None, 4))
    model = keras.Model(inputs, keras.layers.Activation("linear")(inputs))
    model.compile(loss="mse", metrics=[])
    metrics = [MeanIoU(4), PixelAccuracy()]
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(ignore_class=255), metrics=metrics
    )
    for size in ((4, 6), (6, 4), (8, 6)):
        rng = np.random.default_rng(0)
        classes = rng.integers(0, 4, (2, *size))
        labels = np.where(rng.uniform(size=classes.shape) < 0.2, 255, classes)
        logs = model.test_on_batch(logits(classes), labels, return_dict=True)
        assert logs["mean_iou"] == pytest.approx(1, abs=1e-6)
        assert logs["pixel_accuracy"] == 1


@pytest.mark.parametrize("metric", [MeanIoU(5, 7, name="a"), PixelAccuracy(9, name="b")])
def test_config(metric):
    config = keras.saving.serialize_keras_object(metric)
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == metric.get_config()
    assert (again.name, again.ignore_index) == (metric.name, metric.ignore_index)
