"""What became of each input: the table that `make fuzz` prints.

    with attempt("pictures") as tried:
        try:
            values = read(path)
        except KerasDPTError as error:
            tried.refused = True
            assert path.name in str(error)
        else:
            assert values.size
        with tried.looking_for_remains():
            assert not remains

An assertion that fails makes the input "wrong", or "half-written" where remains are looked for; any
other error is a "traceback". The error is raised all the same, and the test fails.
"""

from collections import Counter, defaultdict
from contextlib import contextmanager

OUTCOMES = ("right", "refused", "wrong", "traceback", "half-written")
counts = defaultdict(Counter)  # of outcomes, by part


class _Attempt:
    refused = False
    in_remains = False

    @contextmanager
    def looking_for_remains(self):
        self.in_remains = True
        yield
        self.in_remains = False


@contextmanager
def attempt(part):
    """Count what becomes of one input of a part of the package."""
    tried = _Attempt()
    try:
        yield tried
    except AssertionError:
        counts[part]["half-written" if tried.in_remains else "wrong"] += 1
        raise
    except Exception:
        counts[part]["traceback"] += 1
        raise
    counts[part]["refused" if tried.refused else "right"] += 1


def table(backend):
    """The rows of a Markdown table."""
    rows = []
    for part, outcomes in counts.items():
        numbers = [sum(outcomes.values()), *(outcomes[name] for name in OUTCOMES)]
        rows.append(f"| {part} | {backend} | {' | '.join(map(str, numbers))} |")
    return rows


def heading():
    """The first two lines of the table."""
    names = ("part", "backend", "tried", *OUTCOMES)
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
