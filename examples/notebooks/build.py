"""Make the notebooks from their sources, which are easier to read and to compare.

    python examples/notebooks/build.py     (or: make notebooks)

A source is a Python file in jupytext's percent format: `# %%` begins a cell of code,
`# %% [markdown]` one of text. Its notebook begins with badges and a cell that installs the package,
the same for all, and holds no outputs.
"""

import runpy
from pathlib import Path

import jupytext
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell

# Where the repository is published: badges and the installation point there. Change it here alone,
# then `make notebooks`. GitHub allows no underscore in the name of an account, so that this one
# is no one's.
REPOSITORY = "set_account/keras_dpt"
BRANCH = "main"
# The published wheel of this version, as .github/workflows/publish.yml puts it beside the release.
VERSION = runpy.run_path(str(Path(__file__).parents[2] / "keras_dpt" / "version.py"))["__version__"]
RELEASE = f"https://github.com/{REPOSITORY}/releases/download/v{VERSION}"
PACKAGE = f"keras-dpt[demo] @ {RELEASE}/keras_dpt-{VERSION}-py3-none-any.whl"

FOLDER = Path(__file__).parent
SOURCES = sorted(FOLDER.glob("[0-9]_*.py"))

INSTALLATION = f"""\
# Installs the package where it is missing, as on Colab and Kaggle (there: internet switched on).
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("keras_dpt") is None:
    package = "{PACKAGE}"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", package], check=True)"""


def notebook(source: Path) -> str:
    """The text of the notebook of a source; the same each time."""
    made = jupytext.read(source)
    made.cells = [
        new_markdown_cell(badges(source)),
        made.cells[0],  # the title
        new_code_cell(INSTALLATION),
        *made.cells[1:],
    ]
    for i, cell in enumerate(made.cells):
        cell.id = f"cell-{i}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    # Colab then offers a GPU; on none, all of it runs on the CPU.
    made.metadata = {"kernelspec": kernel, "accelerator": "GPU"}
    made.nbformat, made.nbformat_minor = 4, 5
    nbformat.validate(made)
    return nbformat.writes(made) + "\n"


def badges(source: Path) -> str:
    """Markdown that opens the notebook of a source on Colab and on Kaggle."""
    file = f"{REPOSITORY}/blob/{BRANCH}/examples/notebooks/{source.stem}.ipynb"
    colab = f"https://colab.research.google.com/github/{file}"
    kaggle = f"https://kaggle.com/kernels/welcome?src=https://github.com/{file}"
    return (
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})\n"
        f"[![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)]({kaggle})"
    )


if __name__ == "__main__":
    for path in SOURCES:
        path.with_suffix(".ipynb").write_text(notebook(path), encoding="utf-8")
        print(path.with_suffix(".ipynb"))
