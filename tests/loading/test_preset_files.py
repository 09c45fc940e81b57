"""A preset directory is whole and of numbers, or it is refused; by every way that loads it."""

import json
import shutil

import h5py
import keras
import keras_hub
import numpy as np
import pytest
import tiny

from keras_dpt import DPTBackbone, DPTDepth
from keras_dpt.cli import main
from keras_dpt.errors import WeightsError
from keras_dpt.loading.preset_files import ARGUMENTS
from keras_dpt.schema import checked

NAN, HUGE = float("nan"), 10**9
GONE = object()  # the field is not there


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A tiny model and its preset directory, not to be changed."""
    model = tiny.depth(preprocessor=tiny.preprocessor((64, 96)))
    folder = tmp_path_factory.mktemp("saved") / "preset"
    model.save_to_preset(str(folder))
    return model, folder


@pytest.fixture
def preset(saved, tmp_path):
    return shutil.copytree(saved[1], tmp_path / "preset")


WAYS = {
    "task": DPTDepth.from_preset,
    "backbone": DPTBackbone.from_preset,
    "keras-hub": keras_hub.models.DepthEstimator.from_preset,
}


def error_of(folder, load=DPTDepth.from_preset):
    with pytest.raises(WeightsError) as caught:
        load(str(folder))
    assert "preset" in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("way", WAYS)
def test_a_whole_preset_loads_bit_for_bit(saved, preset, way):
    model, _ = saved
    loaded = WAYS[way](str(preset))
    ours = model.backbone if way == "backbone" else model
    for found, variable in zip(loaded.weights, ours.weights, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(found), keras.ops.convert_to_numpy(variable)
        )


@pytest.mark.compiles_long
@pytest.mark.parametrize("name", tiny.ENCODER_CONFIGS)
def test_configs_of_all_encoders_are_what_is_expected(name):
    config = json.loads(json.dumps(tiny.encoder(name).get_config()))
    assert checked(config, ARGUMENTS, name, WeightsError) is config


@pytest.mark.compiles_long
def test_windows_and_their_amount(tmp_path):
    model = tiny.depth("Swin2Encoder", preprocessor=tiny.preprocessor((64, 64)))
    folder = tmp_path / "preset"
    model.save_to_preset(str(folder))
    loaded = DPTDepth.from_preset(str(folder))
    for found, variable in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(found), keras.ops.convert_to_numpy(variable)
        )
    text = (folder / "config.json").read_text()
    assert '"embed_dim": 8' in text
    for file in ("config.json", "task.json"):
        text = (folder / file).read_text().replace('"embed_dim": 8', '"embed_dim": 60000')
        (folder / file).write_text(text)
    assert "describes a network of at least" in error_of(folder)


@pytest.mark.parametrize("way", ["task", "keras-hub"])
@pytest.mark.parametrize("name", ["task.weights.h5", "task.json"])
def test_no_head_is_random_for_lack_of_a_file(preset, name, way):
    (preset / name).unlink()
    assert "incomplete" in error_of(preset, WAYS[way])


@pytest.mark.parametrize("way", ["task", "backbone"])
def test_a_backbone_is_not_random_either(preset, way):
    (preset / "model.weights.h5").unlink()
    assert "model.weights.h5" in error_of(preset, WAYS[way])


def test_a_configuration_alone_can_be_built(preset):
    for file in preset.glob("*.h5"):
        file.unlink()
    assert DPTDepth.from_preset(str(preset), load_weights=False).count_params()


@pytest.mark.parametrize("name", ["task.weights.h5", "model.weights.h5"])
@pytest.mark.parametrize("part", [0, 1, 0.5, 0.99])
def test_weights_that_are_cut_off(preset, name, part):
    content = (preset / name).read_bytes()
    (preset / name).write_bytes(content[: int(part * len(content)) if part < 1 else 1])
    assert name in error_of(preset)


def test_weights_that_lack_a_layer(preset):
    for name in ("task.weights.h5", "model.weights.h5"):
        with h5py.File(preset / name, "a") as file:
            del file[file.visititems(lambda n, item: n if hasattr(item, "shape") else None)]
        error_of(preset)


def test_weights_that_are_elsewhere(preset, tmp_path):
    path = preset / "task.weights.h5"
    shutil.copy(path, tmp_path / "other.h5")
    with h5py.File(path, "a") as file:
        group = next(iter(file))
        del file[group]
        file[group] = h5py.ExternalLink(str(tmp_path / "other.h5"), group)
    assert "is a link" in error_of(preset)


def test_weights_that_promise_more_than_the_file_holds(preset):
    path = preset / "model.weights.h5"
    with h5py.File(path, "a") as file:
        file.create_dataset("more", shape=(10**6, 10**6), dtype="float32", chunks=(100, 100))
    assert path.stat().st_size < 10**7
    assert "does not hold all of /more" in error_of(preset)


@pytest.mark.parametrize("value", [NAN, np.inf, -np.inf])
@pytest.mark.parametrize("way", ["task", "keras-hub"])
def test_weights_are_numbers(saved, tmp_path, value, way):
    model = tiny.depth(preprocessor=tiny.preprocessor((64, 96)))
    for part, variable in (
        ("task", model.head.weights[0]),
        ("model", model.backbone.weights[3]),
    ):
        whole = keras.ops.convert_to_numpy(variable)
        bad = whole.copy()
        bad.flat[-1] = value
        variable.assign(bad)
        folder = tmp_path / f"preset_{part}_{way}"
        model.save_to_preset(str(folder))
        message = error_of(folder, WAYS[way])
        name = variable.path.partition("/")[2]
        assert f"{part}.weights.h5 holds weights that are NaN or infinite" in message
        assert name in message
        variable.assign(whole)


def test_weights_whose_squares_are_too_large_are_numbers_all_the_same(tmp_path):
    from keras_dpt.models.finite import all_finite

    for dtype in ("float16", "float32", "float64"):
        array = np.full((3, 4), np.finfo(dtype).max, dtype)
        assert all_finite(array) and all_finite(array.T)
        array[1, 2] = np.inf
        assert not all_finite(array)


# Places in a preset's JSON, and values that were taken or ended in a traceback.
HOSTILE = [
    ("image_converter", "image_size", [0, 0]),
    ("image_converter", "image_size", [64]),
    ("image_converter", "multiple_of", -32),
    ("image_converter", "multiple_of", 2.5),
    ("image_converter", "mean", NAN),
    ("image_converter", "std", 0),
    ("image_converter", "std", [0.5, 0.5]),
    ("image_converter", "keep_aspect_ratio", "yes"),
    ("image_converter", "resize", 7),
    ("image_encoder", "hidden_dim", GONE),
    ("image_encoder", "num_heads", 0),
    ("image_encoder", "num_heads", 5),
    ("image_encoder", "hidden_dim", HUGE),
    ("image_encoder", "hidden_dim", 60000),
    ("image_encoder", "mlp_dim", 1 << 20),
    ("image_encoder", "mlp_dim", "wide"),
    ("image_encoder", "position_grid", [4096, 4096]),
    ("image_encoder", "position_grid", 7),
    ("image_encoder", "out_indices", [0, 1]),
    ("image_encoder", "out_indices", {"a": 1}),
    ("image_encoder", "layer_norm_epsilon", "small"),
    ("image_encoder", "layer_norm_epsilon", NAN),
    ("image_encoder", "patch_size", 0),
    ("image_encoder", "patch_size", None),
    ("backbone", "fusion_channels", 60000),
    ("backbone", "reassemble_channels", [HUGE] * 4),
    ("backbone", "readout", 7),
    ("backbone", "image_shape", [None, None]),
    ("task", "head_channels", [60000, 60000]),
    ("task", "head_channels", "wide"),
    ("task", "kind", []),
    ("task", "scale", "far"),
]


def objects(value, key=None):
    """`(key, constructor arguments)` of all objects in a serialised one."""
    if isinstance(value, dict):
        if isinstance(value.get("config"), dict):
            yield key, value["config"]
        for name, item in value.items():
            yield from objects(item, key if name == "config" else name)


@pytest.mark.parametrize("place, field, value", HOSTILE)
def test_configurations_make_sense(preset, place, field, value):
    file = preset / "task.json"
    data = json.loads(file.read_text())
    for key, config in objects(data, "task"):
        if key == place:
            assert field in config
            config[field] = value
            if value is GONE:
                del config[field]
    file.write_text(json.dumps(data))
    error_of(preset)


CONTENTS = ["", "{", "[]", "7", "null", '"text"', "{}", "[" * 100_000, '{"a":' * 100_000]
CONTENTS += ['{"registered_name": 7}', '{"registered_name": "keras_dpt>DPTDepth", "config": []}']
CONTENTS += ['{"registered_name": "keras_dpt>Nothing", "class_name": "x", "config": {}}']


@pytest.mark.parametrize("name", ["config.json", "task.json", "preprocessor.json"])
@pytest.mark.parametrize("content", CONTENTS, ids=lambda text: text[:40])
def test_files_that_hold_something_else(preset, name, content):
    (preset / name).write_text(content)
    if name == "preprocessor.json" and content in ("{}",):
        return  # the task's own is used
    for way in ("task", "backbone"):
        try:
            WAYS[way](str(preset))
        except (WeightsError, ValueError) as error:
            assert "preset" in str(error)  # the folder's name
        else:
            # A file that this class does not read.
            assert way == "backbone" or name == "preprocessor.json"


def test_shards_stay_in_their_folder(preset):
    (preset / "model.weights.h5").rename(preset.parent / "outside.weights.h5")
    for name in ("../outside.weights.h5", str(preset.parent / "outside.weights.h5"), "none.h5", 7):
        index = {"weight_map": {"/layers/x": name}}
        (preset / "model.weights.json").write_text(json.dumps(index))
        assert "model.weights.json" in error_of(preset)


def test_the_command_line_predicts_with_no_random_head(preset, tmp_path, capsys):
    from PIL import Image

    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    command = ["depth", str(tmp_path / "photo.png"), "-o", str(tmp_path / "out"), "--preset"]
    (preset / "task.weights.h5").unlink()
    assert main([*command, str(preset)]) == 2
    assert "incomplete" in capsys.readouterr().err
    (preset / "task.json").unlink()  # a backbone's preset now
    assert main([*command, str(preset)]) == 2
    assert "no head" in capsys.readouterr().err
    assert main([*command, "~nobody_of_this_name/x"]) == 2
    assert "no home directory" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*"))


def test_without_a_home(monkeypatch):
    from pathlib import Path

    from keras_dpt.weights.originals import cache_directory

    def homeless(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("KERAS_DPT_CACHE", raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(WeightsError, match="KERAS_DPT_CACHE"):
        cache_directory()
