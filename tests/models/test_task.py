import keras
import numpy as np
import pytest
import tiny
from keras import ops

from keras_dpt.errors import TrainingError
from keras_dpt.models.data import Arrays


@pytest.fixture
def pairs():
    return np.arange(10), np.arange(10) * 2.0


def test_arrays_come_in_batches(pairs):
    batches = Arrays((*pairs, None), batch_size=4)
    assert len(batches) == 3
    x, y, sample_weight = batches[2]
    np.testing.assert_array_equal(x, [8, 9])
    np.testing.assert_array_equal(y, [16, 18])
    assert sample_weight is None


def test_arrays_are_shuffled_anew_each_epoch(pairs):
    def epoch(dataset):
        x, y = (np.concatenate(part) for part in zip(*[b[:2] for b in dataset], strict=True))
        np.testing.assert_array_equal(y, 2 * x)
        assert sorted(x) == list(range(10))
        return x.tolist()

    dataset = Arrays((*pairs, None), batch_size=4, shuffle=True)
    first = epoch(dataset[i] for i in range(3))
    dataset.on_epoch_end()
    second = epoch(dataset[i] for i in range(3))
    assert list(range(10)) != first != second
    keras.utils.set_random_seed(0)  # as the fixture `seed` did
    dataset = Arrays((*pairs, None), batch_size=4, shuffle=True)
    assert epoch(dataset[i] for i in range(3)) == first


def test_arrays_may_be_tensors(pairs):
    batches = Arrays((ops.convert_to_tensor(pairs[1]), None, None), batch_size=4)
    np.testing.assert_array_equal(batches[1][0], [8, 10, 12, 14])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (lambda x: x[:0], "no images"),
        (lambda x: iter(x), "takes arrays, .*. Received:"),
        (lambda x: [*x[:3], x[3, 1:]], r"of one shape. Received: .*\(31, 32, 3\)"),
        (lambda x: x[0], r"channels\). Received: 32 of shape \(32, 3\)"),
        (lambda x: ["a.jpg"] * 4, "`predict_images` takes files"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_images_that_cannot_be_taken_are_named(method, images, message, trained):
    targets = () if method == "predict" else (np.ones((4, 32, 32, 1), "float32"),)
    with pytest.raises(TrainingError, match=f"`{method}` .*{message}"):
        getattr(trained[0], method)(images(tiny.photos(4, 32, 32)), *targets)


@pytest.mark.parametrize(
    ("targets", "received"),
    [(lambda y: None, "none"), (lambda y: y[:3], "3"), (lambda y: 5.0, "5.0")],
)
@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_targets_that_cannot_be_taken_are_named(method, targets, received, trained):
    y = targets(np.ones((4, 32, 32, 1), "float32"))
    message = f"`{method}` needs one target `y` for each of the 4 images `x`. Received: {received}"
    with pytest.raises(TrainingError, match=message):
        getattr(trained[0], method)(tiny.photos(4, 32, 32), y)


def test_lengths_and_numbers_that_cannot_be_meant(trained):
    model, _ = trained
    x, y = tiny.photos(4, 32, 32), np.ones((4, 32, 32, 1), "float32")
    with pytest.raises(TrainingError, match="one `sample_weight` for each of the 4 .*Received: 3"):
        model.evaluate(x, y, sample_weight=np.ones(3))
    with pytest.raises(TrainingError, match="`validation_data` needs one target .*Received: 2"):
        model.fit(x, y, validation_data=(x, y[:2]))
    with pytest.raises(TrainingError, match="at least 1. Received: 0"):
        model.predict(x, batch_size=0)
    with pytest.raises(TrainingError, match="its own targets"):
        model.evaluate(Arrays((x, y, None), 2), y)


@pytest.fixture(scope="module")
def trained():
    model = tiny.depth(preprocessor=tiny.preprocessor((32, 32)))
    model.backbone.trainable = False  # quicker to compile
    model.compile(keras.optimizers.Adam(1e-3), "mae")
    x, y = tiny.photos(4, 32, 32), 1 / np.random.default_rng(0).uniform(1, 9, (4, 32, 32, 1))
    history = model.fit(x, y, batch_size=3, validation_split=0.25, verbose=0).history
    return model, history


def test_validation_split(trained):
    model, history = trained
    assert np.isfinite(history["val_loss"]).all()
    assert int(model.optimizer.iterations) == 1  # three of the four images, in one batch


def test_training_can_be_resumed_from_a_keras_file(trained, tmp_path):
    model, _ = trained
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    pairs = list(zip(loaded.optimizer.variables, model.optimizer.variables, strict=True))
    assert len(pairs) > 2 * len(model.trainable_variables)
    for ours, theirs in pairs:
        np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))


def test_presets_hold_no_optimizer(trained, tmp_path):
    model, _ = trained
    model.save_to_preset(str(tmp_path))
    assert (tmp_path / "task.weights.h5").stat().st_size < 1e5
    loaded = type(model).from_preset(str(tmp_path))
    assert int(loaded.optimizer.iterations) == 0
    assert int(model.optimizer.iterations) == 1  # saving put it back


class _Broken(keras.utils.PyDataset):
    """Batches of which one cannot be read."""

    def __init__(self, broken):
        super().__init__()
        self.broken = broken

    def __len__(self):
        return 2

    def __getitem__(self, i):
        if i == self.broken:
            raise OSError("disk on fire")
        return tiny.photos(3, 32, 32), np.ones((3, 32, 32, 1), "float32")


@pytest.mark.parametrize("broken", [0, 1])
@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_weights_survive_data_that_cannot_be_read(method, broken, trained):
    """Keras on JAX takes the weights out of the model and would not put them back."""
    model, _ = trained
    before = model.get_weights()
    with pytest.raises(OSError, match="disk on fire"):
        getattr(model, method)(_Broken(broken), verbose=0)
    after = model.get_weights()
    assert all(np.isfinite(w).all() for w in after)
    if method == "evaluate" or broken == 0:
        for ours, theirs in zip(after, before, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    model.fit(tiny.photos(3, 32, 32), np.ones((3, 32, 32, 1)), verbose=0)


@pytest.mark.skipif(keras.config.backend() != "torch", reason="memory order is PyTorch's")
def test_optimizers_keep_the_memory_order_of_weights():
    model = tiny.depth(preprocessor=tiny.preprocessor((32, 32)))
    model.compile("adam", "mae")
    model.make_train_function()  # before there is an optimizer's variable
    weights = model.get_weights()
    model.fit(tiny.photos(2, 32, 32), np.ones((2, 32, 32, 1), "float32"), epochs=2, verbose=0)
    orders = {tuple(w.shape): w.value.stride() for w in model.trainable_variables}
    slots = [v for v in model.optimizer.variables if len(v.shape) == 4]
    assert len(slots) >= 2 * sum(len(w.shape) == 4 for w in model.trainable_variables)
    for slot in slots:
        assert slot.value.stride() == orders[tuple(slot.shape)], slot.path
    assert any(not np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))


@pytest.mark.compiles_long
def test_fit_shuffles_arrays_unless_told_not_to(trained, monkeypatch):
    model, _ = trained
    photos = np.repeat(tiny.photos(1, 32, 32), 8, axis=0)
    photos[:, 0, 0, 0] = np.arange(8)
    targets = np.ones((8, 32, 32, 1), "float32")
    seen = []
    get = Arrays.__getitem__

    def watched(self, index):
        batch = get(self, index)
        seen.append((index, batch[0][:, 0, 0, 0].tolist()))
        return batch

    monkeypatch.setattr(Arrays, "__getitem__", watched)

    def order(**options):
        seen.clear()
        model.fit(photos, targets, batch_size=8, verbose=0, **options)
        return [ids for index, ids in seen if index == 0][-1]

    assert order(shuffle=False) == list(range(8))
    assert order() != list(range(8)) and sorted(order()) == list(range(8))
