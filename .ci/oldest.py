"""Print the oldest versions that pyproject.toml allows, one requirement a line.

    python .ci/oldest.py [EXTRA ...] > oldest.txt

Every dependency must have a lower bound; one without is an error. Extras may leave it out: they
are then installed as they come.
"""

import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def oldest(requirement):
    """`"keras==3.15"` of `"keras>=3.15,<4"`; `None` without a lower bound."""
    name, bounds = re.fullmatch(r"([\w.-]+(?:\[[\w,-]+\])?)\s*(.*)", requirement).groups()
    lower = re.search(r">=\s*([\w.]+)", bounds)
    return f"{name}=={lower[1]}" if lower else None


def pins(project, extras=()):
    """Requirements of the oldest versions of a project's dependencies and of some extras.

    Args: project: the table `[project]` of a pyproject.toml. extras: names.
    Raises: ValueError: a dependency has no lower bound.
    """
    found = {}
    for requirement in project["dependencies"]:
        found[requirement] = oldest(requirement)
        if found[requirement] is None:
            raise ValueError(f"{requirement!r} needs a lower bound in pyproject.toml.")
    for extra in extras:
        for requirement in project["optional-dependencies"][extra]:
            found[requirement] = oldest(requirement) or requirement
    return list(found.values())


if __name__ == "__main__":
    print("\n".join(pins(tomllib.loads(PROJECT.read_text())["project"], sys.argv[1:])))
