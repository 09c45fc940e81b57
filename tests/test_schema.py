"""What JSON of others may hold: one message with file, field, expectation and value."""

import json
import sys

import pytest

from keras_dpt.errors import WeightsError
from keras_dpt.schema import (
    MAX_DEPTH,
    Either,
    FileName,
    Flag,
    ListOf,
    MapOf,
    OneOf,
    Real,
    Record,
    Text,
    Whole,
    checked,
    explained,
    read_json,
)

PRIMES = Whole(2, 7)
GOOD_AND_BAD = [
    (PRIMES, (2, 7), (1, 8, 2.0, True, "2", None, 10**400)),
    (Real(), (0, -1.5, sys.float_info.max), (float("nan"), float("inf"), "1", True, None, 10**400)),
    (Real(0, 1, above=True), (1e-9, 1), (0, -1, 1.1, float("nan"))),
    (Flag(), (True, False), (0, 1, "true", None)),
    (Text(3), ("", "abc"), ("abcd", 7, None, ["a"])),
    (FileName(), ("a.bin", "..a"), ("../a", "/a", "a/b", "a\\b", "C:a", "..", ".", "", 7, "a\0")),
    (FileName(), ("a" * 255,), ("a" * 256,)),
    (OneOf((1, "x")), (1, "x"), (True, 1.0, "y")),
    (ListOf(PRIMES, 1, 2), ([2], [2, 3]), ([], [2, 3, 5], [9], "2", {"0": 2})),
    (MapOf(PRIMES), ({}, {"a": 2}), ({"a": 1}, [], 7)),
    (Record({"a": PRIMES}, required=("a",)), ({"a": 2, "b": "any"},), ({}, {"a": 1}, [])),
    (Either(None, PRIMES, ListOf(PRIMES)), (None, 3, [3]), (1, [1], "3")),
]


@pytest.mark.parametrize("schema, good, bad", GOOD_AND_BAD)
def test_what_is_taken_and_what_is_not(schema, good, bad):
    for value in good:
        assert checked(value, schema, "file.json", WeightsError) is value
    for value in bad:
        with pytest.raises(WeightsError, match=r"^file\.json: .* must be .*\. Received: "):
            checked(value, schema, "file.json", WeightsError)


def test_the_field_is_named():
    schema = Record({"size": Either(PRIMES, Record({"sides": ListOf(PRIMES)}))})
    with pytest.raises(WeightsError) as caught:
        checked({"size": {"sides": [2, 9]}}, schema, "c.json", WeightsError)
    assert str(caught.value) == (
        "c.json: `size.sides[1]` must be a whole number from 2 to 7. Received: 9."
    )


def test_files_that_are_no_json(tmp_path):
    file = tmp_path / "c.json"
    for content in (b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000):
        file.write_bytes(content)
        with pytest.raises(WeightsError, match="c.json"):
            read_json(file, Record(), WeightsError)
    with pytest.raises(WeightsError, match="cannot be read"):
        read_json(tmp_path / "none.json", Record(), WeightsError)
    file.write_text("\ufeff{}", encoding="utf-8")  # as some editors on Windows save it
    assert read_json(file, Record(), WeightsError) == {}


def test_depth_is_bounded(tmp_path):
    for depth, fits in ((MAX_DEPTH - 1, True), (MAX_DEPTH + 1, False)):
        value = json.loads('{"a":' * depth + "1" + "}" * depth)
        if fits:
            checked(value, Record(), "c.json", WeightsError)
        else:
            with pytest.raises(WeightsError, match="nested deeper"):
                checked(value, Record(), "c.json", WeightsError)


@pytest.mark.parametrize("error", [IndexError("x"), MemoryError(), RecursionError("deep")])
def test_the_last_net(error):
    message = f"^f cannot be read: .*{type(error).__name__}"
    with pytest.raises(WeightsError, match=message), explained("f", WeightsError):
        raise error
    with pytest.raises(WeightsError, match="^mine$"), explained("f", WeightsError):
        raise WeightsError("mine")
