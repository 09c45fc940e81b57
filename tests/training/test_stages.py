from unittest import mock

import keras
import numpy as np
import pytest
import tiny
from PIL import Image

from keras_dpt.datasets import Batches, Source
from keras_dpt.errors import TrainingError
from keras_dpt.training import (
    ContactSheet,
    Resume,
    contact_sheet,
    fit_in_stages,
    lift_outputs,
    linear_head,
    parse_stages,
    size_of_epoch,
)

PHOTOS = tiny.photos(4, 48, 64)
DEPTHS = np.random.default_rng(0).uniform(1, 9, (4, 48, 64)).astype("float32")


def source():
    return Source("made", list("abcd"), lambda i: (PHOTOS[i], DEPTHS[i]), "metric_depth")


def test_parse_stages():
    assert parse_stages("384x416") == [((384, 416), 1.0)]
    stages = parse_stages("96x128:0.7,192x256")
    assert stages == [((96, 128), 0.7), ((192, 256), 1.0)]
    assert [size_of_epoch(stages, 10, epoch)[0] for epoch in (1, 7, 8, 10)] == [96, 96, 192, 192]


@pytest.mark.parametrize(
    "text, message",
    [
        ("96", "look like"),
        ("96x", "look like"),
        ("96x128:a", "look like"),
        ("96x128:0.5", "rise to 1"),
        ("96x128:0.7,192x256:0.6,32x32", "rise to 1"),
    ],
)
def test_stages_that_make_no_sense(text, message):
    with pytest.raises(TrainingError, match=f"{message}.*{text}"):
        parse_stages(text)


def test_sides_that_the_network_cannot_take():
    model = tiny.depth()
    with pytest.raises(TrainingError, match="multiples of 16. Received: 64x64, 96x100"):
        fit_in_stages(model, None, parse_stages("64x64:0.5,96x100"), 2, [])


class Spy(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epochs = [*getattr(self, "epochs", []), (epoch, self.model.preprocessor.image_size)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model that went through two sizes in three epochs, and what its callbacks saw."""
    folder = tmp_path_factory.mktemp("run")
    model = tiny.depth(preprocessor=tiny.preprocessor((32, 32)))
    model.backbone.trainable = False  # quicker to compile
    model.compile(learning_rate=1e-3)
    spy, stages = Spy(), [((32, 32), 0.4), ((32, 64), 1.0)]
    callbacks = [Resume(folder), spy, ContactSheet(source(), folder, every=2, count=2)]
    made = []

    def batches(size):
        made.append(Batches(source(), size, 2))
        return made[-1]

    with linear_head(model):
        fit_in_stages(
            model,
            batches,
            stages,
            3,
            callbacks,
            lambda size: Batches(source(), size, 2, augment=False),
        )
        model.head.conv3.bias.assign([-5.0])
        lowest = min(x.values.min() for x in model.predict_images(list(PHOTOS)))
        lift = lift_outputs(model, list(PHOTOS))  # (scale, lift)
    return model, spy, made, folder, lowest, lift


@pytest.mark.slow
def test_epochs_go_on_from_size_to_size(trained):
    model, spy, made, *_ = trained
    assert spy.epochs == [(0, (32, 32)), (1, (32, 64)), (2, (32, 64))]
    assert [(b.size, b.epoch) for b in made] == [((32, 32), 1), ((32, 64), 3)]
    assert int(model.optimizer.iterations) == 6
    assert {"val_abs_rel", "val_d1", "val_loss"} < set(model.history.history)


@pytest.mark.slow
def test_outputs_are_lifted_above_zero_and_the_relu_is_back(trained):
    model, *_, lowest, (scale, lift) = trained
    assert lowest < 0 < scale
    assert lift == pytest.approx(-scale * lowest, rel=1e-4)
    assert model.head.conv3.activation is keras.activations.relu
    values = np.stack([x.values for x in model.predict_images(list(PHOTOS))])
    assert values.min() == pytest.approx(0, abs=1e-4)
    assert np.median([np.ptp(x) for x in values]) == pytest.approx(50, rel=1e-3)
    with linear_head(model):
        again = lift_outputs(model, list(PHOTOS))
    assert again == pytest.approx((1, 0), rel=1e-3, abs=1e-3)


@pytest.mark.slow
def test_contact_sheets(trained):
    model, _, _, folder, *_ = trained
    assert [path.name for path in folder.glob("*.png")] == ["epoch_00002.png"]
    with Image.open(folder / "epoch_00002.png") as sheet:
        assert sheet.size == (3 * 240, 2 * 180)
    unknown = source()[0]._replace(valid=np.zeros((48, 64), bool))
    sheet = contact_sheet(model, [source()[1], unknown], source())
    photo = Image.fromarray(PHOTOS[1]).resize((240, 180))
    np.testing.assert_array_equal(np.asarray(sheet)[:180, :240], np.asarray(photo))
    truth, nothing = np.asarray(sheet)[:180, 240:480], np.asarray(sheet)[180:, 240:480]
    assert truth.std() > 20 and nothing.std(axis=(0, 1)).max() < 1


@pytest.mark.parametrize(("every", "validated"), [(1, [1, 2, 3, 4]), (3, [3, 4]), (9, [4])])
def test_the_last_epoch_is_validated(every, validated, monkeypatch):
    """`KeepBest` has nothing to keep otherwise."""
    monkeypatch.setattr("keras_dpt.training.stages.forget_compiled", lambda model: None)
    model, resume, data = mock.MagicMock(), mock.MagicMock(), mock.MagicMock()
    resume.restore.return_value = 0
    model.backbone.image_encoder.required_multiple = 16
    fit_in_stages(
        model, data, [((32, 32), 0.5), ((64, 64), 1.0)], 4, [resume], validation_freq=every
    )
    assert model.fit.call_count == 2
    for call in model.fit.call_args_list:
        assert call.kwargs["validation_freq"] == validated


class Staged:
    """A model that notes how it is fitted, and a `Resume` that found an epoch."""

    def __init__(self, found=0):
        self.fits, self.found = [], found
        self.preprocessor = mock.Mock()
        self.backbone = mock.Mock()
        self.backbone.image_encoder.required_multiple = 16
        self.train_function = "compiled"

    def restore(self, model):
        assert model is self
        return self.found

    def fit(self, batches, **options):
        assert self.train_function is None
        self.train_function = "compiled"
        self.fits.append((self.preprocessor.image_size, batches.size, batches.epoch, options))


def data(size):
    return mock.Mock(size=size)


STAGES = [((32, 32), 0.4), ((32, 64), 1.0)]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (0, [((32, 32), 0, 4), ((32, 64), 4, 10)]),
        (3, [((32, 32), 3, 4), ((32, 64), 4, 10)]),
        (4, [((32, 64), 4, 10)]),
        (9, [((32, 64), 9, 10)]),
        (10, []),
    ],
)
def test_each_stage_goes_on_where_the_last_ended(found, expected):
    model = Staged(found)
    callbacks = [model, "another"]
    fit_in_stages(model, data, STAGES, 10, callbacks, lambda size: ("val", size), steps_per_epoch=7)
    assert [(size, o["initial_epoch"], o["epochs"]) for size, *_, o in model.fits] == expected
    for size, size_of_data, epoch, options in model.fits:
        assert size == size_of_data and epoch == options["initial_epoch"]
        assert options["validation_data"] == ("val", size)
        assert options["callbacks"] is callbacks and options["steps_per_epoch"] == 7
        assert options["validation_freq"] == list(range(1, 11))


@pytest.mark.parametrize(
    ("terminal", "main", "given", "expected"),
    [
        (True, True, {}, 1),
        (False, True, {}, 2),
        (True, False, {}, 0),
        (False, False, {}, 0),
        (False, False, {"verbose": 1}, 1),
    ],
)
def test_one_process_reports_and_a_file_gets_lines(terminal, main, given, expected, monkeypatch):
    model = Staged()
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    monkeypatch.setattr("keras_dpt.training.stages.is_main_process", lambda: main)
    fit_in_stages(model, data, STAGES[1:], 2, [model], **given)
    ((*_, options),) = model.fits
    assert options["verbose"] == expected and options["validation_data"] is None


def test_a_list_of_epochs_to_validate_is_kept():
    model = Staged()
    fit_in_stages(model, data, STAGES[1:], 4, [model], validation_freq=[2])
    assert model.fits[0][-1]["validation_freq"] == [2]
