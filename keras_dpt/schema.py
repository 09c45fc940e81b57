"""What a file of others may hold: types, ranges, lengths and depth, checked where it is read.

    SIZE = Record({"height": Whole(1, 16384), "width": Whole(1, 16384)}, required=("height",))
    size = read_json(path, SIZE, WeightsError)

An error names the file, the field, what is expected and what was received. Plain Python.
"""

import json
import math
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from keras_dpt.errors import KerasDPTError

MAX_DEPTH = 100  # of nesting; a network inside a network has 20
MAX_BYTES = 1 << 30  # of a JSON file; results of a large evaluation have 100 MB


class Mismatch(Exception):
    """Where a value is not what a schema expects: path of the field, expectation, value."""

    def __init__(self, path, expected, value):
        super().__init__(path, expected, value)
        self.path, self.expected, self.value = path, expected, value


@dataclass(frozen=True)
class Whole:
    """A whole number from `low` to `high`."""

    low: int
    high: int

    def check(self, value, path):
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not (is_whole and self.low <= value <= self.high):
            raise Mismatch(path, f"a whole number from {self.low} to {self.high}", value)


@dataclass(frozen=True)
class Real:
    """A finite number from `low` to `high`; `above` leaves `low` itself out."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False

    def check(self, value, path):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        inside = is_number and value == value and self.low <= value <= self.high
        finite = inside and abs(value) <= sys.float_info.max  # an int may be too large for a float
        if finite and not (self.above and value == self.low):
            return
        low = f"above {self.low:g}" if self.above else f"from {self.low:g}"
        if math.isinf(self.low) and math.isinf(self.high):
            raise Mismatch(path, "a finite number", value)
        high = "finite" if math.isinf(self.high) else f"at most {self.high:g}"
        raise Mismatch(path, f"a number {low}, {high}", value)


@dataclass(frozen=True)
class Flag:
    """`true` or `false`."""

    def check(self, value, path):
        if not isinstance(value, bool):
            raise Mismatch(path, "true or false", value)


@dataclass(frozen=True)
class Text:
    """A text, not longer than `longest`."""

    longest: int = 100_000

    def check(self, value, path):
        if not isinstance(value, str) or len(value) > self.longest:
            raise Mismatch(path, f"a text of at most {self.longest} characters", value)


@dataclass(frozen=True)
class FileName:
    """The name of a file in the same folder: no other folder, no absolute path."""

    def check(self, value, path):
        plain = isinstance(value, str) and value not in ("", ".", "..")
        if not plain or any(c in value for c in "/\\:\0") or len(value) > 255:
            raise Mismatch(path, "the name of a file in the same folder", value)


@dataclass(frozen=True)
class OneOf:
    """One of some values."""

    values: tuple

    def check(self, value, path):
        if not any(type(value) is type(known) and value == known for known in self.values):
            raise Mismatch(path, f"one of {', '.join(map(repr, self.values))}", value)


@dataclass(frozen=True)
class ListOf:
    """A list of `shortest` to `longest` items."""

    item: object
    shortest: int = 0
    longest: int = 10_000_000

    def check(self, value, path):
        if not isinstance(value, list) or not self.shortest <= len(value) <= self.longest:
            exact = self.shortest == self.longest
            length = self.longest if exact else f"{self.shortest} to {self.longest}"
            raise Mismatch(path, f"a list of {length} items", value)
        for i, item in enumerate(value):
            self.item.check(item, f"{path}[{i}]")


@dataclass(frozen=True)
class MapOf:
    """An object whose keys are texts of any kind and whose values are alike."""

    item: object

    def check(self, value, path):
        if not isinstance(value, dict):
            raise Mismatch(path, "an object", value)
        for key, item in value.items():
            self.item.check(item, f"{path}.{key}".lstrip("."))


class Record:
    """An object with known fields; others are not looked at.

    Args: fields: schema by name. required: names that must be there.
    """

    def __init__(self, fields=None, required=()):
        self.fields, self.required = fields or {}, tuple(required)

    def check(self, value, path):
        if not isinstance(value, dict):
            raise Mismatch(path, "an object", value)
        for key in self.required:
            if key not in value:
                raise Mismatch(f"{path}.{key}".lstrip("."), "there", "nothing")
        for key, schema in self.fields.items():
            if key in value:
                schema.check(value[key], f"{path}.{key}".lstrip("."))


class Either:
    """What one of several schemas allows; `None` is JSON's null."""

    def __init__(self, *schemas):
        self.schemas = schemas

    def check(self, value, path):
        if value is None and None in self.schemas:
            return
        misses = []
        for schema in filter(None, self.schemas):
            try:
                return schema.check(value, path)
            except Mismatch as mismatch:
                misses.append(mismatch)
        deepest = max(misses, key=lambda mismatch: len(mismatch.path))
        if deepest.path != path or len(misses) == 1:
            raise deepest
        raise Mismatch(path, " or ".join(miss.expected for miss in misses), value)


class Anything:
    """No expectation but that of depth."""

    def check(self, value, path):
        pass


def checked(value, schema, name, error_class):
    """`value`, if it is what `schema` says and not nested deeper than `MAX_DEPTH`.

    Args: name: of the file, for messages. Raises: `error_class`.
    """
    if _is_deep(value):
        raise error_class(f"{name}: it is nested deeper than {MAX_DEPTH} levels.")
    try:
        schema.check(value, "")
    except Mismatch as miss:
        field = f"`{miss.path}`" if miss.path else "the content"
        received = miss.value if miss.value == "nothing" else _short(miss.value)
        raise error_class(
            f"{name}: {field} must be {miss.expected}. Received: {received}."
        ) from None
    return value


def read_json(path, schema, error_class, what=None):
    """The content of a JSON file, if it is what `schema` says.

    Args: what: of the file, for the message about another content, such as "holds no evaluation".

    Raises: `error_class`: it cannot be read, is no JSON, or has another content; named.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise error_class(f"{path} is damaged: JSON of {path.stat().st_size:,} bytes.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise error_class(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise error_class(f"{path} is damaged: it isn't JSON ({error}).") from error
    value = parsed_json(text, path, error_class)
    return checked(value, schema, f"{path} {what}" if what else path, error_class)


def parsed_json(text, name, error_class):
    """JSON text as Python objects. Raises: `error_class`: it is not JSON, or nested without end."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise error_class(f"{name}: it is nested deeper than {MAX_DEPTH} levels.") from error
    except ValueError as error:
        raise error_class(f"{name} is damaged: it isn't JSON ({error}).") from error


@contextmanager
def explained(name, error_class, what="cannot be read"):
    """Turn whatever goes wrong within, and is not this package's error, into `error_class`.

    The last net, where decoders and frameworks raise nearly any type on damaged files: an error of
    `error_class` names the file and the reason.
    """
    try:
        yield
    except KerasDPTError:
        raise
    except Exception as error:  # MemoryError and RecursionError included
        raise error_class(f"{name} {what}: {reason_of(error)}.") from error


@contextmanager
def naming(file):
    """Within it this package's errors say which file they are about, where they do not already."""
    try:
        yield
    except KerasDPTError as error:
        if Path(file).name not in str(error):
            error.args = (f"{file}: {error}",)
        raise


def reason_of(error):
    """The first line of an error's message, or its type if it has none."""
    lines = str(error).strip().splitlines()
    reason = lines[0].strip().rstrip(".:") if lines else ""
    return (
        reason[:300]
        if isinstance(error, OSError) and reason
        else (f"{reason[:300]} ({type(error).__name__})" if reason else type(error).__name__)
    )


def _short(value):
    """A value for a message, cut."""
    if isinstance(value, dict | list) and len(value) > 8:
        return f"{type(value).__name__} of {len(value)} items"
    try:
        text = repr(value)
    except ValueError:  # an int of too many digits
        return "a number of too many digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_deep(value):
    """Whether lists and objects are nested deeper than `MAX_DEPTH`; without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for container in level
            if isinstance(container, dict | list)
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True
