"""`import keras_dpt` is quick and complete: it brings nothing heavy, and Keras loads files."""

import ast
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tiny

import keras_dpt
from keras_dpt import registration

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "keras_dpt"
# Where classes were whose modules have moved since; files of then name these modules.
MOVED = {
    "keras_dpt.models.image_converter": "keras_dpt.image_converter",
    "keras_dpt.models.preprocessor": "keras_dpt.preprocessor",
    "keras_dpt.optimizers": "keras_dpt.training.optimizers",
}


def run(script, *arguments):
    """Run Python in a process of its own that imports this checkout; returns what it prints."""
    paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


LIGHT = """
import sys

before = set(sys.modules)
import keras_dpt

assert set(keras_dpt.__all__) <= set(dir(keras_dpt))
assert issubclass(keras_dpt.ExportError, keras_dpt.KerasDPTError)
keras_dpt.list_presets
new = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
assert new == {"keras_dpt"}, new
keras_dpt.DepthMap, keras_dpt.LabelMap, keras_dpt.depth_to_points
assert "keras" not in sys.modules and "tensorflow" not in sys.modules

import keras_hub  # brings Keras: the classes are registered with it

before = set(sys.modules)
keras_dpt.DPTDepth, keras_dpt.DPTSegmentation
new = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
assert new <= {"keras_dpt", "PIL"}, new
"""


def test_nothing_heavy_is_imported_until_it_is_used():
    run(LIGHT)


def test_names_for_type_checkers_are_those_at_work():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    written = {
        alias.name: node.module.removeprefix("keras_dpt").lstrip(".")
        for node in block.body
        for alias in node.names
    }
    at_work = dict.fromkeys(keras_dpt._MODULES, "") | keras_dpt._HOME_OF
    assert written == at_work
    assert {*written, "__version__"} == set(keras_dpt.__all__)
    for name in keras_dpt.__all__:
        assert getattr(keras_dpt, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'DPTDeph'"):
        keras_dpt.DPTDeph  # noqa: B018
    assert not hasattr(keras_dpt, "nothing")


def test_every_module_that_registers_is_known():
    registering = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
        if "keras.saving.register_keras_serializable(" in path.read_text(encoding="utf-8")
    }
    assert registering == set(registration.MODULES)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Files of a tiny depth model: `new.keras`, `old.keras` and the keras-hub preset `preset`."""
    folder = tmp_path_factory.mktemp("saved")
    model = tiny.depth(preprocessor=tiny.preprocessor())
    model.compile(learning_rate=1e-3)
    model.save(folder / "new.keras")
    model.save_to_preset(str(folder / "preset"))
    for file in (folder / "preset").glob("*.json"):
        file.write_text(_as_before(file.read_text()))
    new, old = zipfile.ZipFile(folder / "new.keras"), zipfile.ZipFile(folder / "old.keras", "w")
    with new, old:
        for name in new.namelist():
            data = new.read(name)
            if name == "config.json":
                data = _as_before(data.decode()).encode()
                assert (
                    json.loads(data)["config"]["preprocessor"]["module"]
                    == MOVED["keras_dpt.models.preprocessor"]
                )
            old.writestr(name, data)
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    np.savez(folder / "expected.npz", image=image, values=model.predict(image, verbose=0))
    return folder


def _as_before(text):
    for new, old in MOVED.items():
        text = text.replace(f'"module": "{new}"', f'"module": "{old}"')
    return text


LOADS = """
import keras, keras_hub, numpy as np

assert "keras_dpt.models.segmentation" in sys.modules
expected = np.load(sys.argv[1] + "/expected.npz")
models = [
    keras.models.load_model(sys.argv[1] + "/new.keras"),
    keras.models.load_model(sys.argv[1] + "/old.keras"),
    keras_hub.models.DepthEstimator.from_preset(sys.argv[1] + "/preset"),
]
for model in models:
    assert type(model).__name__ == "DPTDepth" and model.preprocessor is not None
    values = model.predict(expected["image"], verbose=0)
    np.testing.assert_allclose(values, expected["values"], atol=1e-6)
"""


@pytest.mark.parametrize(
    "imports",
    [
        "import keras_dpt, keras_hub",
        pytest.param("import keras_dpt, keras", marks=pytest.mark.compiles_long),
        pytest.param("import keras, keras_dpt", marks=pytest.mark.compiles_long),
    ],
)
def test_keras_loads_files_whoever_is_imported_first(imports, saved):
    run(f"import sys; {imports}" + LOADS, saved)


def test_all_classes_are_registered_with_the_first_of_them():
    run(
        "import keras_dpt.training, keras, sys\n"
        "get = keras.saving.get_registered_object\n"
        "for name in ('DPTSegmentation', 'DPTDepth', 'ViTHybridEncoder', 'MeanIoU'):\n"
        "    assert get('keras_dpt>' + name), name\n"
        "assert not [f for f in sys.meta_path if 'keras_dpt.registration' in repr(f)]\n"
        "assert 'registration' not in repr(keras.__spec__) + repr(keras.__loader__)"
    )


def test_the_public_name_of_videos():
    from keras_dpt.video import Video

    assert Video is keras_dpt.video.Video is keras_dpt.apps.video.Video
