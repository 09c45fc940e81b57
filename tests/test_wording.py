"""Pages, messages, docstrings and comments use the house words."""

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), ROOT / "presets" / "README.md", *ROOT.glob("docs/**/*.md")]
SOURCES = [
    p for room in ("keras_dpt", "examples", "benchmarks") for p in ROOT.glob(f"{room}/**/*.py")
]

# What is not written here, and what is instead.
HOUSE_WORDS = {
    r"\bha(s|ve) to be\b": "must be, should be, or is",
    r"\bshall\b": "must, should, or nothing",
    r"\bsome \d": "about",
    r"\banew\b": "again",
    r"\b(no|any)body\b": "one, a user, or the passive",
    r"\bembedded (preset|weights|network|one)": "bundled",
    r"\btimes as fast\b": "n times faster than",
    r"[;,] (got|received)\b(?! the)": ". Received:",
    r"\bis the file of no\b|\bis of no kind\b": "is not a",
}


def prose(source):
    """The comments of Python code and those of its strings that hold more than a word, by line."""
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", None)}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in kinds and " " in token.string:
            yield token.start[0], token.string


def unwanted(texts):
    """`line: words: what to write`, for each house word that texts break; `(line, text)` each."""
    return [
        f"{line}: {found[0]!r}: write {better!r}"
        for line, text in texts
        for words, better in HOUSE_WORDS.items()
        for found in re.finditer(words, text)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages(page):
    assert not unwanted(enumerate(page.read_text(encoding="utf-8").splitlines(), 1))


@pytest.mark.parametrize("room", sorted({path.parent for path in SOURCES}), ids=lambda p: p.name)
def test_sources(room):
    found = {
        path.name: unwanted(prose(path.read_text(encoding="utf-8"))) for path in room.glob("*.py")
    }
    assert not {name: lines for name, lines in found.items() if lines}


@pytest.mark.parametrize(
    "text",
    [
        "A side has to be 32.",
        "some 25 minutes",
        "it starts anew",
        "the embedded preset",
        "1.4 times as fast as",
        "must be one; got 2",
        "must be one; received 2",
    ],
)
def test_it_would_be_found(text):
    assert unwanted([(1, text)])
    assert unwanted(prose(f'raise ValueError(f"{text}.")'))


def test_code_is_not_prose():
    assert not unwanted(prose("received = 1\nanew = nobody(shall)\n"))
