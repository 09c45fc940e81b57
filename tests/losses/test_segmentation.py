import keras
import numpy as np
import pytest
from contracts import arrays, differentiable
from keras import ops

from keras_dpt.errors import LabelError
from keras_dpt.losses import SegmentationLoss
from keras_dpt.ops.resize import resize_bilinear


def sample(seed=0, batch=2, height=4, width=6, classes=3):
    """Labels with some unknown, and logits."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, (batch, height, width)).astype("uint8")
    labels[:, 0] = 255
    return labels, rng.normal(size=(batch, height, width, classes)).astype("float32")


def by_hand(labels, logits, weights=None, ignore_index=255):
    """Mean over known pixels of -log softmax, in float64, one pixel at a time."""
    losses = []
    for position in np.ndindex(labels.shape):
        if labels[position] != ignore_index:
            x = logits[position].astype("float64")
            loss = np.log(np.exp(x).sum()) - x[labels[position]]
            losses.append(loss * (1 if weights is None else weights[position]))
    return np.mean(losses)


def value(labels, logits, weights=None, **options):
    return float(arrays(SegmentationLoss(**options)(labels, logits, weights)))


def test_by_hand():
    labels, logits = sample()
    assert value(labels, logits) == pytest.approx(by_hand(labels, logits), rel=1e-6)
    # Two classes, probabilities 3/4 and 1/4: log(4/3) and log(4), and one pixel that is unknown.
    labels = np.array([[[0, 1, 255]]])
    logits = np.log(np.array([[[[3.0, 1], [3, 1], [1, 9]]]], "float32"))
    assert value(labels, logits) == pytest.approx((np.log(4 / 3) + np.log(4)) / 2, rel=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float32"])
def test_labels_of_any_type_with_or_without_channel(dtype):
    labels, logits = sample()
    expected = by_hand(labels, logits)
    assert value(labels.astype(dtype), logits) == pytest.approx(expected, rel=1e-6)
    assert value(labels.astype(dtype)[..., None], logits) == pytest.approx(expected, rel=1e-6)


def test_another_ignore_index():
    labels, logits = sample()
    labels = np.where(labels == 255, -1, labels.astype("int32"))
    expected = by_hand(labels, logits, ignore_index=-1)
    assert value(labels, logits, ignore_index=-1) == pytest.approx(expected, rel=1e-6)


def test_the_mean_is_over_pixels_not_over_pictures():
    labels, logits = sample()
    labels[1] = 255
    labels[1, 2, 3] = 1
    assert value(labels, logits) == pytest.approx(by_hand(labels, logits), rel=1e-6)


def test_ignored_pixels_change_neither_loss_nor_gradient():
    labels, logits = sample()
    weights = np.random.default_rng(1).uniform(0.5, 2, labels.shape).astype("float32")
    weights[0, 1:3] = 0
    out = (labels == 255) | (weights == 0)
    other = np.where(out[..., None], 40 * np.ones_like(logits) * [1, -1, 2], logits)
    losses = []
    for x in (logits, other.astype("float32")):
        loss = differentiable(lambda y: SegmentationLoss()(labels, y, weights))
        number, gradient = loss(x)
        assert not np.any(gradient[out]) and np.all(np.any(gradient[~out], axis=-1))
        losses.append((number, gradient[~out]))
    assert losses[0][0] == losses[1][0]
    np.testing.assert_array_equal(losses[0][1], losses[1][1])


def test_gradient_is_that_of_the_formula():
    labels, logits = sample()
    _, gradient = differentiable(lambda y: SegmentationLoss()(labels, y))(logits)
    known = labels != 255
    softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = softmax - np.eye(3)[np.where(known, labels, 0)]
    expected = np.where(known[..., None], expected, 0) / known.sum()
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_nothing_known_is_zero():
    labels, logits = sample()
    for known, weights in (
        (np.full_like(labels, 255), None),
        (labels, np.zeros(labels.shape, "float32")),
        (labels, np.zeros(2, "float32")),
    ):
        loss = differentiable(lambda y, a=known, w=weights: SegmentationLoss()(a, y, w))
        number, gradient = loss(logits)
        assert number == 0
        assert np.isfinite(gradient).all() and not gradient.any()


def test_sample_weights():
    labels, logits = sample()
    weights = np.random.default_rng(1).uniform(0.5, 2, labels.shape).astype("float32")
    expected = by_hand(labels, logits, weights)
    assert value(labels, logits, weights) == pytest.approx(expected, rel=1e-6)
    assert value(labels, logits, weights[..., None]) == pytest.approx(expected, rel=1e-6)
    # One for each picture.
    each = np.array([0.5, 2], "float32")
    expected = by_hand(labels, logits, np.broadcast_to(each[:, None, None], labels.shape))
    assert value(labels, logits, each) == pytest.approx(expected, rel=1e-6)
    assert value(labels, logits, each[:, None]) == pytest.approx(expected, rel=1e-6)
    # A weight of zero is no pixel at all.
    kept = weights.copy()
    kept[:, 2] = 0
    unknown = np.where(kept > 0, labels, 255)
    assert value(labels, logits, kept) == pytest.approx(by_hand(unknown, logits, kept), rel=1e-6)


def test_a_label_that_is_no_class_is_not_overlooked():
    labels, logits = sample()
    for wrong in (3, 254):
        labels[1, 2, 3] = wrong
        assert np.isnan(value(labels, logits))
    signed = labels.astype("int32")
    signed[1, 2, 3] = -1  # NumPy would count it from the end
    assert np.isnan(value(signed, logits))


def test_small_logits_are_resized_to_the_labels():
    labels, _ = sample(height=8, width=12)
    _, logits = sample(height=4, width=6)
    large = arrays(resize_bilinear(ops.convert_to_tensor(logits), (8, 12), align_corners=True))
    assert value(labels, logits) == pytest.approx(by_hand(labels, large), rel=1e-5)


def test_in_fit_with_sizes_that_change():
    """On TensorFlow the second size is traced with unknown sides."""
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(3, 1, kernel_initializer="ones")(inputs))
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss=SegmentationLoss())
    for size in ((4, 6), (6, 4), (8, 6)):
        labels, images = sample(height=size[0], width=size[1])
        expected = by_hand(labels, np.repeat(images.sum(-1, keepdims=True), 3, -1))
        loss = model.train_on_batch(images, labels)
        assert float(np.ravel(loss)[0]) == pytest.approx(expected, rel=1e-5)


def test_config():
    loss = SegmentationLoss(ignore_index=7, name="x")
    config = keras.saving.serialize_keras_object(loss)
    again = keras.saving.deserialize_keras_object(config)
    assert (again.ignore_index, again.name) == (7, "x")
    assert SegmentationLoss().name == "segmentation"


def test_class_weights():
    labels, logits = sample()
    table = np.array([0.5, 2.0, 3.0])
    weights = table[np.where(labels == 255, 0, labels)]
    options = {"class_weights": table}
    expected = by_hand(labels, logits, weights)
    assert value(labels, logits, **options) == pytest.approx(expected, rel=1e-6)
    config = SegmentationLoss(**options).get_config()
    again = SegmentationLoss.from_config(config)
    assert float(arrays(again(labels, logits))) == pytest.approx(expected, rel=1e-6)
    # A class of weight 0 is not among the pixels that the mean is over.
    without = np.where(labels == 1, 255, labels)
    expected = by_hand(without, logits, weights)
    assert value(labels, logits, class_weights=table * [1, 0, 1]) == pytest.approx(expected)
    # Labels that are not classes are looked up as class 0, and still are not overlooked.
    labels[1, 2, 3] = 3
    assert np.isnan(value(labels, logits, class_weights=table * [0, 1, 1]))


@pytest.mark.parametrize("table", [[1, -0.5, 1], [1, float("inf"), 1], [1, float("nan"), 1]])
def test_class_weights_that_are_not_weights(table):
    with pytest.raises(LabelError, match="from 0 on"):
        SegmentationLoss(class_weights=table)


def test_class_weights_of_another_number_of_classes():
    with pytest.raises(LabelError, match="each of the 3 classes"):
        value(*sample(), class_weights=[1, 1])
