"""The code of guides and docstrings runs; the reference covers the public names."""

import ast
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


@pytest.mark.parametrize("module", [keras_dpt, keras_dpt.datasets], ids=lambda m: m.__name__)
def test_the_reference_covers_the_public_names(module):
    pages = [page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "api").glob("*.md")]
    documented = {
        name.rpartition(".")[2]
        for name in re.findall(r"^::: (\S+)", "\n".join(pages), re.MULTILINE)
    }
    for name in module.__all__:
        thing = getattr(module, name)
        is_error = inspect.isclass(thing) and issubclass(thing, Exception)
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and not is_error:
            assert name in documented
