"""Who may import whom. Reads the source; imports nothing of it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "keras_dpt"
MODULES = {
    ".".join(("keras_dpt", *path.relative_to(PACKAGE).with_suffix("").parts)): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

# Each row may import from itself and from the rows above it.
ROWS = [
    (
        "cards",
        "errors",
        "extras",
        "files",
        "late_tensorflow",
        "logs",
        "npy",
        "presets",
        "schema",
        "space",
        "version",
        "memory",
    ),
    ("hub", "ops", "images"),
    ("maps",),
    ("layers",),
    ("encoders",),
    ("losses", "metrics", "optimizers", "rate_groups"),
    ("models",),
    ("weights",),
    ("conversion",),
    ("loading",),
    ("datasets",),
    ("training",),
    ("evaluation", "export", "publish", "verification"),
    ("apps", "video"),
    ("cli", "__main__"),
]
LAYERS = [tuple(f"keras_dpt.{room}" for room in row) for row in ROWS]
# `from_preset` needs the cache only when it is called: the one import that goes up.
LATE = {("keras_dpt.models", "keras_dpt.loading")}

# Modules that need no deep-learning framework to be imported: plain pixels, files and numbers.
WITHOUT_KERAS = [
    "keras_dpt.maps.alignment",
    "keras_dpt.maps.depth_map",
    "keras_dpt.cards",
    "keras_dpt.errors",
    "keras_dpt.images.reading",
    "keras_dpt.images.resizing",
    "keras_dpt.maps.label_map",
    "keras_dpt.logs",
    "keras_dpt.memory",
    "keras_dpt.maps.points",
    "keras_dpt.presets",
    "keras_dpt.cli.__init__",
    "keras_dpt.registration",
    "keras_dpt.version",
    "keras_dpt.video",
]
NEVER_AT_THE_TOP = ("jax", "tensorflow", "tensorflow_text", "torch", "transformers", "cv2")
NEVER_AT_THE_TOP += ("av", "gradio", "trimesh")
NEVER_AT_THE_TOP += ("ai_edge_litert", "onnx", "onnxruntime", "openvino", "tf2onnx")
NEVER = ("keras.src", "keras_hub.src")


def imports(module):
    """`(imported name, whether it happens when the module is imported)` pairs."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    late = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node not in late) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = parents[: len(parents) - node.level + 1] if node.level else []
            source = ".".join(base + ([node.module] if node.module else []))
            names = [f"{source}.{alias.name}" for alias in node.names]
            found += [(name, node not in late) for name in [source, *names]]
    return found


def is_in(name, package):
    return name == package or name.startswith(f"{package}.")


def row_of(name):
    """The number and name of the layer that a module is in; `None` for modules in no layer."""
    for number, packages in enumerate(LAYERS):
        for package in packages:
            if is_in(name, package):
                return number, package
    return None


def test_every_module_is_in_a_row():
    # These two know the names of all others and import none before it is needed: test_import.py.
    outside = ["keras_dpt.__init__", "keras_dpt.registration"]
    assert [module for module in MODULES if row_of(module) is None] == outside


def test_there_is_something_to_read():
    assert {"keras_dpt.models.depth", "keras_dpt.ops.resize"} <= set(MODULES)
    assert ("keras_dpt.layers.heads", True) in imports("keras_dpt.models.depth")


@pytest.mark.parametrize("module", [m for m in MODULES if row_of(m)])
def test_direction(module):
    here = row_of(module)
    for name, at_import in imports(module):
        there = row_of(name)
        late = not at_import and there and (here[1], there[1]) in LATE
        assert there is None or there[0] <= here[0] or late, f"{module} imports {name}"


@pytest.mark.parametrize("module", MODULES)
def test_optional_packages_are_imported_when_needed(module):
    for name, at_import in imports(module):
        if at_import:
            assert not any(is_in(name, package) for package in NEVER_AT_THE_TOP), name
        assert not any(is_in(name, package) for package in NEVER), name


def test_torch_is_for_files_and_for_what_keras_lacks():
    users = {m for m in MODULES if any(is_in(name, "torch") for name, _ in imports(m))}
    training = {"keras_dpt.training.callbacks", "keras_dpt.training.distribution"}
    training |= {"keras_dpt.training.processes"}
    files = {"keras_dpt.weights.readers", "keras_dpt.export.torch_onnx"}
    speed = {
        "keras_dpt.ops.attention",
        "keras_dpt.ops.convolution",
        "keras_dpt.ops.in_place",
        "keras_dpt.ops.memory_order",
        "keras_dpt.ops.standardize",
        "keras_dpt.ops.torch_linear",
    }
    originals = {"keras_dpt.verification.original"}
    assert users == files | speed | training | originals


@pytest.mark.parametrize("module", WITHOUT_KERAS)
def test_plain_modules_stay_plain(module):
    pending, seen = [module], set()
    while pending:
        here = pending.pop()
        seen.add(here)
        for name, at_import in imports(here):
            assert not at_import or not is_in(name, "keras"), f"{module} -> {here} imports {name}"
            assert not at_import or not is_in(name, "keras_hub"), f"{module} -> {here}"
            if at_import and name in MODULES and name not in seen:
                pending.append(name)


def test_presets_stand_alone():
    assert not [name for name, _ in imports("keras_dpt.presets") if is_in(name, "keras_dpt")]


def test_losses_know_no_network():
    known = ("keras_dpt.models", "keras_dpt.encoders", "keras_dpt.layers", "keras_dpt.conversion")
    for module in MODULES:
        if is_in(module, "keras_dpt.losses"):
            for name, _ in imports(module):
                assert not any(is_in(name, package) for package in known), f"{module}: {name}"
