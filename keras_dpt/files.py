"""Writing files and folders so that no half of one is ever seen, whatever ends the process.

What is being written has a name that starts with a dot, `.keras_dpt_<16 hex digits>.tmp`, and is
locked while its process lives. What killed processes left is removed by the next one that writes
to the same folder.
"""

import io
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows, which deletes no file that is open
    fcntl = None

_TEMPORARY = re.compile(r"\.?keras_dpt_[0-9a-f]{16}\.tmp")
_swept: set[str] = set()  # folders that this process has looked through
_sweeping = threading.Lock()
_held: dict[tuple[int, int], int] = {}  # folders that this process has to itself: descriptors


def ending(path) -> str:
    """How a message names the suffix of a file that has another one than it should."""
    suffix = Path(path).suffix.lower()
    return repr(suffix) if suffix else "a name without ending"


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
    """Open a temporary file beside `path` for writing (and reading) in binary, then rename it.

    The file appears complete or not at all; one that is there is replaced.

    Raises: `error_class`: there is no such folder, or the system refuses to write.
    """
    if not path.parent.is_dir():
        raise error_class(f"Cannot write {path}: there is no folder {path.parent}. Make it.")
    sweep(path.parent)
    temporary = lock = None
    try:
        temporary, file = _new_file(path.parent)
        with file:
            lock = (
                os.dup(file.fileno()) if fcntl else None
            )  # held beyond `close`, until the renaming
            yield file
        os.replace(temporary, path)
    except OSError as error:
        raise error_class(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)


@contextmanager
def folder_written_whole(path: Path, error_class: type[Exception]) -> Iterator[Path]:
    """Fill a folder that appears when the block ends, or not at all if it ends with an error.

    Yields: the temporary folder to write to.
    Raises: `error_class`: there is a file or a filled folder of this name, or the system refuses.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise error_class(f"{path} exists already. Remove it, or choose another folder.")
    try:
        with temporary_folder(path.parent) as temporary:
            yield temporary
            if path.exists():
                path.rmdir()  # empty, as seen above; not every system renames onto a folder
            temporary.rename(path)
    except OSError as error:
        raise error_class(f"Cannot write {path}: {error.strerror or error}.") from error


@contextmanager
def folder_renewed(path: Path, key: str) -> Iterator[Path]:
    """Replace files of a folder: all of them appear, or it is not what it claims to be.

    A new folder appears complete or not at all. In one that is there, files of other names stay;
    `key`, the file without which the folder is refused, goes first and comes last.

    Yields: the temporary folder to write to.
    """
    path = path.resolve()
    if not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(path.parent) as temporary:
            yield temporary
            temporary.rename(path)
        return
    with temporary_folder(path) as temporary:
        yield temporary
        written = [file.relative_to(temporary) for file in temporary.rglob("*") if file.is_file()]
        (path / key).unlink(missing_ok=True)
        for name in sorted(written, key=lambda name: name == Path(key)):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary / name, path / name)


@contextmanager
def temporary_folder(parent: Path, hidden: bool = True) -> Iterator[Path]:
    """A new folder in `parent`, removed when the block ends, or later if the process is killed.

    A folder that the block has renamed stays. Its name starts with a dot if `hidden`.
    """
    sweep(parent)
    for _ in range(10):
        folder = _new_name(parent, hidden)
        folder.mkdir(mode=0o777 if hidden else 0o700)
        lock = _locked(folder)
        if lock is not None or fcntl is None:
            break
        # Another process took it for remains, before it was locked.
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder; once for each folder and process."""
    key = os.path.abspath(folder)
    with _sweeping:
        if key in _swept or fcntl is None:
            return
        _swept.add(key)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name):
                _remove_if_abandoned(Path(entry.path))


def try_lock(descriptor: int) -> bool:
    """Lock an open file or folder for this process; false if another one holds it.

    The lock ends with the process, however it ends. Where there are no locks, all is free.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network disks know no locks
        return True
    return True


def hold(folder: Path) -> bool:
    """Have a folder to this process, until `release` or its end; false if another one has it.

    Whoever forks does not pass it on: workers may outlive a process that was killed.
    """
    if fcntl is None:
        return True
    descriptor = os.open(folder, os.O_RDONLY)
    status = os.fstat(descriptor)
    key = (status.st_dev, status.st_ino)
    if key in _held or not try_lock(descriptor):
        os.close(descriptor)
        return key in _held
    _held[key] = descriptor
    return True


def release(folder: Path) -> None:
    """Let others have a folder that this process holds."""
    status = os.stat(folder)
    descriptor = _held.pop((status.st_dev, status.st_ino), None)
    if descriptor is not None:
        os.close(descriptor)


def _release_in_child() -> None:
    for descriptor in _held.values():
        os.close(descriptor)
    _held.clear()


if fcntl is not None:
    os.register_at_fork(after_in_child=_release_in_child)


def _new_name(folder: Path, hidden: bool = True) -> Path:
    return folder / f"{'.' if hidden else ''}keras_dpt_{secrets.token_hex(8)}.tmp"


def _new_file(folder: Path) -> tuple[Path, BinaryIO]:
    """A new temporary file, locked, and open."""
    while True:
        temporary = _new_name(folder)
        file = open(temporary, "x+b")  # noqa: SIM115
        if try_lock(file.fileno()) and _is_still(file.fileno(), temporary):
            return temporary, file
        file.close()  # another process took it for remains, before it was locked


def _locked(folder: Path) -> int | None:
    """A descriptor that holds the lock of a folder; `None` if that can't be had."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    if try_lock(descriptor) and _is_still(descriptor, folder):
        return descriptor
    os.close(descriptor)
    return None


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def _remove_if_abandoned(path: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # its process lives: OSError
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
        finally:
            os.close(descriptor)
