"""Networks are channels last, whatever Keras's default for new layers is."""

import keras
import numpy as np
import pytest
import tiny

import keras_dpt


@pytest.fixture
def channels_first():
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format("channels_last")


@pytest.mark.parametrize("encoder", tiny.ENCODER_CONFIGS)
def test_the_same_network_is_built(encoder, channels_first):
    side = 4 * tiny.encoder(encoder).unit
    images = tiny.images(2, side, side)
    ours = tiny.run(tiny.depth(encoder), images)
    keras.config.set_image_data_format("channels_last")
    np.testing.assert_array_equal(ours, tiny.run(tiny.depth(encoder), images))


@pytest.mark.parametrize(
    "task",
    [
        keras_dpt.DPTDepth,
        pytest.param(keras_dpt.DPTSegmentation, marks=pytest.mark.compiles_long),
    ],
)
def test_presets_and_files_load_and_predict(task, tmp_path, channels_first):
    preset = tiny.preset(tmp_path, task, "EfficientNetHybridEncoder")
    photo = tiny.photos(1, 64, 96)[0]
    model = task.from_preset(preset, image_size=(64, 96))
    model.save(tmp_path / "model.keras")
    predictions = [np.asarray(model.predict_image(photo))]
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    predictions.append(np.asarray(loaded.predict_image(photo)))
    keras.config.set_image_data_format("channels_last")
    model = task.from_preset(preset, image_size=(64, 96))
    predictions.append(np.asarray(model.predict_image(photo)))
    np.testing.assert_array_equal(predictions[0], predictions[1])
    np.testing.assert_array_equal(predictions[0], predictions[2])
