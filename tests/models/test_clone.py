"""`keras.models.clone_model` of tasks."""

import keras
import numpy as np
import pytest
import tiny

import keras_dpt


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("task", ["depth", "segmentation"])
def test_clone_model(task, compiled):
    if task == "depth":
        model = tiny.depth(compile=compiled, preprocessor=tiny.preprocessor())
    else:
        model = tiny.randomize(keras_dpt.DPTSegmentation(tiny.backbone(), 3, compile=compiled))
    clone = keras.models.clone_model(model)
    weights = {weight.path: weight for weight in model.weights}
    for weight in clone.weights:
        weight.assign(keras.ops.convert_to_numpy(weights[weight.path]))  # a copy of its own
    x = tiny.images()
    np.testing.assert_allclose(tiny.run(clone, x), tiny.run(model, x), rtol=1e-5)
    assert clone.compiled == compiled
    assert clone.weights[0] is not model.weights[0]


@pytest.mark.compiles_long
def test_an_optimizer_named_by_a_string_goes_on_from_a_file(tmp_path):
    model = tiny.depth(preprocessor=tiny.preprocessor((32, 32)))
    model.backbone.trainable = False  # quicker to compile
    model.compile("adam", "mae")
    x, y = tiny.photos(2, 32, 32), np.ones((2, 32, 32, 1), "float32")
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert int(loaded.optimizer.iterations) == 1
    assert keras.models.clone_model(model).compiled
