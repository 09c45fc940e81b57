"""Sizes, and names of arguments, that `from_preset` takes."""

import keras
import numpy as np
import pytest
import tiny

import keras_dpt
from keras_dpt.errors import LabelError
from keras_dpt.models.sizes import checked_size

TASKS = [keras_dpt.DPTDepth, keras_dpt.DPTSegmentation]


@pytest.mark.parametrize("load_weights", [True, False])
@pytest.mark.parametrize("task", TASKS)
def test_image_size_is_the_preprocessors(task, load_weights, tmp_path):
    preset = tiny.preset(tmp_path, task, "EfficientNetHybridEncoder")
    model = task.from_preset(preset, load_weights, image_size=(64, 96))
    assert model.preprocessor.image_size == (64, 96)
    assert model.predict_image(tiny.photos(1, 32, 48)[0]).shape == (32, 48)


@pytest.mark.parametrize(
    ("task", "load_weights"),
    [
        (TASKS[0], True),
        *(
            pytest.param(task, load, marks=pytest.mark.compiles_long)
            for task, load in ((TASKS[0], False), (TASKS[1], True), (TASKS[1], False))
        ),
    ],
)
def test_image_shape_is_the_preprocessors_too(task, load_weights, tmp_path):
    preset = tiny.preset(tmp_path, task, "EfficientNetHybridEncoder")
    model = task.from_preset(preset, load_weights, image_shape=(128, 64, 3))
    assert model.preprocessor.image_size == (128, 64)
    assert model.backbone.image_shape == (128, 64, 3)
    photos = [tiny.photos(1, 40, 80)[0], tiny.photos(1, 80, 30)[0]]
    assert [x.shape for x in model.predict_images(photos)] == [(40, 80), (80, 30)]
    assert model.predict(tiny.photos(2, 40, 80), verbose=0).shape[1:3] == (128, 64)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    # TensorFlow traced the first one for other batches, and such a graph may round otherwise.
    ours, theirs = loaded.predict_image(photos[0]), model.predict_image(photos[0])
    if hasattr(ours, "labels"):
        np.testing.assert_array_equal(ours, theirs)
    else:
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    model.preprocessor.image_size = (64, 64)
    with pytest.raises(ValueError, match=r"for images of 128 x 64 .* makes 64 x 64 of this one"):
        model.predict_image(photos[0])


def test_sizes_that_contradict_each_other():
    with pytest.raises(ValueError, match=r"agree. Received: image_size=\(64, 64\)"):
        keras_dpt.DPTDepth.from_preset(
            "dpt_mini_nyuv2", image_size=(64, 64), image_shape=(128, 128, 3)
        )
    with pytest.raises(ValueError, match="there is no preprocessor"):
        keras_dpt.DPTDepth.from_preset("dpt_mini_nyuv2", image_size=(64, 64), preprocessor=None)


@pytest.mark.parametrize(
    ("size", "hint"),
    [
        ((64, 64, 3), "Leave out the channels"),
        ((0, 64), r"\(0, 64\)"),
        ((64.0, 64), r"\(64.0, 64\)"),
        ("64x64", "'64x64'"),
        ((True, 64), r"\(True, 64\)"),
    ],
)
def test_sizes_that_are_none(size, hint):
    with pytest.raises(ValueError, match=hint):
        tiny.preprocessor().image_size = size
    with pytest.raises(ValueError, match="two whole numbers"):
        keras_dpt.DPTImageConverter(size)


def test_sizes_that_are_taken():
    assert checked_size([64, np.int64(96)]) == (64, 96)
    assert checked_size(np.array([64, 96])) == (64, 96)
    preprocessor = tiny.preprocessor()
    preprocessor.image_size = None
    assert preprocessor.image_size is None


@pytest.mark.parametrize(
    ("cls", "preset", "name", "meant"),
    [
        (keras_dpt.DPTDepth, "dpt_mini_nyuv2", "img_size", "image_size"),
        (keras_dpt.DPTDepth, "dpt_mini_nyuv2", "input_shape", "image_shape"),
        (keras_dpt.DPTSegmentation, "dpt_mini_camvid", "n_classes", "num_classes"),
        (keras_dpt.DPTSegmentation, "dpt_mini_camvid", "drop_out", "dropout"),
        (keras_dpt.DPTBackbone, "dpt_mini_nyuv2", "image_size", "image_shape"),
    ],
)
def test_unknown_arguments_are_named_with_the_nearest(cls, preset, name, meant):
    message = f"^{cls.__name__} takes no argument '{name}'. Did you mean '{meant}'"
    for load_weights in (True, False):
        with pytest.raises(TypeError, match=message) as caught:
            cls.from_preset(preset, load_weights, **{name: 1})
        assert len(str(caught.value)) < 400
    if cls is not keras_dpt.DPTBackbone and name != "img_size":
        with pytest.raises(TypeError, match=f"takes no argument '{name}'"):
            cls(tiny.backbone(), **{name: 1})


def test_wrong_values_are_said_without_a_config():
    with pytest.raises(ValueError, match="^`kind` must be one of") as caught:
        keras_dpt.DPTDepth.from_preset("dpt_mini_nyuv2", kind="metres")
    assert len(str(caught.value)) < 200


def test_a_depth_preset_has_no_segmentation_head():
    with pytest.raises(LabelError, match="'dpt_large' is a preset for depth.*dpt_large_ade20k"):
        keras_dpt.DPTSegmentation.from_preset("dpt_large")  # before anything is fetched
    model = keras_dpt.DPTSegmentation.from_preset("dpt_mini_nyuv2", num_classes=3)
    assert tiny.run(model, tiny.images()).shape[-1] == 3


def test_masked_images_are_refused():
    model = tiny.depth(preprocessor=tiny.preprocessor())
    x = np.ma.masked_equal(tiny.photos(), 100)
    with pytest.raises(keras_dpt.ImageError, match="values are masked. Fill them first"):
        model.predict(x)
    with pytest.raises(keras_dpt.ImageError, match="values are masked. Fill them first"):
        model.predict_image(x[0])
