"""How many examples: few by default, as many as FUZZ says for `make fuzz`; and their table."""

import os
from pathlib import Path

from hypothesis import HealthCheck, settings

settings.register_profile(
    "few",
    max_examples=int(os.environ.get("FUZZ", 25)),
    derandomize="FUZZ" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("few")


def pytest_terminal_summary(terminalreporter):
    """The table of outcomes, also appended to the file FUZZ_TABLE."""
    from . import tally

    rows = tally.table(os.environ.get("KERAS_BACKEND", "tensorflow"))
    file = os.environ.get("FUZZ_TABLE")
    if not rows or not file:
        return
    terminalreporter.write_line("\n".join([*tally.heading(), *rows]))
    path = Path(file)
    with path.open("a") as opened:
        print(*([] if path.stat().st_size else tally.heading()), *rows, sep="\n", file=opened)
