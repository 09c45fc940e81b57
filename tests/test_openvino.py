"""On OpenVINO: predictions as on PyTorch, and one error for what does not work there."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

if os.environ.get("KERAS_BACKEND") != "openvino":
    pytest.skip("OpenVINO is not the backend: make test-openvino", allow_module_level=True)
pytest.importorskip("openvino", reason='needs OpenVINO: pip install ".[openvino]"')

import keras
import pytorch_reference as reference
import tiny

import keras_dpt
from keras_dpt.errors import ExportError, TrainingError
from keras_dpt.models import openvino
from keras_dpt.ops import openvino_network


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("reference") / "outputs.npz"
    environ = os.environ | {"KERAS_BACKEND": "torch"}
    script = Path(reference.__file__)
    subprocess.run([sys.executable, script, path], env=environ, check=True, timeout=300)
    return dict(np.load(path))


@pytest.fixture(scope="module")
def depth():
    return reference.depth_preset()


def assert_close(actual, wanted, tolerance=1e-5):
    assert actual.shape == wanted.shape and actual.dtype == wanted.dtype
    np.testing.assert_allclose(actual, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


def photo():
    return tiny.photos(1, 90, 120)[0]


@pytest.mark.parametrize("encoder", tiny.ENCODER_CONFIGS)
def test_every_encoder_predicts_as_on_pytorch(encoder, expected):
    images = tiny.images(2, *reference.size_of(encoder))
    assert_close(tiny.run(tiny.depth(encoder), images), expected[encoder])


def test_presets_predict_as_on_pytorch(depth, expected):
    assert_close(depth.predict_image(photo()).values, expected["relative"])
    labels = reference.segmentation_preset()
    assert_close(labels.predict(photo()[None], verbose=0), expected["logits"])
    assert (labels.predict_image(photo()).labels == expected["labels"]).mean() > 0.999


def test_photos_of_several_sizes_and_arrays(depth):
    photos = [photo(), tiny.photos(1, 120, 90)[0], photo()]
    together = depth.predict_images(photos, batch_size=2)
    for x, result in zip(photos, together, strict=True):
        np.testing.assert_array_equal(result.values, depth.predict_image(x).values)
    arrays = np.stack([photo()] * 3)
    outputs = depth.predict(arrays, batch_size=2, verbose=0)
    assert outputs.shape[0] == 3
    np.testing.assert_array_equal(outputs[0], outputs[2])


def test_precision_is_that_of_the_layers(depth, monkeypatch):
    """Without being told, OpenVINO takes bfloat16 where the CPU has it."""
    import openvino as runtime

    options = []
    compile_model = runtime.compile_model

    def compiled(network, device, given):
        options.append(given)
        return compile_model(network, device, given)

    monkeypatch.setattr(runtime, "compile_model", compiled)
    images = tiny.images(1, 32, 64)
    single = tiny.run(tiny.depth(), images)
    half = tiny.depth(tiny.backbone(dtype="mixed_bfloat16"))
    rounded = tiny.run(half, images)
    assert [x["INFERENCE_PRECISION_HINT"] for x in options] == ["f32", "bf16"]
    assert rounded.dtype == "float32"
    assert_close(rounded, single, 0.1)


def test_new_weights_are_used():
    model, images = tiny.depth(), tiny.images(1, 32, 64)
    before = tiny.run(model, images)
    model.set_weights([w * 1.1 for w in model.get_weights()])
    assert np.abs(tiny.run(model, images) - before).max() > 1e-3 * np.abs(before).max()


def test_few_sizes_are_kept_compiled():
    model = tiny.depth("ResNetEncoder")
    sizes = [(32, 32 * n) for n in range(1, openvino_network.KEPT + 2)]
    first, *_ = outputs = [tiny.run(model, tiny.images(1, *size)) for size in sizes]
    assert [x.shape[1:3] for x in outputs] == sizes
    assert len(openvino._networks[model]._compiled) == openvino_network.KEPT
    np.testing.assert_array_equal(tiny.run(model, tiny.images(1, *sizes[0])), first)


def test_threads_share_a_network(depth):
    wanted, found = depth.predict_image(photo()).values, {}

    def predict(i):
        found[i] = depth.predict_image(photo()).values

    threads = [threading.Thread(target=predict, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for values in found.values():
        np.testing.assert_array_equal(values, wanted)
    assert len(found) == 3


def test_saved_models_load(tmp_path):
    model = tiny.depth(preprocessor=tiny.preprocessor())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(*(m.predict_image(photo()).values for m in (loaded, model)))
    pyramid = model.backbone.predict(tiny.images(2, 32, 64), verbose=0)
    assert pyramid["P1"].shape == (2, 16, 32, 16)


def test_training_names_the_backends_that_train():
    model = tiny.depth()
    images, targets = tiny.images(), np.ones((2, 64, 64, 1), "float32")
    needs = "needs TensorFlow, JAX or PyTorch; KERAS_BACKEND is openvino"
    for call in (model.fit, model.evaluate, model.train_on_batch, model.test_on_batch):
        with pytest.raises(TrainingError, match=f"`{call.__name__}` {needs}"):
            call(images, targets)
    with pytest.raises(TrainingError, match=needs):
        model.backbone.fit(images, targets)
    with pytest.raises(TrainingError, match=f"LoRA {needs}"):
        model.backbone.enable_lora(2)
    with pytest.raises(TrainingError, match=f"Gradient checkpointing {needs}"):
        model.backbone.enable_gradient_checkpointing()
    with pytest.raises(TrainingError, match=needs), keras_dpt.training.distributed(False):
        pass
    with pytest.raises(TrainingError, match=needs):
        keras_dpt.training.fit_metric(model, [(images, targets)])


def test_export_names_the_backends_that_export(tmp_path):
    for form, suffix in (("onnx", ".onnx"), ("openvino", ".xml"), ("litert", ".tflite")):
        with pytest.raises(ExportError, match="Use KERAS_BACKEND=tensorflow"):
            keras_dpt.export.export_model(tiny.depth(), tmp_path / f"file{suffix}", form)
    assert not list(tmp_path.iterdir())
