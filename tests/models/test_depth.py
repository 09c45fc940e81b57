import gc

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
import tiny
from contracts import check_model, predict
from keras import ops
from losses.reference import scale_shift_invariant

import keras_dpt
from keras_dpt.encoders import ENCODERS
from keras_dpt.errors import TrainingError
from keras_dpt.images.resizing import resize
from keras_dpt.layers.outputs import InverseAffine, ScaledSigmoid
from keras_dpt.losses import ScaleInvariantLogLoss, ScaleShiftInvariantLoss
from keras_dpt.metrics import AbsRel, Delta1
from keras_dpt.optimizers import optimizer_with_rates

SCALES = {"scale": 0.5, "shift": 0.25}
METRIC = {"kind": "metric_depth"} | SCALES


class Batches(keras.utils.PyDataset):
    """Pairs of arrays in batches of two."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x) // 2

    def __getitem__(self, i):
        return self.x[2 * i : 2 * i + 2], self.y[2 * i : 2 * i + 2]


@pytest.fixture(scope="module")
def shared():
    """A model that tests may train, but not recompile; `model` gives it back its weights."""
    network = tiny.depth(preprocessor=tiny.preprocessor())
    network.compile(learning_rate=1e-4, metrics=None)
    return network


@pytest.fixture(scope="module")
def weights(shared):
    return shared.get_weights()


@pytest.fixture
def model(shared, weights):
    shared.set_weights(weights)
    return shared


@pytest.fixture(scope="module")
def data():
    """Photos `(4, 48, 80, 3)`, and inverse depth of the size that they are converted to."""
    rng = np.random.default_rng(0)
    return tiny.photos(4, 48, 80), 1 / rng.uniform(1, 9, (4, 32, 64, 1)).astype("float32")


@pytest.mark.parametrize(
    "name, options",
    [
        pytest.param("ViTEncoder", {}, id="vit"),
        pytest.param("ViTHybridEncoder", METRIC, id="hybrid", marks=pytest.mark.compiles_long),
    ],
)
def test_contract(name, options, tmp_path):
    network = tiny.depth(name, **options)
    check_model(
        network, [(32, 64), (48, 80)], tmp_path, float32_layers=("depth_head/conv3", "metres")
    )


@pytest.mark.parametrize("name", ENCODERS)
def test_nothing_is_left_to_build(name):
    """Else Keras runs the whole network eagerly first, on JAX before every single prediction."""
    network = tiny.depth(name, preprocessor=tiny.preprocessor())
    assert [layer.path for layer in network._flatten_layers() if not layer.built] == []


def test_half_the_pyramid_is_the_whole_image(model):
    for size in ((32, 32), (64, 96), (48, 80)):
        output = model(keras.Input((*size, 3)))
        assert output.shape == (None, *size, 1)
        assert output.dtype == "float32"


# --- What the numbers mean


def test_metric_depth_by_hand(model):
    metric = tiny.depth(**METRIC)
    metric.set_weights(model.get_weights())
    x = (tiny.images(1, 32, 32),)
    inverse = predict(model, x)
    assert inverse.std() > 0.01
    np.testing.assert_allclose(predict(metric, x), 1 / (0.5 * inverse + 0.25), rtol=1e-5)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"kind": "disparity"}, "`kind` must be one of .*Received: 'disparity'"),
        ({"kind": "metric_depth"}, "needs both `scale` and `shift`"),
        ({"kind": "metric_depth", "scale": 0.5}, "scale=0.5, shift=None"),
        ({"kind": "metric_depth", "shift": 0.5}, "scale=None, shift=0.5"),
        ({"kind": "relative_inverse_depth"} | SCALES, "must be None"),
        ({"shift": 0.0}, "given together"),
        ({"output_layer": ScaledSigmoid(20)} | SCALES, "contradict `output_layer`"),
        ({"output_layer": ScaledSigmoid(20), "kind": "relative_inverse_depth"}, "contradict"),
        ({"head_size": "half"}, "`head_size` must be"),
    ],
)
def test_kinds_and_constants_that_do_not_go_together(shared, options, message):
    with pytest.raises(ValueError, match=message):
        keras_dpt.DPTDepth(shared.backbone, **options)


# --- Photos in, depth maps out


def test_prediction_at_network_size_is_the_output(model):
    photo = tiny.photos(1, 64, 64)[0]
    depth = model.predict_image(photo)
    expected = predict(model, ((photo[None] / 127.5 - 1).astype("float32"),))[0, :, :, 0]
    np.testing.assert_allclose(depth.values, expected, atol=1e-4)
    assert (depth.kind, depth.unit) == ("relative_inverse_depth", None)


@pytest.mark.compiles_long
def test_photos_of_any_size_in_order(model):
    sizes = [(64, 64), (48, 80), (40, 70), (64, 64), (80, 50)]
    photos = [tiny.photos(1, *size, seed=i)[0] for i, size in enumerate(sizes)]
    together = model.predict_images(photos, batch_size=2)
    assert [depth.values.shape for depth in together] == sizes
    for photo, depth in zip(photos, together, strict=True):
        assert depth.values.dtype == np.float32
        alone = model.predict_image(photo)
        np.testing.assert_allclose(depth.values, alone.values, rtol=1e-5, atol=1e-5)
    values = [depth.values.mean() for depth in together]
    assert len(set(values)) == len(values)  # or the order would not show


def test_resizing_invents_no_extremes(model):
    output = np.zeros((4, 4, 1), "float32")
    output[1:3, 1:3] = 5
    values = model.postprocess(output, (40, 40)).values
    assert (values.min(), values.max()) == (0, 5)


@pytest.mark.parametrize("method", ["bilinear", "bilinear_aligned"])
def test_outputs_are_resized_as_a_preset_says(method):
    network = tiny.depth(output_resize=method)
    output = np.random.default_rng(0).uniform(size=(4, 6, 1)).astype("float32")
    values = network.postprocess(output, (9, 11)).values
    np.testing.assert_array_equal(values, resize(output[..., 0], (9, 11), method))
    assert network.get_config()["output_resize"] == method
    bicubic = tiny.depth().describe_output()["to_photo_size"]
    assert network.describe_output()["to_photo_size"] != bicubic


def test_an_unknown_way_to_resize_is_refused():
    with pytest.raises(ValueError, match="`output_resize` must be one of.*Received: 'area'"):
        tiny.depth(output_resize="area")


def test_max_depth_is_short_for_a_sigmoid(caplog):
    network = tiny.depth(max_depth=20)
    assert isinstance(network.output_layer, ScaledSigmoid) and network.kind == "metric_depth"
    assert network.output_layer.max_depth == 20 and network.output_layer.unit == "m"
    assert not caplog.records


@pytest.mark.compiles_long
def test_changing_max_depth_warns(caplog, tmp_path):
    network = tiny.depth(max_depth=20)
    network.save_to_preset(str(tmp_path))
    same = keras_dpt.DPTDepth.from_preset(str(tmp_path))
    assert same.output_layer.max_depth == 20 and not caplog.records
    other = keras_dpt.DPTDepth.from_preset(str(tmp_path), max_depth=35)
    assert other.output_layer.max_depth == 35
    assert "max_depth of 20 m becomes 35 m" in caplog.text
    x = tiny.images(1, 32, 32)
    np.testing.assert_allclose(predict(other, (x,)) / 35, predict(same, (x,)) / 20, atol=1e-6)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"max_depth": 5, "scale": 1.0, "shift": 0.0}, "contradict.*max_depth=5"),
        ({"max_depth": 5, "kind": "relative_inverse_depth"}, "contradict.*max_depth=5"),
        ({"max_depth": 5, "output_layer": InverseAffine(1.0, 0.0)}, "has no `max_depth`"),
        ({"max_depth": 0}, "`max_depth` must be a finite number above 0"),
    ],
)
def test_max_depth_that_does_not_go_with_the_rest(options, message):
    with pytest.raises(ValueError, match=message):
        tiny.depth(**options)


@pytest.mark.parametrize("name, rate", [("DINOv2Encoder", 5e-6), ("ViTEncoder", 1e-5)])
def test_rates_are_those_of_the_encoders_paper(name, rate, monkeypatch):
    network, given = tiny.depth(name), []

    def recorded(rates, **options):
        given.append(rates)
        return optimizer_with_rates(rates, **options)

    monkeypatch.setattr("keras_dpt.models.depth.optimizer_with_rates", recorded)
    network.compile()
    assert given == [{"encoder": rate, "decoder": pytest.approx(10 * rate)}]


def test_metric_predictions_are_metres():
    network = tiny.depth(**METRIC, preprocessor=tiny.preprocessor())
    depth = network.predict_image(tiny.photos(1, 64, 64)[0])
    assert (depth.kind, depth.unit) == ("metric_depth", "m")
    assert 0 < depth.values.min() < depth.values.max() <= 4  # at a shift of 0.25 / m


def test_no_photos(model):
    assert model.predict_images([]) == []


@pytest.mark.parametrize("images", ["photo.jpg", np.zeros((2, 64, 64, 3), "uint8")])
def test_one_image_where_a_list_is_due(model, images):
    with pytest.raises(TypeError, match="takes a list of images.* Received: (str|ndarray)"):
        model.predict_images(images)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batches_of_nothing(model, batch_size):
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        model.predict_images(list(tiny.photos(1)), batch_size=batch_size)


def test_an_image_that_cannot_be_read(model):
    with pytest.raises(keras_dpt.ImageError, match="nowhere.png"):
        model.predict_images([tiny.photos(1)[0], "nowhere.png"])


def test_predict_converts_photos(model, data):
    photos, _ = data
    converter = model.preprocessor.image_converter
    expected = predict(model, (np.stack([converter.convert(x) for x in photos]),))
    assert expected.shape == (4, 32, 64, 1)
    stream = tf.data.Dataset.from_tensor_slices(photos).batch(4)
    for x in (photos, list(photos), stream, Batches(*data)):
        np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-5)


# --- Training


def test_compiles_itself():
    relative, metric = tiny.depth(), tiny.depth(**METRIC)
    assert isinstance(relative.loss, ScaleShiftInvariantLoss)
    assert isinstance(metric.loss, ScaleInvariantLogLoss)
    for network in (relative, metric):
        groups = network.optimizer.by_weight.rules
        rates = {name: float(x.learning_rate) for name, x in groups.items()}
        assert rates == pytest.approx({"encoder": 1e-5, "decoder": 1e-4, "adapters": 1e-4})
        metrics = map(
            keras.saving.deserialize_keras_object, network.get_compile_config()["metrics"]
        )
        described = [(type(x), x.aligned) for x in metrics]
        assert described == [(AbsRel, network is relative), (Delta1, network is relative)]


def test_compile_takes_other_choices():
    network = tiny.depth()
    network.compile(keras.optimizers.SGD(0.5), "mae", metrics=["mse"])
    assert isinstance(network.optimizer, keras.optimizers.SGD)
    assert network.loss == "mae"
    network.compile(learning_rate=3e-4)
    assert isinstance(network.optimizer, keras.optimizers.Adam)
    assert float(network.optimizer.learning_rate) == pytest.approx(3e-4)
    network.compile(metrics=None)
    assert not network.get_compile_config()["metrics"]


def test_rates_that_make_no_sense():
    network = tiny.depth()
    with pytest.raises(TrainingError, match="No learning rate for the weight .*'fusion'"):
        network.compile(learning_rate={"block": 1e-5, "fusion": 1e-4})
    with pytest.raises(TrainingError, match="one of both.*'sgd'"):
        network.compile("sgd", learning_rate=1e-3)


@pytest.mark.compiles_long
def test_one_step_moves_every_weight(model, weights, data):
    x, y = data
    history = model.fit(x[:2], y[:2], batch_size=2, verbose=0).history
    assert np.isfinite(history["loss"][0])
    for variable, before in zip(model.weights, weights, strict=True):
        after = ops.convert_to_numpy(variable)
        assert np.isfinite(after).all()
        # The loss is blind to shifts, and so to the last bias.
        if variable.path != "depth_head/conv3/bias":
            assert np.any(after != before), f"{variable.path} stays as it was"


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="TensorFlow's tracing")
def test_a_step_is_traced_once(monkeypatch):
    x, y = tiny.photos(2, 32, 64), np.full((2, 32, 64, 1), 0.5, "float32")
    network = tiny.depth(preprocessor=tiny.preprocessor((32, 64)))
    network.compile()
    traces = []
    step = network.train_step
    monkeypatch.setattr(network, "train_step", lambda batch: traces.append(1) or step(batch))
    network.fit(x, y, batch_size=2, verbose=0)
    assert len(traces) == 1


@pytest.mark.parametrize(
    "kind", ["arrays", "tf.data", pytest.param("PyDataset", marks=pytest.mark.compiles_long)]
)
def test_fit_and_evaluate_take(kind, model, data):
    def wrap(x, y):
        if kind == "tf.data":
            return tf.data.Dataset.from_tensor_slices((x, y)).batch(2)
        return Batches(x, y) if kind == "PyDataset" else (x, y)

    x, y = data
    converter = model.preprocessor.image_converter
    outputs = predict(model, (np.stack([converter.convert(image) for image in x]),))
    expected = scale_shift_invariant(y, outputs)
    train, validation = wrap(x, y), wrap(x[:2], y[:2])
    rate = float(model.optimizer.learning_rate)
    model.optimizer.learning_rate = 0.0  # so that the loss of every step can be told beforehand
    try:
        if kind == "arrays":
            fit = model.fit(*train, batch_size=2, validation_data=validation, verbose=0)
            evaluated = model.evaluate(*train, batch_size=2, verbose=0)
        else:
            fit = model.fit(train, validation_data=validation, verbose=0)
            evaluated = model.evaluate(train, verbose=0)
    finally:
        model.optimizer.learning_rate = rate
    assert fit.history["loss"] == pytest.approx([expected], rel=1e-4)
    assert evaluated == pytest.approx(expected, rel=1e-4)
    expected = scale_shift_invariant(y[:2], outputs[:2])
    assert fit.history["val_loss"] == pytest.approx([expected], rel=1e-4)


@pytest.mark.compiles_long
@pytest.mark.parametrize("validation", ["arrays", "tf.data"])
def test_validation_data_may_be_of_another_kind(validation, model, data):
    x, y = data
    other = (x[:2], y[:2])
    if validation == "tf.data":
        other = tf.data.Dataset.from_tensor_slices(other).batch(2)
    history = model.fit(Batches(x, y), validation_data=other, verbose=0).history
    assert np.isfinite(history["val_loss"][0])
    history = model.fit(
        x, y, batch_size=2, validation_data=Batches(x[:2], y[:2]), verbose=0
    ).history
    assert np.isfinite(history["val_loss"][0])


def train_step(network, size=(32, 64)):
    """Loss of one step on ready images; fails if it is not finite or spoils a weight."""
    x = tiny.images(2, *size)
    y = np.random.default_rng(1).uniform(1, 9, (2, *size, 1)).astype("float32")
    loss = keras.Model.train_on_batch(network, x, y, return_dict=True)["loss"]
    assert np.isfinite(loss)
    assert all(np.isfinite(w.astype("float32")).all() for w in network.get_weights())
    return loss


@pytest.mark.compiles_long
def test_a_frozen_encoder_stays():
    network = tiny.depth()
    network.backbone.image_encoder.trainable = False
    network.compile(keras.optimizers.SGD(0.1), "mae")
    encoder = network.backbone.image_encoder.get_weights()
    trainable = [ops.convert_to_numpy(v) for v in network.trainable_variables]
    assert len(trainable) == len(network.weights) - len(encoder)
    train_step(network)
    for before, after in zip(encoder, network.backbone.image_encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(after, before)
    for before, variable in zip(trainable, network.trainable_variables, strict=True):
        # The loss is blind to shifts: only rounding moves the last bias.
        if variable.path != "depth_head/conv3/bias":
            assert np.any(ops.convert_to_numpy(variable) != before), variable.path


@pytest.mark.compiles_long
def test_lora():
    network = tiny.depth()
    x = (tiny.images(1, 32, 32),)
    before = predict(network, x)
    network.backbone.enable_lora(2)
    network.compile(keras.optimizers.SGD(0.1))
    np.testing.assert_allclose(predict(network, x), before, atol=1e-5)
    paths = {v.path for v in network.trainable_variables}
    adapters = {p for p in paths if "lora" in p}
    assert len(adapters) == 2 * 4
    assert all("attention/qkv" in p or p.startswith("depth_head") for p in paths)
    frozen = {v.path: ops.convert_to_numpy(v) for v in network.non_trainable_variables}
    train_step(network)
    for variable in network.non_trainable_variables:
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), frozen[variable.path])
    assert np.abs(predict(network, x) - before).max() > 0


@pytest.mark.compiles_long
@pytest.mark.parametrize(
    "policy",
    [pytest.param("mixed_bfloat16", marks=pytest.mark.compiles_long), "mixed_float16"],
)
def test_mixed_precision_trains(policy):
    network = tiny.depth(tiny.backbone(dtype=policy), **METRIC)
    if policy == "mixed_float16":
        # Keras scales the loss by itself, and skips steps until its gradients are finite.
        assert isinstance(network.optimizer, keras.optimizers.LossScaleOptimizer)
    before = network.get_weights()
    train_step(network)
    changed = [np.any(a != b) for a, b in zip(before, network.get_weights(), strict=True)]
    assert all(changed) or (policy == "mixed_float16" and not any(changed))
    assert {v.dtype for v in network.trainable_variables} == {"float32"}


# --- Saving, loading, converting


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A preset directory, an input `x`, the model and what it makes of `x`."""
    network = tiny.depth(preprocessor=tiny.preprocessor())
    folder = tmp_path_factory.mktemp("preset")
    network.save_to_preset(str(folder))
    x = tiny.images(2, 32, 64)
    return str(folder), x, network, predict(network, (x,))


@pytest.mark.parametrize("cls", [keras_dpt.DPTDepth, keras_hub.models.DepthEstimator])
def test_preset_directory(preset, cls):
    folder, x, original, expected = preset
    loaded = cls.from_preset(folder)
    assert type(loaded) is keras_dpt.DPTDepth
    assert loaded.get_config() == original.get_config()
    np.testing.assert_array_equal(predict(loaded, (x,)), expected)


def test_parts_of_a_preset_directory(preset):
    folder, _, original, _ = preset
    backbone = keras_dpt.DPTBackbone.from_preset(folder)
    for ours, theirs in zip(backbone.get_weights(), original.backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    converter = keras_dpt.DPTImageConverter.from_preset(folder)
    assert converter.get_config() == original.preprocessor.image_converter.get_config()


def test_fresh_weights_from_a_preset_directory(preset):
    folder, _, original, _ = preset
    loaded = keras_dpt.DPTDepth.from_preset(folder, load_weights=False)
    assert loaded.get_config() == original.get_config()
    kernel = "block_0/mlp/dense1/kernel"
    ours, theirs = ({v.path: v for v in m.variables}[kernel] for m in (loaded, original))
    assert np.any(ops.convert_to_numpy(ours) != ops.convert_to_numpy(theirs))


@pytest.mark.compiles_long
@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16"])
def test_preset_in_another_dtype(preset, dtype):
    folder, x, _, expected = preset
    loaded = keras_dpt.DPTDepth.from_preset(folder, dtype=dtype)
    for layer in (*loaded.backbone._flatten_layers(), *loaded.head._flatten_layers()):
        if layer.variables and layer.name != "conv3":
            assert layer.dtype_policy.name == dtype, layer.path
    stored = {v.dtype for v in loaded.backbone.variables}
    assert stored == {"bfloat16" if dtype == "bfloat16" else "float32"}
    output = predict(loaded, (x,))
    assert output.dtype == "float32"
    assert 0 < np.abs(output - expected).max() < 0.1 * expected.max()


def test_keras_file_keeps_preprocessor_and_kind(tmp_path):
    network = tiny.depth(**METRIC, preprocessor=tiny.preprocessor((32, 64), mean=0.4))
    network.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is keras_dpt.DPTDepth
    assert loaded.get_config() == network.get_config()
    assert loaded.preprocessor.image_converter.mean == 0.4
    photo = tiny.photos(1, 40, 70)[0]
    ours, theirs = (m.predict_image(photo) for m in (loaded, network))
    np.testing.assert_array_equal(ours.values, theirs.values)
    assert ours.unit == "m"


# The layers that Keras cannot quantise say so, each with a warning.
@pytest.mark.compiles_long
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method implemented")
def test_quantised(tmp_path):
    network = tiny.depth()
    x = (tiny.images(1, 32, 32),)
    before = predict(network, x)
    gc.freeze()  # Keras collects garbage after every layer: leave it less to look through
    network.quantize("int8")
    gc.unfreeze()
    quantised = {v.path for v in network.variables if v.dtype == "int8"}
    dense = {
        f"block_{i}/{name}/kernel"
        for i in range(4)
        for name in ("attention/qkv", "attention/projection", "mlp/dense1", "mlp/dense2")
    }
    assert dense <= quantised
    after = predict(network, x)
    assert 0 < np.abs(after - before).max() < 0.1 * before.max()
    network.save_to_preset(str(tmp_path))
    np.testing.assert_array_equal(predict(keras_dpt.DPTDepth.from_preset(str(tmp_path)), x), after)


def test_summary(model):
    lines = []
    model.summary(print_fn=lines.append)
    text = "\n".join(lines)
    for word in ("dpt_depth", "depth_head", "Total params", "dpt_image_converter"):
        assert word in text


def test_unknown_arguments_are_named(model):
    with pytest.raises(TypeError, match="DPTDepth takes no argument 'num_classes'"):
        keras_dpt.DPTDepth(model.backbone, num_classes=3)
