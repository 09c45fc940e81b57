"""Writing files so that nobody ever sees half of one."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def written_whole(path: Path, error_class: type[Exception]) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for writing in binary, then rename it.

    The file appears complete or not at all; one that is there is replaced.

    Raises: `error_class`: there is no such folder, or the system refuses to write.
    """
    if not path.parent.is_dir():
        raise error_class(f"Cannot write {path}: there is no folder {path.parent}. Make it.")
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, path)
    except OSError as error:
        raise error_class(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)
