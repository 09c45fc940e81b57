"""Damaged checkpoints and presets: what they were, or one message of ours; nothing left behind."""

import copy
import json
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pytest
import tiny
import torch
from conversion.checkpoints import FakeNetwork, small_tensors, write_hf_directory
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_dpt import DPTDepth, conversion
from keras_dpt.conversion.convert import convert
from keras_dpt.errors import KerasDPTError

from .tally import attempt
from .test_files import damage

HOSTILE = [None, True, 0, -1, 1.5, 10**9, 10**30, float("nan"), float("inf"), "", "text", [], {}]
HOSTILE += [[0, 0], [None], [[[[]]]], {"a": {"b": []}}, "../x", "x" * 200_000]


def places(value, path=()):
    """Paths of all fields in JSON."""
    items = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


@st.composite
def changed(draw, data):
    """JSON in which one field has another value, or is gone."""
    data = copy.deepcopy(data)
    *path, last = draw(st.sampled_from(sorted(places(data), key=str)))
    part = data
    for key in path:
        part = part[key]
    if draw(st.booleans()) and draw(st.booleans()):
        del part[last]
    else:
        part[last] = draw(st.sampled_from(HOSTILE))
    return data


def fewer():
    """For examples that each build a network."""
    return settings(max_examples=max(6, settings().max_examples // 4))


def is_refused(error, folder):
    message = str(error)
    return Path(folder).name in message and message.count("\n") < 40


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "preset"
    tiny.depth(preprocessor=tiny.preprocessor((64, 64))).save_to_preset(str(folder))
    return folder


@pytest.mark.compiles_long
@pytest.mark.parametrize("name", ["task.json", "config.json"])
def test_presets_with_a_changed_field(preset, name):
    data = json.loads((preset / name).read_text())
    expected = DPTDepth.from_preset(str(preset)).get_weights()

    @fewer()
    @given(changed(data))
    def check(other):
        with tempfile.TemporaryDirectory() as parent:
            folder = shutil.copytree(preset, Path(parent, "preset"))
            (folder / name).write_text(json.dumps(other))
            with attempt("presets' JSON") as tried:
                try:
                    model = DPTDepth.from_preset(str(folder))
                except KerasDPTError as error:
                    tried.refused = True
                    assert is_refused(error, folder)
                else:
                    for value, whole in zip(model.get_weights(), expected, strict=True):
                        np.testing.assert_array_equal(value, whole)

    check()


@pytest.mark.compiles_long
@pytest.mark.parametrize("name", ["task.weights.h5", "model.weights.h5"])
def test_presets_with_damaged_weights(preset, name):
    content = (preset / name).read_bytes()

    @fewer()
    @given(damage(content))
    def check(damaged):
        with tempfile.TemporaryDirectory() as parent:
            folder = shutil.copytree(preset, Path(parent, "preset"))
            (folder / name).write_bytes(damaged)
            with attempt("presets' weights") as tried:
                try:
                    model = DPTDepth.from_preset(str(folder))
                except KerasDPTError as error:
                    tried.refused = True
                    assert is_refused(error, folder)
                else:  # HDF5 has no checksums: other numbers are possible, but they are numbers
                    for variable in model.weights:
                        assert np.isfinite(keras.ops.convert_to_numpy(variable)).all()

    check()


def converted(source, folder, part):
    """Convert; nothing may be left if that is refused."""
    before = sorted(Path(folder).rglob("*"))
    with attempt(part) as tried, mock.patch.object(conversion.convert, "_build", FakeNetwork):
        try:
            convert(source, Path(folder, "out"), progress=False)
        except KerasDPTError as error:
            tried.refused = True
            assert str(error)
            with tried.looking_for_remains():
                assert sorted(Path(folder).rglob("*")) == before


CONFIG = {
    "model_type": "dpt",
    "num_attention_heads": 4,
    "layer_norm_eps": 1e-12,
    "backbone_out_indices": [0, 1, 2, 3],
    "neck_ignore_stages": [],
    "readout_type": "project",
    "id2label": {"0": "a"},
}
IMAGE = {
    "size": {"height": 64, "width": 64},
    "do_normalize": True,
    "keep_aspect_ratio": True,
    "ensure_multiple_of": 32,
    "resample": 3,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


@given(changed(CONFIG), changed(IMAGE), st.integers(0, 2))
def test_hugging_face_directories(config, image, which):
    with tempfile.TemporaryDirectory() as folder:
        source = write_hf_directory(Path(folder, "hf"))
        (source / "config.json").write_text(json.dumps(CONFIG if which == 0 else config))
        image = IMAGE if which == 1 else image
        (source / "preprocessor_config.json").write_text(json.dumps(image))
        converted(source, folder, "Hugging Face directories")


def contents():
    """A checkpoint's bytes as safetensors and as PyTorch writes them."""
    from safetensors.numpy import save

    tensors = small_tensors()
    yield "safetensors", save(tensors)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.pt")
        torch.save({name: torch.tensor(x) for name, x in tensors.items()}, path)
        yield "pt", path.read_bytes()


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_damaged_checkpoints(kind):
    content = dict(contents())[kind]

    @given(damage(content))
    def check(damaged):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, f"a.{kind}").write_bytes(damaged)
            converted(Path(folder, f"a.{kind}"), folder, "checkpoints")

    check()
