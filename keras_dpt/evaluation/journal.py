"""Records on disk, so that an interrupted evaluation continues."""

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
    """A file with one JSON object per line: first what is evaluated, then a record per image.

    Each line has a checksum. A line that was truncated by an interruption is removed, a damaged one
    is skipped; their images are measured again.

    Args:
        folder: of the file; it must exist.
        name: start of the file's name.
        fingerprint: of everything that the records depend on; each has its own file.

    Raises: EvaluationError: (a ValueError) the file is damaged, cannot be written, or another
        process writes to it.
    """

    def __init__(self, folder, name: str, fingerprint: str):
        self.path = Path(folder) / f"{name}-{fingerprint[:12]}.jsonl"
        if not self.path.parent.is_dir():
            raise EvaluationError(f"Cannot write {self.path}: there is no folder {folder}.")
        self._header = _line({"fingerprint": fingerprint})
        try:
            # Existing lines are never rewritten: a full disk must not cost a record.
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
                raise EvaluationError(f"{self.path} is damaged in line 1: delete it to restart.")
            self._shorten(size)  # takes away a line that was cut off
            if not lines:
                self._write(self._header)
        except BaseException:
            self._file.close()
            raise
        self.records: dict[str, dict] = {record["id"]: record for record in lines[1:] if record}

    def append(self, record: dict) -> None:
        """Store the record of one image; it is on disk when this returns."""
        self._write(_line(record))
        self.records[record["id"]] = record

    def finish(self) -> None:
        """Delete the records of a complete run."""
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
                error, " Earlier records are kept: free some space and evaluate again."
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
        """Contents of the complete lines, `None` for a damaged one, and their bytes in all."""
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
    """The content of a line; `None` if its checksum does not match."""
    try:
        parsed = json.loads(line)
        if _line(parsed["content"]) == line:
            return checked(parsed["content"], schema, "", EvaluationError)
    except (ValueError, TypeError, KeyError, RecursionError):  # an EvaluationError is a ValueError
        pass
    return None


def _compact(content):
    return json.dumps(content, separators=(",", ":")).encode()
