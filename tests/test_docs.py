"""The code of guides and docstrings runs; the reference covers the public names."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import keras
import pytest
from snippets import make_clip, python_blocks, run_blocks

import keras_dpt

ROOT = Path(__file__).parent.parent
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
PAGES = [*GUIDES, ROOT / "docs" / "index.md"]
WITH_CODE = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize("guide", WITH_CODE, ids=lambda guide: guide.stem)
def test_blocks_compile(guide):
    for block in python_blocks(guide.read_text(encoding="utf-8")):
        compile(block, guide.name, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("guide", WITH_CODE, ids=lambda guide: guide.stem)
def test_blocks_run(guide, workplace):
    if guide.stem == "export":
        if keras.config.backend() != "tensorflow":
            pytest.skip("the page exports with free sizes, which TensorFlow does")
        for package in ("onnx", "onnxruntime", "tf2onnx"):
            pytest.importorskip(package)
    if guide.stem == "points":
        pytest.importorskip("trimesh")
    if guide.stem == "video":
        make_clip()
    run_blocks(python_blocks(guide.read_text(encoding="utf-8")), guide.name)


def docstrings_with_code():
    for path in sorted((ROOT / "keras_dpt").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                docstring = ast.get_docstring(node) or ""
                if blocks := python_blocks(docstring):
                    yield pytest.param(blocks, id=f"{path.stem}.{getattr(node, 'name', '')}")


@pytest.mark.slow
@pytest.mark.parametrize("blocks", list(docstrings_with_code()))
def test_blocks_of_docstrings_run(blocks, workplace):
    if any(".glb" in block for block in blocks):
        pytest.importorskip("trimesh")
    run_blocks(blocks, "docstring")


def documented():
    """The objects that the pages of the reference are about."""
    pages = [page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "api").glob("*.md")]
    found = []
    for path in re.findall(r"^::: (\S+)", "\n".join(pages), re.MULTILINE):
        module, _, name = path.rpartition(".")
        found.append((name, getattr(importlib.import_module(module), name)))
    return found


MODULES = [getattr(keras_dpt, name) for name in keras_dpt._MODULES]


@pytest.mark.parametrize("module", [keras_dpt, *MODULES], ids=lambda module: module.__name__)
def test_the_reference_covers_the_public_names(module):
    there = documented()
    names = getattr(module, "__all__", None) or [
        name for name, thing in vars(module).items() if inspect.isclass(thing)
    ]
    public = {name: getattr(module, name) for name in names if not name.startswith("__")}
    missing = [
        name
        for name, thing in public.items()
        if not inspect.ismodule(thing)
        and not any(name == other and thing is what for other, what in there)
    ]
    assert not missing
    assert public
