"""What was measured, on disk, so that an interrupted evaluation goes on where it stopped."""

import json
from pathlib import Path

from keras_dpt.errors import EvaluationError


class Journal:
    """A file of one JSON object a line: first what is evaluated, then a record per image.

    A line that was cut off when the run was stopped is dropped; its image is measured again.

    Args:
        folder: where the file is, or will be; it has to exist.
        name: what the file's name starts with.
        fingerprint: of all that the records depend on; another one means another file.

    Raises: EvaluationError: (a ValueError) the file is damaged or cannot be written.
    """

    def __init__(self, folder, name: str, fingerprint: str):
        self.path = Path(folder) / f"{name}-{fingerprint[:12]}.jsonl"
        if not self.path.parent.is_dir():
            raise EvaluationError(f"Cannot write {self.path}: there is no folder {folder}.")
        lines = self._complete_lines()
        if lines and lines[0].get("fingerprint") != fingerprint:
            raise EvaluationError(f"{self.path} is damaged in line 1. Remove it to start anew.")
        try:
            # Written again without the line that was cut off; append would go on behind it.
            content = lines or [{"fingerprint": fingerprint}]
            self.path.write_text("".join(map(_line, content)), encoding="utf-8")
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise EvaluationError(
                f"Cannot write {self.path}: {error.strerror or error}."
            ) from error
        self.records: dict[str, dict] = {record["id"]: record for record in lines[1:]}

    def append(self, record: dict) -> None:
        """Keep the record of one image; on disk when this returns."""
        self._file.write(_line(record))
        self._file.flush()
        self.records[record["id"]] = record

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def _complete_lines(self):
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise EvaluationError(f"Cannot read {self.path}: {error}") from error
        lines = []
        for line in text.splitlines(keepends=True):
            if not line.endswith("\n"):
                break
            try:
                lines.append(json.loads(line))
            except ValueError as error:
                raise EvaluationError(
                    f"{self.path} is damaged in line {len(lines) + 1}. Remove it to start anew."
                ) from error
        return lines if all(isinstance(line, dict) for line in lines) else [{}]


def _line(record):
    return json.dumps(record, separators=(",", ":")) + "\n"
