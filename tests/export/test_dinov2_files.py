"""Real files of networks on DINOv2: patch 14, positions resized as Depth Anything does."""

import keras
import numpy as np
import pytest
import tiny

import keras_dpt
from keras_dpt.export import export_model, load_exported
from keras_dpt.export.formats import FORMATS, PAIRS
from keras_dpt.export.parity import pictures, relative_error

pytestmark = pytest.mark.slow

BACKEND = keras.backend.backend()
MINE = [form for backend, form in PAIRS if backend == BACKEND]
SIZES = [(56, 84), (70, 42)]  # an even and an odd grid


def relative():
    """As Depth Anything's relative presets, with registers."""
    encoder = tiny.encoder("DINOv2Encoder", position_offset=0.1)
    return _with_preprocessor(tiny.depth(tiny.backbone(encoder)))


def metric():
    """As its metric presets."""
    return _with_preprocessor(tiny.depth("DINOv2Encoder", max_depth=20))


def padded():
    """As DINOv2's own depth heads."""
    output_layer = keras_dpt.Clamped(0.001, 10.0, 0.001, dtype="float32")
    return _with_preprocessor(
        tiny.depth("DINOv2Encoder", output_layer=output_layer, head_size="double")
    )


def _with_preprocessor(model):
    model.preprocessor = tiny.preprocessor((56, 56), multiple_of=14, size_rule="lower_bound")
    return model


@pytest.mark.parametrize("make", [relative, metric, padded])
@pytest.mark.parametrize("form", MINE)
def test_files(form, make, tmp_path):
    """One file of free sizes where the format has it, otherwise one for each size."""
    for package in (FORMATS[form].runtime, *PAIRS[BACKEND, form].packages):
        pytest.importorskip(package)
    model = make()
    free = PAIRS[BACKEND, form].dynamic
    for number, size in enumerate(SIZES):
        path = tmp_path / f"network{0 if free else number}{FORMATS[form].suffix}"
        if not (free and number):
            about = export_model(model, path, form, image_size=None if free else size)
            assert max(x["max_relative_error"] for x in about["parity"]["checks"]) < 1e-4
            assert about["output"]["kind"] == model.kind
        images = pictures((2, *size, 3), seed=number)
        expected = keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(images)))
        found = np.asarray(load_exported(path, form)(images))
        assert found.shape == expected.shape == (2, *size, 1)
        assert np.ptp(expected) > 0 and relative_error(found, expected) < 1e-4
