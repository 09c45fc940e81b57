"""What was measured, on disk, so that an interrupted evaluation goes on where it stopped."""

import json
import os
import zlib
from contextlib import suppress
from pathlib import Path

from keras_dpt.errors import EvaluationError
from keras_dpt.files import try_lock
from keras_dpt.schema import Either, ListOf, MapOf, Real, Record, Text, Whole, checked

HEADER = Record({"fingerprint": Text()}, required=("fingerprint",))
RECORD = Record(
    {
        "id": Text(),
        "status": Text(),
        "pixels": Whole(0, 1 << 62),
        "values": Either(None, MapOf(Real())),
        "classes": MapOf(ListOf(Whole(0, 1 << 62), 3, 3)),
    },
    required=("id", "status", "pixels", "values"),
)


class Journal:
    """A file of one JSON object a line: first what is evaluated, then a record per image.

    Each line has a checksum. A line that was cut off when the run was stopped is taken away, one
    that was damaged later is passed over; their images are measured again.

    Args:
        folder: where the file is, or will be; it has to exist.
        name: what the file's name starts with.
        fingerprint: of all that the records depend on; another one means another file.

    Raises: EvaluationError: (a ValueError) the file is damaged, cannot be written, or another
        process writes to it.
    """

    def __init__(self, folder, name: str, fingerprint: str):
        self.path = Path(folder) / f"{name}-{fingerprint[:12]}.jsonl"
        if not self.path.parent.is_dir():
            raise EvaluationError(f"Cannot write {self.path}: there is no folder {folder}.")
        self._header = _line({"fingerprint": fingerprint})
        try:
            # Nothing that is there is ever written again: a full disk must not cost a record.
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise self._cannot_write(error) from error
        try:
            if not try_lock(self._file.fileno()):
                raise EvaluationError(
                    f"Another run is writing {self.path}. Wait for it, or name another folder."
                )
            lines, size = self._complete_lines()
            if lines and lines[0] != {"fingerprint": fingerprint}:
                raise EvaluationError(f"{self.path} is damaged in line 1: remove it to restart.")
            self._shorten(size)  # takes away a line that was cut off
            if not lines:
                self._write(self._header)
        except BaseException:
            self._file.close()
            raise
        self.records: dict[str, dict] = {record["id"]: record for record in lines[1:] if record}

    def append(self, record: dict) -> None:
        """Keep the record of one image; on disk when this returns."""
        self._write(_line(record))
        self.records[record["id"]] = record

    def finish(self) -> None:
        """Forget the records: what is complete is no run to go on with."""
        self._shorten(len(self._header))
        self.records = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def _write(self, line):
        size = os.fstat(self._file.fileno()).st_size
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(size)
            raise self._cannot_write(
                error, " What was measured before is kept: make room and evaluate again."
            ) from error

    def _shorten(self, size):
        try:
            if os.fstat(self._file.fileno()).st_size > size:
                self._file.truncate(size)
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cannot_write(self, error, advice=""):
        return EvaluationError(f"Cannot write {self.path}: {error.strerror or error}.{advice}")

    def _complete_lines(self):
        """What the whole lines say, None for a damaged one, and how many bytes they are."""
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise EvaluationError(f"Cannot read {self.path}: {error}") from error
        lines, size = [], 0
        for line in content.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            lines.append(_content(line, RECORD if lines else HEADER))
            size += len(line)
        return lines, size


def _line(content):
    text = _compact(content)
    return b'{"crc32":"%08x","content":%s}\n' % (zlib.crc32(text), text)


def _content(line, schema):
    """What a line says; None if it is not what was written."""
    try:
        parsed = json.loads(line)
        if _line(parsed["content"]) == line:
            return checked(parsed["content"], schema, "", EvaluationError)
    except (ValueError, TypeError, KeyError, RecursionError):  # an EvaluationError is a ValueError
        pass
    return None


def _compact(content):
    return json.dumps(content, separators=(",", ":")).encode()
