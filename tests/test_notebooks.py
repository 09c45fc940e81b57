"""The notebooks are those of their sources, and run."""

import ast
import os
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "examples" / "notebooks"
SOURCES = sorted(FOLDER.glob("[0-9]_*.py"))

each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)


@each_source
def test_notebook_is_made_from_its_source(source):
    pytest.importorskip("jupytext")
    build = runpy.run_path(str(FOLDER / "build.py"))
    made = build["notebook"](source)
    kept = source.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert kept == made, "make notebooks"


@each_source
def test_cells_compile_and_badges_lead_to_the_notebook(source):
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert notebook.cells[0].source.count(f"/examples/notebooks/{source.stem}.ipynb") == 2
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 4
    for cell in code:
        ast.parse(cell.source)
        assert not cell.outputs


@pytest.mark.slow
@each_source
def test_notebook_runs(source, tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("skimage")
    monkeypatch.setenv("KERAS_DPT_QUICK", "1")
    # The package may be a plain checkout.
    paths = [str(FOLDER.parent.parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("image/png" in output.get("data", {}) for output in outputs)
