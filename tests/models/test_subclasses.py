"""`from_preset` of a user's subclass: head, kind and names are the preset's."""

import json

import keras
import keras_hub
import numpy as np
import pytest
import tiny
from contracts import predict

import keras_dpt
from keras_dpt.errors import LabelError


class Unregistered(keras_dpt.DPTDepth):
    pass


@keras.saving.register_keras_serializable(package="tests_of_subclasses")
class Registered(keras_dpt.DPTDepth):
    pass


class WithGain(keras_dpt.DPTDepth):
    def __init__(self, *args, gain=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.gain = gain


class Deeper(WithGain):
    def __init__(self, backbone, *, note="", **kwargs):
        super().__init__(backbone, **kwargs)
        self.note = note

    def get_config(self):
        return super().get_config() | {"gain": self.gain, "note": self.note}


class WithoutKind(keras_dpt.DPTDepth):
    def __init__(self, backbone, preprocessor=None, head_channels=(128, 32)):
        super().__init__(backbone, preprocessor, head_channels)


class Street(keras_dpt.DPTSegmentation):
    pass


@pytest.fixture(scope="module")
def metric(tmp_path_factory):
    """A preset directory of a metric model with a head of its own widths, and its prediction."""
    folder = str(tmp_path_factory.mktemp("metric"))
    options = {"kind": "metric_depth", "scale": 0.01, "shift": 0.2}
    model = tiny.depth(preprocessor=tiny.preprocessor(), **options)
    model.save_to_preset(folder)
    return folder, tiny.run(model, tiny.images())


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("segmentation"))
    model = keras_dpt.DPTSegmentation(
        tiny.backbone(use_batch_norm=True),
        3,
        tiny_preprocessor(),
        class_names=("sky", "road", "tree"),
        ignore_index=9,
    )
    tiny.randomize(model).save_to_preset(folder)
    return folder, tiny.run(model, tiny.images()), model


def tiny_preprocessor():
    return keras_dpt.DPTSegmentationPreprocessor(keras_dpt.DPTImageConverter((64, 64)))


@pytest.mark.parametrize("cls", [Unregistered, Registered, WithGain, Deeper])
def test_head_and_kind_are_the_presets(cls, metric, caplog):
    folder, expected = metric
    model = cls.from_preset(folder)
    assert type(model) is cls and not caplog.records
    assert (model.kind, model.scale, model.shift) == ("metric_depth", 0.01, 0.2)
    assert model.head_channels == (12, 8)
    assert model.preprocessor.image_size == (64, 64)
    np.testing.assert_array_equal(tiny.run(model, tiny.images()), expected)
    assert model.compiled


@pytest.mark.compiles_long
def test_bundled_presets():
    photo = tiny.photos(1, 64, 96)[0]
    for cls, own, preset in (
        (keras_dpt.DPTDepth, Unregistered, "dpt_mini_nyuv2"),
        (keras_dpt.DPTSegmentation, Street, "dpt_mini_camvid"),
    ):
        expected = cls.from_preset(preset, image_size=(64, 96)).predict_image(photo)
        model = own.from_preset(preset, image_size=(64, 96))
        np.testing.assert_array_equal(model.predict_image(photo), expected)


def test_own_arguments(metric):
    folder, expected = metric
    model = Deeper.from_preset(folder, gain=3.0, note="mine", compile=False)
    assert (model.gain, model.note, model.compiled) == (3.0, "mine", False)
    np.testing.assert_array_equal(tiny.run(model, tiny.images()), expected)


def test_saved_and_loaded_again(metric, tmp_path):
    folder, expected = metric
    Deeper.from_preset(folder, gain=3.0).save_to_preset(str(tmp_path))
    saved = json.loads((tmp_path / "task.json").read_text())
    assert saved["class_name"] == "Deeper"
    loaded = Deeper.from_preset(str(tmp_path))
    assert type(loaded) is Deeper and loaded.gain == 3.0
    np.testing.assert_array_equal(tiny.run(loaded, tiny.images()), expected)
    changed = Deeper.from_preset(str(tmp_path), note="new")
    assert (changed.gain, changed.note, changed.scale) == (3.0, "new", 0.01)
    np.testing.assert_array_equal(tiny.run(changed, tiny.images()), expected)


def test_a_constructor_that_drops_the_kind_is_named(metric):
    with pytest.raises(ValueError, match="WithoutKind has kind='relative.*belong to kind='metric"):
        WithoutKind.from_preset(metric[0])


def test_layers_that_the_preset_lacks_are_named(metric, caplog):
    class Wider(keras_dpt.DPTDepth):
        def __init__(self, backbone, **kwargs):
            super().__init__(backbone, **kwargs | {"head_channels": (16, 8)})

    model = Wider.from_preset(metric[0])
    assert "Wider: the preset has no weights for depth_head/conv1/bias" in caplog.text
    assert model.kind == "metric_depth"


def test_segmentation(segmentation):
    folder, expected, _ = segmentation
    model = Street.from_preset(folder)
    assert type(model) is Street
    assert model.class_names == ("sky", "road", "tree") and model.ignore_index == 9
    np.testing.assert_array_equal(tiny.run(model, tiny.images()), expected)


def test_segmentation_with_other_classes(segmentation):
    folder, _, original = segmentation
    model = Street.from_preset(folder, num_classes=2, class_names=("a", "b"))
    assert type(model) is Street and model.class_names == ("a", "b")
    assert model.ignore_index == 9
    for ours, theirs in zip(
        model.head.conv1.get_weights(), original.head.conv1.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(LabelError, match="dpt_mini_nyuv2.*preset for depth.*num_classes="):
        Street.from_preset("dpt_mini_nyuv2")


def test_fresh_weights(metric):
    model = Deeper.from_preset("dpt_mini_nyuv2", load_weights=False, gain=2.0)
    assert type(model) is Deeper and model.gain == 2.0


def test_keras_hub_finds_the_task_not_a_users_class(tmp_path):
    model = tiny.depth()
    model.save_to_preset(tmp_path / "preset")
    assert issubclass(Registered, keras_dpt.DPTDepth)
    again = keras_hub.models.DepthEstimator.from_preset(str(tmp_path / "preset"))
    assert type(again) is keras_dpt.DPTDepth
    x = (tiny.images(1, 32, 32),)
    np.testing.assert_array_equal(predict(again, x), predict(model, x))
