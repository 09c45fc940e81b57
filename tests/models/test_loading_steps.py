"""Steps of loading and rebuilding, with stand-ins for networks: quick on any backend."""

from types import SimpleNamespace

import keras
import keras_hub
import numpy as np
import pytest

from keras_dpt import DPTBackbone, DPTDepth, DPTSegmentation
from keras_dpt.encoders import ENCODERS
from keras_dpt.errors import LabelError
from keras_dpt.models.depth import _with_max_depth
from keras_dpt.models.from_preset import TaskFromPreset, _divided
from keras_dpt.models.rebuilding import _made, _take_weights
from keras_dpt.models.sizes import check_size_of_network, set_sizes
from keras_dpt.presets import read_preset


def test_an_architecture_names_all_parts(monkeypatch):
    monkeypatch.setitem(ENCODERS, "Small", lambda **kwargs: kwargs)
    architecture = {
        "encoder": "Small",
        "encoder_config": {"width": 3},
        "backbone_config": {"readout": "add", "fusion_channels": 8},
    }

    class Recorded(DPTBackbone):
        def __new__(cls, encoder, **kwargs):
            return encoder, kwargs

    preset = {"architecture": architecture}
    encoder, backbone = Recorded.from_architecture(preset, "float16", readout="ignore")
    assert encoder == {"width": 3, "dtype": "float16"}
    assert backbone == {"readout": "ignore", "fusion_channels": 8, "dtype": "float16"}


def test_names_and_colours_are_of_the_presets_own_classes():
    preset = read_preset("dpt_mini_camvid")
    task = preset["architecture"]["task_config"]
    names = {key: preset["output"][key] for key in ("class_names", "palette")}
    assert task["num_classes"] == len(names["class_names"])
    assert DPTSegmentation.arguments_from(preset, {}) == task | names
    same = {"num_classes": task["num_classes"]}
    assert DPTSegmentation.arguments_from(preset, same) == task | names
    assert DPTSegmentation.arguments_from(preset, {"num_classes": 3}) == task


def test_a_config_holds_all_arguments_of_the_task(monkeypatch):
    settings = dict.fromkeys(("class_names", "palette"), "any") | {"num_classes": 3, "dropout": 0.1}
    settings |= {"auxiliary": True, "auxiliary_weight": 0.4, "ignore_index": 255}
    monkeypatch.setattr(keras_hub.models.Task, "get_config", lambda self: {"name": "x"})
    model = object.__new__(DPTSegmentation)
    vars(model).update(settings)
    assert model.get_config() == settings | {"name": "x"}


def test_metres_up_to_a_largest_depth_are_float32_under_any_policy():
    usual = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = _with_max_depth(None, 20, "")
    finally:
        keras.config.set_dtype_policy(usual)
    assert (layer.max_depth, layer.compute_dtype) == (20, "float32")


@pytest.fixture
def loaded(monkeypatch):
    """What keras-hub would be asked for: `DPTSegmentation._loaded` of presets of another task."""
    monkeypatch.setattr(TaskFromPreset, "_loaded", classmethod(lambda cls, *a, **k: (a, k)))
    monkeypatch.setattr("keras_dpt.models.tasks.task_of", lambda preset: DPTDepth)
    return DPTSegmentation._loaded


@pytest.mark.parametrize("load_weights", [True, False])
def test_a_backbone_of_another_task_comes_with_its_weights(loaded, load_weights):
    found = loaded("dpt_large", load_weights, num_classes=5, dropout=0.3)
    assert found == (("dpt_large", load_weights), {"num_classes": 5, "dropout": 0.3})
    with pytest.raises(LabelError, match="is a preset for depth.*Pass num_classes="):
        loaded("dpt_large", load_weights)


def test_a_preset_of_the_task_is_loaded_with_its_classes(loaded, monkeypatch):
    monkeypatch.setattr("keras_dpt.models.tasks.task_of", lambda preset: DPTSegmentation)
    assert loaded("mine") == (("mine", True), {})
    assert loaded("mine", False) == (("mine", False), {})
    assert loaded("mine", False, num_classes=2) == (("mine", False), {"num_classes": 2})


# --- weights that are taken over ---


class Weight:
    def __init__(self, path, value):
        self.path, self.value = path, np.array(value, "float32")
        self.shape = self.value.shape

    def assign(self, value):
        self.value = value


def network(*weights):
    """A task of these weights, the first of which is its backbone's."""
    return SimpleNamespace(weights=list(weights), backbone=SimpleNamespace(weights=weights[:1]))


def test_weights_outside_of_the_backbone_are_taken_over_by_path_and_shape(caplog):
    old = network(
        Weight("a", [1]), Weight("head/conv1/kernel", [2]), Weight("head/conv2/bias", [3])
    )
    new = network(
        Weight("a", [0]), Weight("head/conv1/kernel", [0]), Weight("head/conv2/bias", [0])
    )
    _take_weights(new, old, fresh=("conv2",))
    assert [float(weight.value[0]) for weight in new.weights] == [0, 2, 0]
    assert not caplog.records
    more = [Weight("b/gain", [0]), Weight("head/conv2/bias", [0, 0])]
    new = network(Weight("a", [0]), Weight("head/conv1/kernel", [0]), *more)
    _take_weights(new, old, fresh=())
    assert [weight.value.sum() for weight in new.weights] == [0, 2, 0, 0]
    assert "no weights for b/gain, head/conv2/bias; train them first" in caplog.text


def test_what_a_constructor_sets_by_itself_is_left_to_it(caplog):
    class Own:
        @classmethod
        def from_config(cls, config):
            return cls(**config)

        def __init__(self, backbone, **kwargs):
            self.settings = dict(kind="metric", **kwargs)

    own = _made(Own, {"backbone": 1, "kind": "relative", "scale": 2}, changes={})
    assert own.settings == {"kind": "metric", "scale": 2}
    assert "Own sets kind; the preset's is 'relative'" in caplog.text
    for arguments, changes in (({"backbone": 1, "kind": "relative"}, {"kind": 1}), ({}, {})):
        with pytest.raises(TypeError):
            _made(Own, arguments, changes)


def test_arguments_of_a_subclass_are_its_own():
    given = {"dtype": "float16", "num_classes": 3, "gain": 2, "kind": "metric_depth"}
    assert _divided(given, True) == (given, {})
    loading, own = _divided(given, False)
    assert loading == {"dtype": "float16", "num_classes": 3}
    assert own == {"gain": 2, "kind": "metric_depth"}


# --- sizes ---


def task(size=None, shape=(None, None)):
    converter = SimpleNamespace(image_size=size, keep_aspect_ratio=True)
    backbone = SimpleNamespace(input=SimpleNamespace(shape=(None, *shape, 3)))
    return SimpleNamespace(
        preprocessor=SimpleNamespace(image_converter=converter), backbone=backbone
    )


@pytest.mark.parametrize(
    ("image_size", "image_shape", "expected", "keeps"),
    [
        (None, None, (64, 96), True),
        ((32, 48), None, (32, 48), True),
        (32, None, (32, 32), True),
        (None, (128, 160, 3), (128, 160), False),
        (None, (128, None, 3), (128, 96), False),
        ((128, 32), (128, None, 3), (128, 32), False),
        (None, (None, None, 3), (64, 96), True),
    ],
)
def test_sizes_go_together(image_size, image_shape, expected, keeps):
    model = task((64, 96))
    set_sizes(model, image_size, image_shape)
    converter = model.preprocessor.image_converter
    assert (converter.image_size, converter.keep_aspect_ratio) == (expected, keeps)


def test_sizes_that_do_not():
    with pytest.raises(ValueError, match=r"agree. Received: image_size=\(64, 64\), image_shape="):
        set_sizes(task(), (64, 64), (64, 128, 3))
    bare = SimpleNamespace(preprocessor=None)
    set_sizes(bare, None, (64, 64, 3))
    with pytest.raises(ValueError, match="there is no preprocessor"):
        set_sizes(bare, 64)
    own = task(None)
    set_sizes(own, None, (64, 128, 3))
    assert own.preprocessor.image_converter.image_size == (64, 128)


def test_a_network_of_one_size_is_not_given_another():
    check_size_of_network(task(), [(1, 2, 3), (5, 6, 3)])
    check_size_of_network(task(shape=(64, None)), [(64, 2, 3), (64, 6, 3)])
    with pytest.raises(ValueError, match="images of 64 x any .* makes 32 x 64 of this one"):
        check_size_of_network(task(shape=(64, None)), [(64, 2, 3), (32, 64, 3)])
