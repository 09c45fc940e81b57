"""Readers of data sets, by the names that command lines and protocols use."""

from collections.abc import Callable
from dataclasses import dataclass, field

from keras_dpt.errors import DataError


@dataclass(frozen=True)
class Reader:
    """How a data set is opened.

    Attributes:
        name: as in `keras_dpt.datasets.named`.
        read: function of a folder, or of a folder and a split, that returns a `Source`.
        kinds: what its targets can be, see `Source`; the first one by default.
        splits: the splits that it is published with; there may be others on a disk.
        aliases: other names of splits, `{"val": "validation"}`.
    """

    name: str
    read: Callable
    kinds: tuple[str, ...]
    splits: tuple[str, ...]
    aliases: dict[str, str] = field(default_factory=dict)

    def open(self, folder, split=None):
        """The data set in `folder`. `split`: a split or an alias; `None` for the reader's own."""
        if split is None:
            return self.read(folder)
        return self.read(folder, self.aliases.get(split, split))


READERS = {}


def register_reader(kinds, splits, aliases=None, name=None):
    """A decorator of a function that opens a data set: registers it under its name.

    Args: as of `Reader`; `name` is the function's if left out.
    """

    def register(read):
        entry = name or read.__name__
        READERS[entry] = Reader(entry, read, tuple(kinds), tuple(splits), aliases or {})
        return read

    return register


def reader_named(name):
    """The `Reader` of this name. Raises DataError: there is none; lists the names."""
    if name not in READERS:
        raise DataError(f"There is no data set {name!r}. Data sets: {', '.join(READERS)}.")
    return READERS[name]
