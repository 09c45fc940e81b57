"""A third task, surface normals, in this file alone: every place that handles tasks takes it."""

from argparse import Namespace
from dataclasses import dataclass

import keras
import keras_hub
import numpy as np
import pytest
import tiny
from keras import ops
from PIL import Image

from keras_dpt import DPTBackbone, DPTDepth, DPTDepthPreprocessor, cli, datasets, presets
from keras_dpt.cli import photos
from keras_dpt.errors import KerasDPTError, TrainingError
from keras_dpt.images.resizing import resize
from keras_dpt.models.task import TASKS, DPTTask
from keras_dpt.models.tasks import load_task, task_named

MINI = presets.read_preset("dpt_mini_nyuv2")


@dataclass(frozen=True)
class NormalMap:
    values: np.ndarray
    source: str | None = None

    def save(self, path):
        np.save(path, self.values)


class NormalsKind(datasets.TargetKind):
    kind = target = "normals"
    channels = 3

    def mirrored(self, values):
        return values[:, ::-1] * np.array([-1, 1, 1], values.dtype)  # left becomes right


@keras.saving.register_keras_serializable(package="third_task")
class CosineLoss(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return 1 - ops.sum(y_true * y_pred, axis=-1)


@keras.saving.register_keras_serializable(package="third_task")
class DPTNormals(DPTTask, keras_hub.models.Task):
    backbone_cls, preprocessor_cls = DPTBackbone, DPTDepthPreprocessor
    task_name = learns = "normals"
    kinds = ("normals",)
    result_cls = NormalMap

    def __init__(self, backbone, preprocessor=None, **kwargs):
        self.backbone, self.preprocessor = backbone, preprocessor
        head = keras.layers.Conv2DTranspose(3, 2, 2, dtype="float32", name="normals_head")
        outputs = keras.layers.UnitNormalization(dtype="float32")(head(backbone.output["P1"]))
        super().__init__(inputs=backbone.input, outputs=outputs, **kwargs)

    def default_loss(self):
        return CosineLoss()

    def postprocess(self, output, size):
        values = resize(output, size, "bilinear")
        return NormalMap(values / np.linalg.norm(values, axis=-1, keepdims=True))


def batches(augment=True):
    targets = np.zeros((2, 64, 64, 3), "float32")
    targets[:, :, 40:, 0] = targets[:, :, :40, 2] = 1  # a wall to the right; the rest looks at us
    targets[:, :9] = np.nan
    pairs = list(zip(tiny.photos(2), targets, strict=True))
    source = datasets.Source("normals", ["a", "b"], pairs.__getitem__, "normals")
    return datasets.Batches(source, (64, 64), 2, "normals", augment, steps_per_epoch=4)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    keras.utils.set_random_seed(0)
    model = DPTNormals(tiny.backbone(), tiny.preprocessor())
    model.compile(keras.optimizers.Adam(1e-3))
    losses = model.fit(batches(), epochs=2, verbose=0).history["loss"]
    folder = tmp_path_factory.mktemp("saved")
    model.save_to_preset(str(folder / "preset"))
    model.save(folder / "model.keras")
    Image.fromarray(tiny.photos(1, 48, 64)[0]).save(folder / "photo.png")
    return model, losses, folder


def test_data_and_training(saved):
    model, losses, _ = saved
    assert losses[-1] < 0.9 * losses[0]
    assert task_named("normals") is DPTNormals and task_named("depth") is DPTDepth
    _, normals, known = batches(datasets.Augmentation(flip=1.0)).batch(0, 0)
    assert normals.shape == (2, 64, 64, 3) and 0 < known.mean() < 1
    assert set(np.unique(normals[..., 0])) == {-1, 0}  # the wall is at the left now


@pytest.fixture
def unknown():
    """An untrained model, photos, and normals of which some are NaN or infinite."""
    normals = np.ones((2, 64, 64, 3), "float32")
    normals[:, :9], normals[:, 9, :, 0] = np.nan, -np.inf
    model = DPTNormals(tiny.backbone(), tiny.preprocessor())
    return model, np.stack(tiny.photos(2, 64, 64)), normals


@pytest.mark.parametrize("as_data", [lambda *batch: batch, lambda *batch: (Given(batch),)])
def test_unknown_targets_are_named(as_data, unknown):
    model, x, normals = unknown
    with pytest.raises(TrainingError, match="unknown where .* the loss 'CosineLoss' does not"):
        model.fit(*as_data(x, normals), verbose=0)


@pytest.mark.compiles_long
@pytest.mark.parametrize("as_data", [lambda *batch: batch, lambda *batch: (Given(batch),)])
def test_unknown_targets_may_be_masked(as_data, unknown):
    model, x, normals = unknown
    assert np.isfinite(model.evaluate(*as_data(x, np.ma.masked_invalid(normals)), verbose=0))


class Given(keras.utils.PyDataset):
    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.batch


def test_saved_and_loaded(saved):
    model, _, folder = saved
    photo = folder / "photo.png"
    expected = model.predict_image(photo)
    assert expected.values.shape == (48, 64, 3)
    np.testing.assert_allclose(np.linalg.norm(expected.values, axis=-1), 1, atol=1e-5)
    for again in load_task(str(folder / "preset")), keras.models.load_model(folder / "model.keras"):
        assert type(again) is DPTNormals
        np.testing.assert_array_equal(again.predict_image(photo).values, expected.values)
    fresh = DPTNormals.from_architecture(MINI)
    assert fresh.backbone.fusion_channels == 48


def test_the_command_line_finds_it(saved, tmp_path, capsys):
    preset, photo = str(saved[2] / "preset"), str(saved[2] / "photo.png")
    assert cli.main(["depth", photo, "-o", str(tmp_path), "--preset", preset]) == 2
    assert "is for the task 'normals'" in capsys.readouterr().err
    study = ["study", "attention", "--preset", preset, "-o", str(tmp_path), photo]
    assert cli.main(study) == 0  # of any task
    args = Namespace(paths=[photo], output=tmp_path, preset=preset, batch_size=1)
    assert photos.predict(args, DPTNormals, lambda x, _, stem: x.save(f"{stem}.npy")) == 0
    assert np.load(tmp_path / "photo.npy").shape == (48, 64, 3)


def test_parts_that_are_set_too_late_are_named():
    class Late(DPTNormals):
        def __init__(self, backbone):
            keras_hub.models.Task.__init__(self, backbone.input, backbone.output["P1"])

    with pytest.raises(TrainingError, match="must set `self.backbone` and .* before it calls"):
        Late(tiny.backbone())


def test_a_plain_array_as_prediction_of_a_file(saved):
    class Plain(DPTNormals):
        def postprocess(self, output, size):
            return resize(output, size, "bilinear")

    model, _, folder = saved
    values = Plain(model.backbone, model.preprocessor).predict_image(folder / "photo.png")
    assert values.shape == (48, 64, 3)


class Unfinished(DPTTask, keras_hub.models.Task):
    """A task without anything that it must define, but for its loss."""

    def __init__(self, backbone, preprocessor=None, **kwargs):
        self.backbone, self.preprocessor = backbone, preprocessor
        super().__init__(inputs=backbone.input, outputs=backbone.output["P1"], **kwargs)

    def default_loss(self):
        return CosineLoss()


class NoLoss(Unfinished):
    default_loss = DPTTask.default_loss


@pytest.fixture(scope="module")
def unfinished():
    return Unfinished(tiny.backbone(), tiny.preprocessor())


def named():
    """A class with a name and a backbone, but no preprocessor; other tests do not meet it."""

    class NoPreprocessor(Unfinished):
        task_name = "unfinished"
        backbone_cls = DPTBackbone

    del TASKS["unfinished"]
    return NoPreprocessor


@pytest.mark.parametrize(
    ("member", "use"),
    [
        ("task_name", lambda model: Unfinished.from_preset("dpt_mini_nyuv2")),
        ("task_name", lambda model: Unfinished.from_preset("dpt_mini_nyuv2", load_weights=False)),
        ("task_name", lambda model: Unfinished.from_architecture(MINI)),
        ("task_name", lambda model: model.describe_output()),
        ("kinds", lambda model: named().output_of({})),
        ("preprocessor_cls", lambda model: named().from_preset("dpt_mini_nyuv2")),
        ("preprocessor_cls", lambda model: named().from_architecture(MINI)),
        ("default_loss", lambda model: NoLoss(model.backbone)),
        ("default_loss", lambda model: model_without_loss(model).compile()),
        ("postprocess", lambda model: model.predict_image(tiny.photos(1)[0])),
        ("postprocess", lambda model: next(model.predict_stream(tiny.photos(1)))),
        ("learns", lambda model: model.fit(batches(), verbose=0)),
    ],
)
def test_a_missing_member_is_named_with_the_guide(member, use, unfinished):
    guide = r".* in docs/guides/extending\.md\.$"
    with pytest.raises(KerasDPTError, match=rf"^\w+ must define `{member}`, {guide}"):
        use(unfinished)


def model_without_loss(model):
    """As the message advises: it is compiled with a loss of its own."""
    model = NoLoss(model.backbone, compile=False)
    model.compile(loss="mse")
    return model
