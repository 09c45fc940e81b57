"""Writing files so that nobody ever sees half of one."""

import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def written(target, error_class: type[Exception]) -> Iterator[BinaryIO]:
    """As `written_whole`, for a path or a file object, which gets all bytes at once at the end.

    Raises: `error_class`: as `written_whole`; or the file object takes no bytes.
    """
    if not hasattr(target, "write"):
        with written_whole(Path(target), error_class) as file:
            yield file
        return
    buffer = io.BytesIO()
    yield buffer
    try:
        target.write(buffer.getvalue())
    except TypeError as error:
        raise error_class(
            f'{type(target).__name__} takes no bytes ({error}). Open the file in binary, "wb".'
        ) from error
    except (OSError, ValueError) as error:  # closed, or open for reading
        raise error_class(f"Cannot write to {type(target).__name__}: {error}.") from error


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
