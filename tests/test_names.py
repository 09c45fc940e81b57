"""Names and commands that documents, docstrings and messages mention exist."""

import argparse
import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

import keras_dpt
from keras_dpt import cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "presets" / "README.md", *ROOT.glob("docs/**/*.md")]
SOURCES = [*(ROOT / "keras_dpt").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]


def strings(path):
    """Docstrings and other strings of a Python file; the values in f-strings are `{}`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside |= set(node.values)
            yield "".join(
                part.value if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inside:
            yield node.value


def texts():
    """Each page and string, with where it is."""
    for page in PAGES:
        # Lines for mkdocstrings name places in the source: the site is built strictly.
        yield page.name, re.sub(r"(?m)^::: .*$", "", page.read_text(encoding="utf-8"))
    for source in SOURCES:
        for text in strings(source):
            yield source.name, text


# Dotted names of the package, but not addresses, and not its file `keras_dpt.json`.
NAME = re.compile(r"(?<![\w/.>-])keras_dpt(?!\.json)((?:\.[A-Za-z_]\w*)+)(?![\w/>])")
NAMES = sorted({(m[1].lstrip("."), where) for where, t in texts() for m in NAME.finditer(t)})


# Modules that blocks of pages import from, and with them those above.
IMPORTED = {x for _, t in texts() for x in re.findall(r"(?m)^ *from ([\w.]+) import ", t)}


def test_there_are_names():
    names = {name for name, _ in NAMES}
    assert {"evaluation", "video", "training.Resume", "DPTDepth.from_preset"} <= names
    assert len(names) > 50


@pytest.mark.parametrize(("name", "where"), NAMES)
def test_dotted_names_resolve(name, where):
    found, path = keras_dpt, "keras_dpt"
    for part in name.split("."):
        path = f"{path}.{part}"
        # Modules that sources name or pages import need not be public.
        if not hasattr(found, part) and (where.endswith(".py") or path in IMPORTED):
            importlib.import_module(path)
        found = getattr(found, part)


# Whole lines of pages; and in quotes what may be no more than a mention, such as `keras-dpt depth`.
LINES = sorted(
    {
        line
        for page in PAGES
        for line in re.findall(r"^ *(keras-dpt .*)$", page.read_text("utf-8"), re.MULTILINE)
    }
)
MENTIONS = sorted(
    {
        " ".join(mention.split())
        for _, text in texts()
        for mention in re.findall(r"`(keras-dpt\s[^`{]+)`", text)
    }
)


def test_there_are_commands():
    assert len(LINES) > 10 and len(MENTIONS) > 5


@pytest.mark.parametrize("line", LINES)
def test_lines_parse(line):
    cli._parser().parse_args(shlex.split(line)[1:])


@pytest.mark.parametrize("mention", MENTIONS)
def test_mentions_are_of_commands_and_options_that_exist(mention):
    parser, words = cli._parser(), shlex.split(mention)[1:]
    while words:
        actions = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        if not actions or words[0].startswith("-"):
            break
        assert words[0] in actions[0].choices, mention
        parser = actions[0].choices[words.pop(0)]
    for word in words:
        if word.startswith("-"):
            assert word in parser._option_string_actions, mention
