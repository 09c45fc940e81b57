import inspect
import json
import os
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
import tiny
from contracts import arrays, check_gradients, check_graph, predict
from keras import ops

from keras_dpt import datasets
from keras_dpt.errors import LabelError
from keras_dpt.losses import SegmentationLoss
from keras_dpt.maps.label_map import check_class_names, check_palette, default_palette
from keras_dpt.metrics import MeanIoU, PixelAccuracy
from keras_dpt.models.image_converter import DPTImageConverter
from keras_dpt.models.labelling import label_pixels
from keras_dpt.models.preprocessor import DPTSegmentationPreprocessor
from keras_dpt.models.segmentation import PAPER_SCALES, DPTSegmentation
from keras_dpt.presets import preset_names, read_preset

NAMES = ("sky", "road", "car")


def preprocessor(image_size=(64, 64), **overrides):
    return DPTSegmentationPreprocessor(DPTImageConverter(image_size, **overrides))


def network(image_encoder="ViTEncoder", **overrides):
    """A tiny model of three classes with random weights."""
    backbone = image_encoder
    if isinstance(backbone, str):
        backbone = tiny.backbone(backbone, use_batch_norm=True)
    options = {"preprocessor": preprocessor(), "class_names": NAMES}
    return tiny.randomize(DPTSegmentation(backbone, 3, **options | overrides))


class Batches(keras.utils.PyDataset):
    """Arrays in batches."""

    def __init__(self, *arrays, size=2):
        super().__init__()
        self.arrays, self.size = arrays, size

    def __len__(self):
        return len(self.arrays[0]) // self.size

    def __getitem__(self, i):
        return tuple(x[self.size * i : self.size * (i + 1)] for x in self.arrays)


@pytest.fixture(scope="module")
def shared():
    """A model that tests may train, but not recompile; `model` gives it back its weights."""
    return network()


@pytest.fixture(scope="module")
def weights(shared):
    return shared.get_weights()


@pytest.fixture
def model(shared, weights):
    shared.set_weights(weights)
    return shared


@pytest.fixture(scope="module")
def data():
    """Photos `(4, 48, 80, 3)`, and labels of that size, some unknown."""
    labels = np.random.default_rng(0).integers(0, 3, (4, 48, 80)).astype("uint8")
    labels[:, :8] = 255
    return tiny.photos(4, 48, 80), labels


def train_step(model, num_classes=3):
    """One step on ready images; returns what Keras reports of it."""
    rng = np.random.default_rng(0)
    x, y = tiny.images(2, 32, 32), rng.integers(0, num_classes, (2, 32, 32))
    # One step is not worth TensorFlow's tracing.
    model.run_eagerly = keras.backend.backend() == "tensorflow"
    return keras.Model.train_on_batch(model, x, y, return_dict=True)


def number(scalar):
    """A tensor without axes as a float."""
    return float(arrays(scalar))


def converted(model, photos):
    converter = model.preprocessor.image_converter
    return np.stack([converter.convert(x) for x in photos])


def test_contract():
    # The rest of it, the backbone's, is in test_depth.py; saving is below.
    model = network(auxiliary=False, preprocessor=None)
    batches, _ = check_graph(model, [(32, 64), (48, 80)])
    check_gradients(model, batches[0])


def test_variable_paths(model):
    paths = {w.path for w in model.weights} - {w.path for w in model.backbone.weights}
    norm = [f"norm/{x}" for x in ("gamma", "beta", "moving_mean", "moving_variance")]
    leaves = [*norm, "conv1/kernel", "conv2/kernel", "conv2/bias"]
    heads = ("segmentation_head", "auxiliary_head")
    assert paths == {f"{head}/{leaf}" for head in heads for leaf in leaves}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_classes": None}, "`num_classes` must be the number"),
        ({"num_classes": 0}, "Received: 0"),
        ({"num_classes": 3, "class_names": ("a", "b")}, "2 class_names for 3 classes"),
        ({"num_classes": 2, "class_names": ("a", "a")}, "'a' is there twice"),
        ({"num_classes": 3, "palette": [(0, 0, 0)] * 2}, "palette must be 3 colours"),
        ({"num_classes": 3, "ignore_index": 2}, "id of one of the 3 classes"),
        ({"num_classes": 300}, "ignore_index 255 is the id of one of the 300 classes"),
    ],
)
def test_options_that_do_not_go_together(shared, options, message):
    with pytest.raises(LabelError, match=message):
        DPTSegmentation(shared.backbone, **options)


# --- The auxiliary head


@pytest.mark.compiles_long
def test_two_maps_while_it_learns_one_after(model):
    x = ops.convert_to_tensor(tiny.images(2, 64, 96))
    outputs = model.both_logits(x)
    assert {name: tuple(y.shape) for name, y in outputs.items()} == {
        "logits": (2, 64, 96, 3),
        "auxiliary": (2, 16, 24, 3),
    }
    assert tuple(model(x).shape) == tuple(model(x, training=True).shape) == (2, 64, 96, 3)
    assert model.output.shape == (None, None, None, 3)


@pytest.mark.compiles_long
def test_it_looks_at_the_penultimate_fusion(model):
    x = ops.convert_to_tensor(tiny.images(2, 64, 64))
    model.auxiliary_head.drop.rate = 0.0
    try:
        outputs = model.both_logits(x)
        expected = model.auxiliary_head(model.backbone(x, training=True)["P2"], training=True)
        np.testing.assert_allclose(arrays(outputs["auxiliary"]), arrays(expected), atol=1e-4)
    finally:
        model.auxiliary_head.drop.rate = 0.1


def test_inference_is_free_of_it(model):
    assert "auxiliary_head" not in {operation.name for operation in model.operations}
    x = (tiny.images(2, 32, 64),)
    expected = predict(model, x)
    for variable in model.auxiliary_head.variables:
        variable.assign(np.zeros(variable.shape, variable.dtype))
    np.testing.assert_array_equal(predict(model, x), expected)


@pytest.mark.compiles_long
def test_without_it_nothing_of_it_is_there():
    model = network(auxiliary=False)
    assert not [w.path for w in model.weights if "auxiliary" in w.path]
    assert not hasattr(model, "auxiliary_head")
    assert tuple(model(tiny.images(1, 32, 32), training=True).shape) == (1, 32, 32, 3)


def weights_moved(model, step):
    """For each head, whether `step()` changes any of its kernels."""
    heads = {"main": model.head, "auxiliary": model.auxiliary_head}
    before = {name: head.get_weights() for name, head in heads.items()}
    step()
    return {
        name: any(
            np.any(a != b) and "moving_" not in w.path
            for w, a, b in zip(head.weights, before[name], head.get_weights(), strict=True)
        )
        for name, head in heads.items()
    }


def around(model, kind):
    """Another model around `model`."""
    inputs = keras.Input((32, 32, 3))
    if kind == "functional":
        return keras.Model(inputs, model(inputs))
    if kind == "sequential":
        return keras.Sequential([inputs, keras.layers.RandomFlip(), model])

    class Around(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = model

        def call(self, x, training=None):
            return self.inner(x, training=training)

    return Around()


@pytest.mark.compiles_long
@pytest.mark.parametrize("kind", ["functional", "sequential", "subclass"])
def test_inside_another_model_the_main_head_learns(kind):
    """The auxiliary logits are the model's own affair; others get the ones of full size."""
    model = network(dropout=0.0, preprocessor=None)
    outer = around(model, kind)
    x, y = tiny.images(2, 32, 32), np.random.default_rng(0).integers(0, 3, (2, 32, 32))
    assert tuple(outer(ops.convert_to_tensor(x), training=True).shape) == (2, 32, 32, 3)
    outer.compile(keras.optimizers.SGD(0.1), SegmentationLoss())
    moved = weights_moved(model, lambda: outer.fit(x, y, batch_size=2, verbose=0))
    assert moved == {"main": True, "auxiliary": False}


@pytest.mark.compiles_long
def test_in_its_own_training_both_heads_learn(model, data):
    moved = weights_moved(model, lambda: model.fit(*data, batch_size=4, verbose=0))
    assert moved == {"main": True, "auxiliary": True}


@pytest.mark.compiles_long
@pytest.mark.parametrize("weight", [0.2, 0.7])
def test_its_loss_is_added(weight):
    model = network(dropout=0.0, auxiliary_weight=weight)
    x, y = tiny.images(2, 32, 64), np.random.default_rng(0).integers(0, 3, (2, 32, 64))
    y[0, :9] = 255
    outputs = model.both_logits(ops.convert_to_tensor(x))
    loss = SegmentationLoss()
    # The small logits are resized to the labels by the loss itself.
    expected = loss(y, outputs["logits"]) + weight * loss(y, outputs["auxiliary"])
    computed = model.compute_loss(x, ops.convert_to_tensor(y), outputs)
    assert number(computed) == pytest.approx(number(expected), rel=1e-5)
    assert number(loss(y, outputs["auxiliary"])) > 0.1
    # Not at evaluation.
    logits = model(ops.convert_to_tensor(x))
    computed = model.compute_loss(x, ops.convert_to_tensor(y), logits, training=False)
    assert number(computed) == pytest.approx(number(loss(y, logits)), rel=1e-5)


@pytest.mark.compiles_long
def test_regularisation_counts_once():
    model = network(dropout=0.0)
    x, y = tiny.images(2, 32, 64), np.random.default_rng(0).integers(0, 3, (2, 32, 64))
    outputs = model.both_logits(ops.convert_to_tensor(x))
    before = number(model.compute_loss(x, ops.convert_to_tensor(y), outputs))
    model.head.conv2.kernel_regularizer = keras.regularizers.L2(0.5)
    model.head.conv2.kernel.regularizer = model.head.conv2.kernel_regularizer
    extra = number(sum(model.losses))
    assert extra > 0.01
    after = number(model.compute_loss(x, ops.convert_to_tensor(y), outputs))
    assert after - before == pytest.approx(extra, rel=1e-3)


# --- Training


def test_compiles_itself(model):
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert model.optimizer.momentum == 0.9
    assert float(model.optimizer.learning_rate) == pytest.approx(0.002)
    assert isinstance(model.loss, SegmentationLoss)
    model = network(ignore_index=-1)
    model.compile(steps=100)
    assert model.loss.ignore_index == -1
    schedule = model.optimizer._learning_rate
    for step, share in ((0, 1), (50, 0.5**0.9), (100, 0)):
        assert float(schedule(step)) == pytest.approx(0.002 * share, abs=1e-8)


@pytest.mark.compiles_long
def test_compile_takes_other_choices():
    model = network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    model.compile(keras.optimizers.Adam(0.5), loss, metrics=None)
    assert isinstance(model.optimizer, keras.optimizers.Adam) and model.loss is loss
    # Keras's loss needs logits of the labels' size, so the auxiliary ones are resized for it.
    logs = train_step(model)
    assert set(logs) == {"loss"} and np.isfinite(logs["loss"])


@pytest.mark.compiles_long
@pytest.mark.parametrize("kind", ["arrays", "tf.data", "PyDataset"])
def test_fit_and_evaluate_take(kind, model, data):
    def wrap(x, y):
        if kind == "tf.data":
            return tf.data.Dataset.from_tensor_slices((x, y)).batch(2)
        return Batches(x, y) if kind == "PyDataset" else (x, y)

    x, y = data  # labels of the photos' size; the network sees 32 x 64
    logits = predict(model, (converted(model, x),))
    assert logits.shape == (4, 32, 64, 3)
    expected = float(np.mean([number(model.loss(y[i : i + 2], logits[i : i + 2])) for i in (0, 2)]))
    iou, accuracy = MeanIoU(3), PixelAccuracy()
    for metric in (iou, accuracy):
        metric.update_state(y, logits)
    arguments = wrap(x, y) if kind == "arrays" else (wrap(x, y),)
    options = {"batch_size": 2} if kind == "arrays" else {}
    scores = model.evaluate(*arguments, **options, verbose=0, return_dict=True)
    assert scores["loss"] == pytest.approx(expected, rel=1e-4)
    assert scores["mean_iou"] == pytest.approx(number(iou.result()), abs=1e-4)
    assert scores["pixel_accuracy"] == pytest.approx(number(accuracy.result()), abs=1e-4)
    history = model.fit(*arguments, **options, verbose=0).history
    assert set(history) == {"loss", "mean_iou", "pixel_accuracy"}
    assert np.isfinite(history["loss"][0])


@pytest.mark.slow
def test_it_learns():
    """Classes by brightness: loss falls and mean IoU rises."""
    model = network(preprocessor=None, dropout=0.0)
    model.compile(keras.optimizers.Adam(3e-3))
    x = tiny.images(4, 32, 32)
    x = np.repeat(np.repeat(x[:, ::8, ::8], 8, 1), 8, 2)
    y = np.digitize(x.mean(-1), (-0.3, 0.3)).astype("uint8")
    y[:, :3] = 255
    history = model.fit(Batches(x, y), epochs=12, verbose=0).history
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert history["mean_iou"][-1] > history["mean_iou"][0] + 0.1


@pytest.mark.slow
@pytest.mark.skipif("DATA" not in os.environ, reason="make test-slow DATA=folder")
def test_it_learns_real_streets():
    """Thirty steps on eight frames of CamVid, from scratch."""
    source = datasets.camvid(Path(os.environ["DATA"]) / "camvid", "train")
    batches = datasets.Batches(
        source.subset(range(0, 320, 40)), (96, 128), 8, target="labels", augment=False
    )
    model = DPTSegmentation.from_architecture(read_preset("dpt_mini_camvid"), preprocessor=None)
    images, labels, weights = batches[0]
    batches = Batches(
        *(np.concatenate([x] * 2) for x in (images / 127.5 - 1, labels, weights)), size=8
    )
    model.compile(keras.optimizers.Adam(1e-3))
    history = model.fit(batches, epochs=15, verbose=0).history
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    assert history["mean_iou"][-1] > history["mean_iou"][0] + 0.1


@pytest.mark.compiles_long
def test_pixel_weights_in_fit(data):
    model = network()
    x, y = data
    state = model.get_weights()
    model.fit(Batches(x, y, np.zeros(y.shape, "float32")), verbose=0)
    trained = {
        w.path: np.any(a != b)
        for w, a, b in zip(model.weights, state, model.get_weights(), strict=True)
    }
    # Nothing counts, so nothing is learnt; only statistics move.
    assert {path for path, moved in trained.items() if moved} == {
        path for path in trained if "moving_" in path
    }


@pytest.mark.compiles_long
def test_statistics_move_in_fit_and_rest_in_inference(model, data):
    x, y = data
    moving = [w for w in model.weights if "moving_" in w.path]
    assert len(moving) == 2 * (2 + 7 * 2)
    before = [arrays(w.value).copy() for w in moving]
    model.evaluate(x, y, batch_size=2, verbose=0)
    model.predict(x, verbose=0)
    model.predict_image(x[0])
    for w, old in zip(moving, before, strict=True):
        np.testing.assert_array_equal(arrays(w.value), old)
    model.fit(Batches(x, y), verbose=0)
    for w, old in zip(moving, before, strict=True):
        assert np.any(arrays(w.value) != old), w.path


@pytest.mark.compiles_long
def test_a_frozen_encoder_stays():
    model = network()
    model.backbone.image_encoder.trainable = False
    model.compile(keras.optimizers.SGD(0.1))
    encoder = model.backbone.image_encoder.get_weights()
    others = [arrays(v.value).copy() for v in model.trainable_variables]
    assert len(others) == len(network().trainable_variables) - len(encoder)
    train_step(model)
    for before, after in zip(encoder, model.backbone.image_encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(after, before)
    for before, variable in zip(others, model.trainable_variables, strict=True):
        assert np.any(arrays(variable.value) != before), variable.path


@pytest.mark.compiles_long
@pytest.mark.parametrize(
    "policy", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)]
)
def test_mixed_precision_trains(policy):
    model = network(tiny.backbone(dtype=policy, use_batch_norm=True))
    assert np.isfinite(train_step(model)["loss"])
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    assert all(np.isfinite(w).all() for w in model.get_weights())
    assert model.auxiliary_head.conv1.dtype_policy.name == policy


@pytest.mark.parametrize("kind", ["arrays", "tf.data", "PyDataset"])
def test_labels_that_are_no_class_are_named(kind, model, data):
    x, y = data[0][:2], data[1][:2].copy()
    y[1, 20, 20] = 11
    wrapped = (x, y)
    if kind == "tf.data":
        wrapped = (tf.data.Dataset.from_tensor_slices((x, y)).batch(2),)
    elif kind == "PyDataset":
        wrapped = (Batches(x, y),)
    # TensorFlow wraps what is raised inside its pipelines.
    expected = LabelError if kind == "PyDataset" else (LabelError, tf.errors.OpError)
    with pytest.raises(expected, match="classes from 0 to 2, or 255 where unknown. Received: 11"):
        model.evaluate(*wrapped, verbose=0)


# --- Photos in, labels out


def test_prediction_at_network_size_is_the_output(model):
    photo = tiny.photos(1, 64, 64)[0]
    result = model.predict_image(photo)
    logits = predict(model, ((photo[None] / 127.5 - 1).astype("float32"),))[0]
    softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_array_equal(result.labels, logits.argmax(-1))
    np.testing.assert_allclose(result.confidence, softmax.max(-1), atol=1e-4)
    assert result.class_names == NAMES and result.palette == default_palette(3)
    assert result.labels.dtype == np.uint8 and result.kind == "labels"


def test_photos_of_any_size_in_order(model):
    sizes = [(64, 64), (48, 80), (40, 70), (64, 64), (80, 50)]
    photos = [tiny.photos(1, *size, seed=i)[0] for i, size in enumerate(sizes)]
    together = model.predict_images(photos, batch_size=2)
    assert [result.labels.shape for result in together] == sizes
    for photo, result in zip(photos, together, strict=True):
        alone = model.predict_image(photo)
        assert np.mean(result.labels != alone.labels) < 0.01
        np.testing.assert_allclose(result.confidence, alone.confidence, atol=1e-4)


def log_probabilities(model, x):
    logits = predict(model, (x[None],))[0].astype("float64")
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_flipping_averages_two_looks(model):
    photo = tiny.photos(1, 64, 64)[0]
    x = converted(model, [photo])[0]
    one, other = (np.exp(log_probabilities(model, y)) for y in (x, x[:, ::-1]))
    expected = (one + other[:, ::-1]) / 2
    result = model.predict_image(photo, flip=True)
    np.testing.assert_array_equal(result.labels, expected.argmax(-1))
    np.testing.assert_allclose(result.confidence, expected.max(-1), atol=1e-4)
    # Whatever the network thinks, the mirrored photo now gets the mirrored labels.
    mirrored = model.predict_image(photo[:, ::-1], flip=True)
    assert np.mean(mirrored.labels[:, ::-1] != result.labels) < 0.01


@pytest.mark.compiles_long
def test_scales_are_looked_at_and_averaged(model):
    photo = tiny.photos(1, 60, 90)[0]
    seen = []
    outputs = model.network_outputs

    def spy(inputs, batch_size):
        seen.extend(x.shape[:2] for x in inputs)
        yield from outputs(inputs, batch_size)

    model.network_outputs = spy
    try:
        result = model.predict_image(photo, scales=(0.5, 1, 1.5))
    finally:
        del model.network_outputs
    assert sorted(seen) == [(32, 64), (64, 96), (96, 128)]  # 64 x 96 by rule, in 32s
    converter = model.preprocessor.image_converter
    total = 0
    for scale in (0.5, 1, 1.5):
        look = np.exp(log_probabilities(model, converter.convert(photo, scale)))
        total = total + resize(look, (96, 128))
    labels, confidence = label_pixels(np.log(total / 3), (60, 90))
    assert np.mean(result.labels != labels) < 0.01
    np.testing.assert_allclose(result.confidence, confidence, atol=1e-4)


def resize(x, size):
    """Half-pixel bilinear, by Keras."""
    return arrays(
        ops.image.resize(x[None].astype("float32"), size, interpolation="bilinear", antialias=False)
    )[0]


def test_one_scale_of_one_is_the_plain_way(model):
    photo = tiny.photos(1, 60, 90)[0]
    plain = model.predict_image(photo)
    looked = model._look(photo, 1, (1.0,), False, None)
    assert np.mean(plain.labels != looked.labels) < 0.005
    np.testing.assert_allclose(plain.confidence, looked.confidence, atol=1e-4)


def test_sliding_windows_are_photos_of_their_own(model):
    photo = tiny.photos(1, 64, 96)[0]
    result = model.predict_image(photo, sliding_window=64)
    left, right = (model.predict_image(photo[:, x : x + 64]) for x in (0, 32))
    expected = np.concatenate([left.labels[:, :48], right.labels[:, 16:]], axis=1)
    assert np.mean(result.labels != expected) < 0.01
    expected = np.concatenate([left.confidence[:, :48], right.confidence[:, 16:]], axis=1)
    np.testing.assert_allclose(result.confidence, expected, atol=1e-4)


def test_all_of_it_together(model):
    photos = [tiny.photos(1, *size)[0] for size in ((70, 110), (40, 40))]
    results = model.predict_images(photos, scales=PAPER_SCALES[:2], flip=True, sliding_window=64)
    assert [result.labels.shape for result in results] == [(70, 110), (40, 40)]
    for result in results:
        assert result.confidence.min() > 1 / 3 - 1e-6 and result.confidence.max() <= 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"scales": ()}, "numbers above 0"),
        ({"scales": (1, 0)}, "numbers above 0"),
        ({"scales": ("x",)}, "numbers above 0"),
        ({"sliding_window": 31}, "at least 32"),
        ({"batch_size": 0, "flip": True}, "`batch_size` must be at least 1"),
    ],
)
def test_refused_options(model, options, message):
    with pytest.raises(ValueError, match=message):
        model.predict_images([tiny.photos(1)[0]], **options)
    with pytest.raises(TypeError, match="takes a list"):
        model.predict_images(tiny.photos(1)[0], flip=True)


# --- Saving and loading


@pytest.fixture(scope="module")
def preset(tmp_path_factory, weights, shared):
    """A preset directory of the shared model, and what the model makes of `x`."""
    shared.set_weights(weights)
    folder = tmp_path_factory.mktemp("preset")
    shared.save_to_preset(str(folder))
    x = tiny.images(2, 32, 64)
    return str(folder), x, predict(shared, (x,))


@pytest.mark.parametrize("cls", [DPTSegmentation, keras_hub.models.ImageSegmenter])
def test_preset_directory(preset, weights, cls):
    folder, x, expected = preset
    loaded = cls.from_preset(folder)
    assert type(loaded) is DPTSegmentation
    assert loaded.class_names == NAMES and loaded.palette == default_palette(3)
    np.testing.assert_array_equal(predict(loaded, (x,)), expected)
    for ours, theirs in zip(loaded.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.compiles_long
def test_other_classes_replace_the_last_layers_only(preset, weights, shared):
    loaded = DPTSegmentation.from_preset(preset[0], num_classes=5)
    assert loaded.num_classes == 5 and loaded.class_names[4] == "class 4"
    assert loaded.output.shape[-1] == 5
    last = {"segmentation_head/conv2", "auxiliary_head/conv2"}
    for variable, theirs in zip(loaded.weights, weights, strict=True):
        ours = arrays(variable.value)
        if variable.path.rpartition("/")[0] in last:
            assert ours.shape == (*theirs.shape[:-1], 5)
        else:
            np.testing.assert_array_equal(ours, theirs, variable.path)
    assert np.isfinite(train_step(loaded, 5)["loss"])


def test_other_classes_of_the_same_number_are_others_too(preset, weights):
    loaded = DPTSegmentation.from_preset(preset[0], num_classes=3, class_names=("a", "b", "c"))
    assert loaded.class_names == ("a", "b", "c")
    paths = [w.path for w in loaded.weights]
    theirs = weights[paths.index("segmentation_head/conv2/kernel")]
    assert np.any(arrays(loaded.head.conv2.kernel.value) != theirs)


def test_a_backbone_of_another_task(tmp_path):
    depth = tiny.depth(preprocessor=tiny.preprocessor())
    depth.save_to_preset(str(tmp_path))
    loaded = DPTSegmentation.from_preset(str(tmp_path), num_classes=4)
    for ours, theirs in zip(
        loaded.backbone.get_weights(), depth.backbone.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(LabelError, match="is a preset for depth.*num_classes=.*dpt_mini_camvid"):
        DPTSegmentation.from_preset(str(tmp_path))


@pytest.mark.compiles_long
@pytest.mark.parametrize(
    "dtype", [pytest.param("bfloat16", marks=pytest.mark.slow), "mixed_bfloat16"]
)
def test_preset_in_another_dtype(preset, dtype):
    folder, x, expected = preset
    for options in ({}, {"num_classes": 4}):
        loaded = DPTSegmentation.from_preset(folder, dtype=dtype, **options)
        for part in (loaded.backbone, loaded.head, loaded.auxiliary_head):
            for layer in part._flatten_layers():
                if layer.variables and layer.name != "conv2":
                    assert layer.dtype_policy.name == dtype, layer.path
    loaded = DPTSegmentation.from_preset(folder, dtype=dtype)
    output = predict(loaded, (x,))
    assert output.dtype == "float32"
    assert 0 < np.abs(output - expected).max() < 0.15 * np.abs(expected).max()


@pytest.mark.slow
def test_a_saved_training_goes_on(tmp_path):
    model = network(dropout=0.0)
    train_step(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is DPTSegmentation and loaded.get_config() == model.get_config()
    ours, theirs = train_step(model), train_step(loaded)  # momentum included
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.compiles_long
def test_a_preset_holds_no_training(tmp_path):
    model = network()
    train_step(model)
    model.save_to_preset(str(tmp_path))
    stored = sum(f.stat().st_size for f in tmp_path.glob("*.h5"))
    assert stored < 1.2 * sum(w.nbytes for w in model.get_weights()) + 400_000
    assert model.optimizer is not None
    DPTSegmentation.from_preset(str(tmp_path))  # without a warning


# --- The presets


@pytest.mark.parametrize("name", preset_names("segmentation"))
def test_presets_are_complete(name):
    preset = read_preset(name)
    assert json.loads(json.dumps(preset)) == preset
    task, output = preset["architecture"]["task_config"], preset["output"]
    arguments = set(inspect.signature(DPTSegmentation.__init__).parameters)
    assert set(task) <= arguments - {"class_names", "palette"}
    assert (output["kind"], output["unit"]) == ("labels", None)
    assert len(check_class_names(output["class_names"])) == task["num_classes"]
    check_palette(output["palette"], task["num_classes"])
    assert preset["architecture"]["backbone_config"]["use_batch_norm"] is True
