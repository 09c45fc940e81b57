"""Real files, in their runtimes: every format that the backend exports, on tiny networks."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tiny
from PIL import Image

import keras_dpt
from keras_dpt.errors import ExportError
from keras_dpt.export import export_model, load_exported
from keras_dpt.export.formats import FORMATS, PAIRS
from keras_dpt.export.parity import pictures, relative_error

pytestmark = pytest.mark.slow

BACKEND = keras.backend.backend()
MINE = [form for backend, form in PAIRS if backend == BACKEND]
EXAMPLE = Path(__file__).parents[2] / "examples" / "run_exported.py"
# The example, in a Python that has neither Keras nor this package.
ALONE = """
import runpy, sys
sys.modules["keras"] = sys.modules["keras_dpt"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def segmentation():
    backbone = tiny.backbone("ViTHybridEncoder", use_batch_norm=True)
    return tiny.randomize(keras_dpt.DPTSegmentation(backbone, 3))


def metric():
    return tiny.depth(kind="metric_depth", scale=0.01, shift=0.1)


def require(form):
    for package in (FORMATS[form].runtime, *PAIRS[BACKEND, form].packages):
        pytest.importorskip(package)


# The hybrid comes in free sizes below, which is the harder case, and here where it cannot.
FIXED = [(form, metric) for form in MINE]
FIXED += [(form, segmentation) for form in MINE if not PAIRS[BACKEND, form].dynamic]


@pytest.mark.parametrize("form, make", FIXED)
def test_files_of_one_size(form, make, tmp_path):
    require(form)
    path = tmp_path / f"network{FORMATS[form].suffix}"
    model = make()
    about = export_model(model, path, form, image_size=(64, 96))
    checks = about["parity"]["checks"]
    assert [check["input_shape"] for check in checks] == [[1, 64, 96, 3], [2, 64, 96, 3]]
    assert max(check["max_relative_error"] for check in checks) < 1e-5
    # The measurement itself, by other means and in another batch size.
    images = pictures((3, 64, 96, 3), seed=1)
    expected = keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(images)))
    run = load_exported(path, form)
    assert relative_error(run(images), expected) < 1e-5
    with pytest.raises(Exception):  # noqa: B017  each runtime has its own
        run(pictures((1, 96, 96, 3)))


@pytest.mark.parametrize("make", [tiny.depth, segmentation])
@pytest.mark.parametrize("form", [form for form in MINE if PAIRS[BACKEND, form].dynamic])
def test_files_of_free_sizes(form, make, tmp_path):
    require(form)
    path = tmp_path / f"network{FORMATS[form].suffix}"
    model = make()
    model.preprocessor = None
    about = export_model(model, path, form)
    checks = about["parity"]["checks"]
    assert len({tuple(check["input_shape"]) for check in checks}) == 4
    assert max(check["max_relative_error"] for check in checks) < 1e-5
    run = load_exported(path, form)
    images = pictures((1, 32, 64, 3), seed=1)
    expected = keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(images)))
    assert relative_error(run(images), expected) < 1e-5


def test_a_wrong_file_is_found_and_removed(tmp_path, monkeypatch):
    form = next(iter(MINE), None) or pytest.skip("this backend exports nothing")
    require(form)
    model = tiny.depth()
    from keras_dpt.export import writers

    def write(model, form, path, shape, real=writers.write):
        kernel = model.head.conv3.kernel
        kept = keras.ops.convert_to_numpy(kernel)
        kernel.assign(kept * 1.001)
        real(model, form, path, shape)
        kernel.assign(kept)

    monkeypatch.setattr(writers, "write", write)
    with pytest.raises(ExportError, match="results of the exported file differ"):
        export_model(model, tmp_path / f"network{FORMATS[form].suffix}", form, image_size=(64, 96))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(BACKEND != "tensorflow", reason="one backend is enough")
@pytest.mark.parametrize("preset", ["dpt_mini_nyuv2", "dpt_mini_camvid"])
def test_an_embedded_preset_runs_without_keras(preset, tmp_path):
    require("onnx")
    task = keras_dpt.DPTSegmentation if "camvid" in preset else keras_dpt.DPTDepth
    model = task.from_preset(preset)
    export_model(model, tmp_path / "network.onnx", "onnx")
    photo = tmp_path / "photo.png"
    Image.fromarray(tiny.photos(1, 150, 230)[0]).save(photo)
    command = [sys.executable, "-c", ALONE, str(EXAMPLE), str(tmp_path / "network.onnx")]
    subprocess.run([*command, str(photo), str(tmp_path / "out.npy")], check=True)
    values = np.load(tmp_path / "out.npy")
    prediction = model.predict_image(photo)
    if task is keras_dpt.DPTDepth:
        assert relative_error(values, prediction.values) < 1e-4
    else:
        assert np.mean(values != prediction.labels) < 1e-3  # ties
        about = json.loads((tmp_path / "network.onnx.json").read_text(encoding="utf-8"))
        assert tuple(about["output"]["class_names"]) == prediction.class_names
