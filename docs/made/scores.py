"""Scores of presets, from the table that `keras-dpt tabulate` keeps in the documents."""

import re

_TABLE = re.compile(r"<!-- evaluations: begin -->\n(.*?)<!-- evaluations: end -->", re.DOTALL)


def read_scores(root):
    """A dict of preset's name: list of its rows, each a dict of heading: cell.

    Args: root: folder of the checkout. Its README and the pages below `docs/` are searched.
    """
    scores = {}
    for page in (root / "README.md", *sorted(root.glob("docs/**/*.md"))):
        for found in _TABLE.findall(page.read_text(encoding="utf-8")):
            header, _, *rows = (_cells(line) for line in found.strip().splitlines())
            for row in rows:
                scores.setdefault(row[0], []).append(dict(zip(header, row, strict=True)))
    return scores


def _cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]
