"""Data of every kind in `fit`, `evaluate` and `predict`, and what is wrong with them, said."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from keras import ops

from keras_dpt import datasets
from keras_dpt.errors import DataError, DataWarning, ImageError, LabelError, TrainingError
from keras_dpt.losses import SegmentationLoss
from keras_dpt.metrics import AbsRel
from keras_dpt.models.image_converter import DPTImageConverter
from keras_dpt.models.preprocessor import DPTSegmentationPreprocessor
from keras_dpt.models.segmentation import DPTSegmentation

SIDE = 32
LONG_ARRAYS, LONG_PY_DATASET = (
    pytest.param(kind, marks=pytest.mark.compiles_long) for kind in ("arrays", "PyDataset")
)
METRIC = {"kind": "metric_depth", "scale": 0.5, "shift": 0.25}


class Batches(keras.utils.PyDataset):
    def __init__(self, *batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def resting(model, loss="auto"):
    """The model, compiled so that training changes no weight, and quickly."""
    model.backbone.trainable = False
    model.compile(keras.optimizers.SGD(0.0), loss, metrics=None)
    return model


@pytest.fixture(scope="module")
def depth():
    model = tiny.depth(preprocessor=tiny.preprocessor((SIDE, SIDE)))
    return resting(model, "mae")


@pytest.fixture(scope="module")
def segmentation():
    backbone = tiny.backbone(use_batch_norm=True)
    preprocessor = DPTSegmentationPreprocessor(DPTImageConverter((SIDE, SIDE)))
    model = DPTSegmentation(backbone, 2, preprocessor, class_names=("wall", "crack"), dropout=0.0)
    return resting(tiny.randomize(model))


@pytest.fixture(scope="module")
def pairs():
    """Photos and inverse depth, four of each."""
    y = 1 / np.random.default_rng(0).uniform(2, 9, (4, SIDE, SIDE, 1)).astype("float32")
    return tiny.photos(4, SIDE, SIDE), y


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, 2, (4, SIDE, SIDE)).astype("uint8")


def loader_of(*arrays, length=True):
    """A PyTorch `DataLoader` of batches of 2."""
    data = pytest.importorskip("torch.utils.data")

    class Endless(data.IterableDataset):
        def __iter__(self):
            return zip(*arrays, strict=True)

    rows = list(zip(*arrays, strict=True)) if length else Endless()
    return data.DataLoader(rows, batch_size=2)


def batches_of(*arrays):
    for i in range(0, len(arrays[0]), 2):
        yield tuple(a[i : i + 2] for a in arrays)


# --- PyTorch's `DataLoader`s, generators


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # Keras's, of any generator
@pytest.mark.parametrize("kind", ["loader", "generator"])
def test_loaders_and_generators(kind, depth, pairs):
    def data(*arrays):
        return loader_of(*arrays) if kind == "loader" else batches_of(*arrays)

    expected = depth.evaluate(*pairs, batch_size=2, verbose=0)
    assert depth.evaluate(data(*pairs), verbose=0) == pytest.approx(expected, rel=1e-5)
    history = depth.fit(data(*pairs), validation_data=data(*pairs), verbose=0).history
    assert history["loss"] == history["val_loss"] == pytest.approx([expected], rel=1e-5)
    predicted = depth.predict(data(pairs[0]), verbose=0)
    np.testing.assert_allclose(predicted, depth.predict(pairs[0], verbose=0), rtol=1e-5, atol=1e-5)


def test_loaders_begin_again_every_epoch(depth, pairs):
    loader = loader_of(*pairs)
    history = depth.fit(loader, validation_data=loader, epochs=3, verbose=0).history
    expected = depth.evaluate(*pairs, batch_size=2, verbose=0)
    assert history["loss"] == history["val_loss"] == pytest.approx([expected] * 3, rel=1e-5)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_data_without_an_end_need_a_number_of_steps(depth, pairs):
    for options, argument in (({"x": True}, "steps_per_epoch"), ({"v": True}, "validation_steps")):
        data = {"validation_data": batches_of(*pairs)} if "v" in options else {}
        x = batches_of(*pairs) if "x" in options else Batches(pairs)
        with pytest.raises(TrainingError, match=f"gives its batches once.*`{argument}`"):
            depth.fit(x, epochs=2, verbose=0, **data)
    with pytest.raises(TrainingError, match="no length: give `steps_per_epoch`"):
        depth.fit(loader_of(*pairs, length=False), verbose=0)
    history = depth.fit(
        loader_of(*pairs, length=False), steps_per_epoch=1, epochs=2, verbose=0
    ).history
    assert len(history["loss"]) == 2
    with pytest.raises(TrainingError, match="A `DataLoader` gives its own targets"):
        depth.fit(loader_of(*pairs), pairs[1])
    with pytest.raises(TrainingError, match="`validation_split` is for arrays, not for DataLoader"):
        depth.fit(loader_of(*pairs), validation_split=0.5)


def test_channels_first_and_unit_floats_of_pytorch_are_named(depth, pairs):
    x = np.moveaxis(pairs[0], -1, 1)
    with pytest.raises(ImageError, match="Move the channels last"):
        depth.fit(loader_of(x, pairs[1]), verbose=0)
    with pytest.raises(ImageError, match="from 0 to 255.*Multiply"):
        depth.fit(loader_of(pairs[0].astype("float32") / 255, pairs[1]), verbose=0)


# --- Dictionaries, tensors of unknown rank


def test_dictionaries(depth, pairs):
    x, y = pairs
    expected = depth.evaluate(x, y, verbose=0)
    assert depth.evaluate({"images": x}, {"depths": y}, verbose=0) == pytest.approx(expected)
    batch = ({"images": x}, y)
    for data in (Batches(batch), tf.data.Dataset.from_tensors(batch)):
        assert depth.evaluate(data, verbose=0) == pytest.approx(expected, rel=1e-5)
        assert depth.fit(data, verbose=0).history["loss"] == pytest.approx([expected], rel=1e-5)
    np.testing.assert_allclose(
        depth.predict(Batches({"images": x}), verbose=0), depth.predict(x, verbose=0), atol=1e-5
    )
    with pytest.raises(TrainingError, match="'images', 'depths'. A batch with targets is a tuple"):
        depth.fit(Batches({"images": x, "depths": y}), verbose=0)


@pytest.mark.parametrize(
    "task", ["depth", pytest.param("segmentation", marks=pytest.mark.compiles_long)]
)
def test_tf_data_of_unknown_rank(task, request, pairs, labels):
    """As `tf.io.decode_image` and `tf.numpy_function` leave it."""
    model = request.getfixturevalue(task)
    x, y = pairs[0], pairs[1] if task == "depth" else labels

    def unknown(*arrays):
        return tuple(tf.numpy_function(lambda a: a, [a], a.dtype) for a in arrays)

    expected = model.evaluate(x, y, batch_size=2, verbose=0)
    data = tf.data.Dataset.from_tensor_slices((x, y)).map(unknown).batch(2)
    assert data.element_spec[0].shape.rank is None
    np.testing.assert_allclose(model.evaluate(data, verbose=0), expected, rtol=1e-4)
    assert np.isfinite(model.fit(data, verbose=0).history["loss"][0])
    images = tf.data.Dataset.from_tensor_slices(x).map(lambda a: unknown(a)[0]).batch(2)
    np.testing.assert_allclose(
        model.predict(images, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-4
    )
    weighted = tf.data.Dataset.from_tensor_slices((x, y, y[..., 0])).map(unknown).batch(2)
    with pytest.raises(Exception, match="(?s)Sample weights of unknown rank"):
        model.evaluate(weighted, verbose=0)


# --- Weights


@pytest.mark.compiles_long
@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 1, 1), (4, 1, 1, 1)])
def test_weights_of_images_in_any_shape(shape, pairs):
    model = tiny.depth(preprocessor=tiny.preprocessor((SIDE, SIDE)))
    model.compile("sgd", metrics=None, weighted_metrics=[AbsRel(aligned=True)])
    weights = np.array([0.0, 1, 2, 0.5], "float32")
    expected = model.evaluate(*pairs, sample_weight=weights, verbose=0)
    found = model.evaluate(*pairs, sample_weight=weights.reshape(shape), verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    plain = model.evaluate(*pairs, verbose=0)
    assert np.ravel(plain)[0] != pytest.approx(np.ravel(expected)[0], rel=1e-3)


@pytest.mark.compiles_long
def test_class_weights(segmentation, labels):
    x = tiny.photos(4, SIDE, SIDE)
    logits = segmentation.predict(x, verbose=0)
    losses = ops.convert_to_numpy(
        ops.sparse_categorical_crossentropy(labels.astype("int32"), logits, from_logits=True)
    )
    expected = float(np.mean(losses * np.where(labels == 1, 5, 1)))
    assert float(SegmentationLoss(class_weights=[1, 5])(labels, logits)) == pytest.approx(
        expected, rel=1e-5
    )
    # Pixels of a class of weight 0 are not valid.
    only_one = float(SegmentationLoss(class_weights=[0, 1])(labels, logits))
    assert only_one == pytest.approx(float(losses[labels == 1].mean()), rel=1e-5)
    loss = SegmentationLoss(class_weights=(1, 5))
    assert SegmentationLoss.from_config(loss.get_config()).class_weights == [1, 5]
    with pytest.raises(LabelError, match="each of the 2 classes.*1.0, 2.0, 3.0"):
        SegmentationLoss(class_weights=[1, 2, 3])(labels, logits)
    with pytest.raises(LabelError, match="from 0 on.*-1"):
        SegmentationLoss(class_weights=[1, -1])


@pytest.mark.compiles_long
@pytest.mark.parametrize("kind", ["arrays", "tf.data", "PyDataset", "loader"])
def test_class_weight_in_fit(kind, segmentation, labels):
    """It does what `class_weights` of the loss does, in training, and in that one only."""
    x = tiny.photos(4, SIDE, SIDE)
    data = {
        "arrays": lambda: (x, labels),
        "tf.data": lambda: (tf.data.Dataset.from_tensors((x, labels)),),
        "PyDataset": lambda: (Batches((x, labels)),),
        "loader": lambda: (loader_of(x, labels),),
    }[kind]
    plain = segmentation.fit(*data(), verbose=0).history["loss"][0]
    weighted = segmentation.fit(*data(), class_weight={1: 5.0}, verbose=0).history["loss"][0]
    again = segmentation.fit(*data(), verbose=0).history["loss"][0]
    assert again == pytest.approx(plain, rel=1e-5)
    try:
        resting(segmentation, SegmentationLoss(class_weights=[1, 5]))
        expected = segmentation.fit(*data(), verbose=0).history["loss"][0]
    finally:
        resting(segmentation)
    assert weighted == pytest.approx(expected, rel=1e-4)
    assert weighted > 1.1 * plain


def test_class_weight_that_means_nothing(depth, segmentation, pairs, labels):
    with pytest.raises(TrainingError, match="Depth has no classes"):
        depth.fit(*pairs, class_weight={0: 1.0})
    for wrong in ({2: 1.0}, {0: -1.0}, {"crack": 2.0}, [1.0, 5.0]):
        with pytest.raises(LabelError, match="ids from 0 to 1 .*Received"):
            segmentation.fit(pairs[0], labels, class_weight=wrong)


# --- Labels


@pytest.mark.parametrize("kind", [LONG_ARRAYS, "tf.data", LONG_PY_DATASET])
def test_one_hot_labels(kind, segmentation, labels):
    x = tiny.photos(4, SIDE, SIDE)
    labels[:, :5] = 255
    one_hot = np.eye(256, dtype="float32")[labels][..., :2]

    def wrap(y):
        if kind == "tf.data":
            return (tf.data.Dataset.from_tensors((x, y)),)
        return (x, y) if kind == "arrays" else (Batches((x, y)),)

    expected = segmentation.evaluate(*wrap(labels), verbose=0)
    np.testing.assert_allclose(
        segmentation.evaluate(*wrap(one_hot), verbose=0), expected, rtol=1e-5
    )


def test_one_hot_labels_that_are_none(segmentation):
    x = tiny.photos(2, SIDE, SIDE)
    y = np.zeros((2, SIDE, SIDE, 2), "float32")
    with pytest.raises(LabelError, match="one channel for each of the 2 classes.*32, 32, 3"):
        segmentation.evaluate(x, np.zeros((2, SIDE, SIDE, 3)), verbose=0)
    with pytest.raises(LabelError, match="Move the channels last"):
        segmentation.evaluate(x, np.moveaxis(y, -1, 1), verbose=0)
    with pytest.raises(LabelError, match="a single 1 among zeros.*CategoricalCrossentropy"):
        segmentation.evaluate(x, y + 0.5, verbose=0)
    with pytest.raises(LabelError, match="one class id per pixel.*Received: .2, 32"):
        segmentation.evaluate(x, np.zeros((2, SIDE)), verbose=0)


@pytest.mark.compiles_long
@pytest.mark.parametrize("kind", ["arrays", "tf.data", "PyDataset"])
def test_masks_of_0_and_255_are_warned_of(kind, segmentation, labels):
    x = tiny.photos(4, SIDE, SIDE)

    def fit(y):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if kind == "arrays":
                segmentation.fit(x, y, verbose=0)
            elif kind == "tf.data":
                segmentation.fit(tf.data.Dataset.from_tensors((x, y)), verbose=0)
            else:
                segmentation.fit(Batches((x, y)), verbose=0)
        return [str(w.message) for w in caught if w.category is DataWarning]

    (message,) = fit(labels * np.uint8(255))
    assert "hold only 0 and 255, and 255 means unknown" in message
    assert "'wall' everywhere" in message and "mask == 255" in message
    (message,) = fit(np.zeros_like(labels))
    assert "no pixel is labelled 1 (crack)" in message
    assert fit(labels) == []


# --- Depth


@pytest.mark.compiles_long
@pytest.mark.parametrize("kind", ["arrays", "tf.data", "PyDataset"])
@pytest.mark.parametrize("is_metric", [False, True])
def test_targets_of_the_other_kind_are_warned_of(is_metric, kind, depth, pairs):
    model = depth
    if is_metric:
        model = tiny.depth(**METRIC, preprocessor=tiny.preprocessor((SIDE, SIDE)))
        resting(model, "mae")
    x, inverse = pairs

    def fit(y):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if kind == "arrays":
                model.fit(x, y, verbose=0)
            elif kind == "tf.data":
                model.fit(tf.data.Dataset.from_tensors((x, y)), verbose=0)
            else:
                model.fit(Batches((x, y)), verbose=0)
        return [str(w.message) for w in caught if w.category is DataWarning]

    right, wrong = (1 / inverse, inverse) if is_metric else (inverse, 1 / inverse)
    (message,) = fit(wrong)
    assert ("look like inverse depth" if is_metric else "look like metres") in message
    assert fit(right) == []
    # Nearer at the bottom, as in nearly all photos: disparities in pixels, metres close up.
    rows = np.linspace(2, 60, SIDE, dtype="float32")[:, None, None]
    ramp = np.broadcast_to(0.4 - rows / 200 if is_metric else rows, wrong.shape)
    assert fit(ramp) == []
    if is_metric:
        (message,) = fit(right * 1000)
        assert "Divide millimetres by 1000" in message


def test_sizes_that_differ_are_named_before_training(depth):
    x, y = tiny.photos(2, SIDE, SIDE), np.full((2, 64, 64, 1), 0.5, "float32")
    message = "Targets are 64 x 64 .* images are 32 x 32 after.*image_size = .64, 64."
    for data in ((x, y), (Batches((x, y)),)):
        for method in (depth.fit, depth.evaluate):
            with pytest.raises(TrainingError, match=message):
                method(*data, verbose=0)
    with pytest.raises(Exception, match=f"(?s){message}"):
        depth.fit(tf.data.Dataset.from_tensors((x, y)), verbose=0)
    with pytest.raises(TrainingError, match=r"\(batch, height, width, 1\). Received: \(2, 1, 32"):
        depth.fit(x, np.ones((2, 1, SIDE, SIDE), "float32"), verbose=0)


# --- Numbers


@pytest.mark.parametrize("share", [1.0, -0.5, 2, 0.99])
def test_validation_split_that_leaves_nothing(share, depth, pairs):
    with pytest.raises(TrainingError, match=f"validation_split.*{share}"):
        depth.fit(*pairs, validation_split=share)


@pytest.mark.parametrize("ready", [False, pytest.param(True, marks=pytest.mark.compiles_long)])
@pytest.mark.parametrize("kind", ["arrays", "tf.data", "PyDataset"])
def test_images_that_are_not_finite_are_named(kind, ready, pairs):
    model = tiny.depth(preprocessor=None if ready else tiny.preprocessor((SIDE, SIDE)))
    x, y = pairs[0].astype("float32"), pairs[1]
    x = x / 127.5 - 1 if ready else x
    x[1, 2, 3] = np.nan
    wrap = {
        "arrays": lambda *a: a,
        "tf.data": lambda *a: (tf.data.Dataset.from_tensors(a if len(a) > 1 else a[0]),),
        "PyDataset": lambda *a: (Batches(a),),
    }[kind]
    expected = (ImageError, tf.errors.OpError) if kind == "tf.data" else ImageError
    for call, data in ((model.fit, (x, y)), (model.evaluate, (x, y)), (model.predict, (x,))):
        with pytest.raises(expected, match="3 of 12288 values are NaN or infinite"):
            call(*wrap(*data), verbose=0)


def test_four_channels_are_named(depth, pairs):
    x = np.concatenate([pairs[0], pairs[0][..., :1]], axis=-1)
    for data in (x, Batches((x,)), tf.data.Dataset.from_tensors(x)):
        with pytest.raises(ImageError, match="Leave alpha out"):
            depth.predict(data, verbose=0)


@pytest.mark.parametrize("method", ["predict_image", "predict", "evaluate", "fit"])
def test_one_message_about_the_range_of_pixels(method, depth, pairs):
    """Floats are 0 to 255 everywhere, and floats of 0 to 1 are refused with the same words."""
    x, y = pairs
    data = {"predict_image": (x[0],), "predict": (x,)}.get(method, (x, y))
    options = {} if method == "predict_image" else {"verbose": 0}
    call = getattr(depth, method)
    call(data[0].astype("float32"), *data[1:], **options)
    with pytest.raises(ImageError, match="must go from 0 to 255, as in files. .*by 255") as caught:
        call(data[0].astype("float32") / 255, *data[1:], **options)
    assert "Exception encountered" not in str(caught.value)  # what Keras puts around messages


@pytest.mark.parametrize("kind", ["arrays", LONG_PY_DATASET])
def test_masked_targets_and_weights_are_unknown(kind, depth, segmentation, pairs, labels):
    """What is beneath a mask changes no loss, in training and in tests."""
    (x, y), hidden = pairs, np.zeros(pairs[1].shape, bool)
    hidden[:, : SIDE // 2] = True
    weights = (~hidden[..., 0]).astype("float32")
    as_data = {"arrays": lambda *batch: batch, "PyDataset": lambda *batch: (Batches(batch),)}[kind]
    loss = {"arrays": lambda x, y, w: depth.evaluate(x, y, sample_weight=w, verbose=0)}.get(
        kind, lambda *batch: depth.evaluate(Batches(batch), verbose=0)
    )
    expected = loss(x, np.where(hidden, 0, y), weights)
    assert expected > 0
    for value in (1.0, 50.0):
        targets = np.ma.array(np.where(hidden, value, y), mask=hidden)
        assert depth.evaluate(*as_data(x, targets), verbose=0) == pytest.approx(expected, rel=1e-5)
    others = np.ma.array(np.full(weights.shape, 7.0), mask=weights == 0) / 7
    assert loss(x, np.where(hidden, 99, y), others) == pytest.approx(expected, rel=1e-5)
    each = np.array([1.0, 2.0, 1.0, 0.0], "float32")
    expected = loss(x, np.where(hidden, 0, y), weights * each[:, None, None])
    assert loss(x, targets, each) == pytest.approx(expected, rel=1e-5)
    hidden = np.zeros(labels.shape, bool)
    hidden[0] = True
    unknown = np.where(hidden, segmentation.ignore_index, labels)
    expected = segmentation.evaluate(*as_data(x, unknown), verbose=0)
    targets = np.ma.array(labels, mask=hidden)
    assert segmentation.evaluate(*as_data(x, targets), verbose=0) == pytest.approx(expected)
    with pytest.raises(ImageError, match="values are masked. Fill them first"):
        depth.fit(*as_data(np.ma.masked_equal(x, x[0, 0, 0, 0]), y), verbose=0)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("arrays", np.nan), ("arrays", np.inf), ("PyDataset", np.nan), ("tf.data", np.nan)]
    + [("DataLoader", -np.inf), pytest.param("masked", np.nan, marks=pytest.mark.compiles_long)],
)
def test_targets_that_would_make_the_loss_nan_are_named(
    kind, value, depth, segmentation, pairs, labels
):
    """Keras's losses do not pass over NaN and infinity, as this package's do."""
    as_data = {
        "PyDataset": lambda *batch: (Batches(batch),),
        "tf.data": lambda *batch: (tf.data.Dataset.from_tensors(batch),),
        "DataLoader": lambda *batch: (loader_of(*batch),),
    }.get(kind, lambda *batch: batch)
    x, y = pairs[0], pairs[1].copy()
    y[2, 3] = value
    ids = labels.astype("float32")
    ids[2, 3] = value
    if kind == "masked":
        y = np.ma.masked_invalid(y)
        assert np.isfinite(depth.evaluate(x, y, verbose=0))
        return
    counted = r"32 of \d+ values\), which the loss 'mae' .* a `sample_weight` of 0"
    for method in (depth.fit, depth.evaluate):
        with pytest.raises(Exception, match=counted) as caught:
            method(*as_data(x, y), verbose=0)
        assert kind == "tf.data" or type(caught.value) is TrainingError
        with pytest.raises(Exception, match=f"Labels must be classes .* Received: {value}"):
            getattr(segmentation, method.__name__)(*as_data(x, ids), verbose=0)


@pytest.mark.compiles_long
def test_a_loss_of_ones_own_may_pass_over_nan(pairs):
    def known(y, prediction):
        is_known = ops.isfinite(y)
        return ops.mean(ops.where(is_known, ops.abs(ops.where(is_known, y, 0.0) - prediction), 0.0))

    x, y = pairs[0], pairs[1].copy()
    y[2, 3] = np.nan
    model = tiny.depth(preprocessor=tiny.preprocessor((SIDE, SIDE)))
    for loss in (known, "auto"):
        model.compile(loss=loss, metrics=None)
        assert np.isfinite(model.evaluate(x, y, verbose=0))


def test_batches_of_a_size_that_the_network_does_not_take(depth):
    photo = tiny.photos(1)[0]
    source = datasets.Source("made", ["a"], lambda i: (photo, photo[..., 0]), "metric_depth")
    batches = datasets.Batches(source, (60, 100), 1)
    with pytest.raises(DataError, match=r"multiples of 16 .* such as \(64, 96\). Received: \(60,"):
        depth.fit(batches, verbose=0)
