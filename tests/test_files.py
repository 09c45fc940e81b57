"""Files and folders appear whole or not at all, and nothing stays of processes that were killed."""

import io
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest

from keras_dpt import files
from keras_dpt.errors import DepthError
from keras_dpt.files import (
    folder_renewed,
    folder_written_whole,
    hold,
    release,
    sweep,
    temporary_folder,
    written,
    written_whole,
)

needs_locks = pytest.mark.skipif(files.fcntl is None, reason="Windows has no such locks")


@pytest.fixture(autouse=True)
def a_new_process(monkeypatch):
    monkeypatch.setattr(files, "_swept", set())


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def writing(folder, what):
    """A process that is in the middle of writing `what` to a folder."""
    program = f"""
        import sys, time
        from pathlib import Path
        from files import {what}  # alone, without Keras: quick
        with {what}(Path("new"), ValueError) as out:
            if {what == "written_whole"}:
                out.write(b"half")
                out.flush()
            else:
                (out / "half").touch()
            print("ready", flush=True)
            sys.stdin.read()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(files.__file__).parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"ready\n"
    return process


@needs_locks
@pytest.mark.parametrize("what", ["written_whole", "folder_written_whole"])
def test_what_a_killed_process_left_is_removed_by_the_next(what, tmp_path):
    with writing(tmp_path, what) as process:
        (half,) = names(tmp_path)
        sweep(tmp_path)
        assert names(tmp_path) == [half]  # its process lives
        process.send_signal(signal.SIGKILL)
    assert names(tmp_path) == [half]
    files._swept.clear()
    with written_whole(tmp_path / "other", DepthError) as file:
        file.write(b"whole")
    assert names(tmp_path) == ["other"]


@needs_locks
@pytest.mark.parametrize("what", ["written_whole", "folder_written_whole"])
def test_a_process_that_lives_is_not_disturbed(what, tmp_path):
    with writing(tmp_path, what) as process:
        sweep(tmp_path)
        process.communicate(timeout=60)
    assert process.returncode == 0 and names(tmp_path) == ["new"]


def test_other_files_are_not_touched(tmp_path):
    mine = [".0123456789abcdef.tmp", ".keras_dpt_notes.tmp", "keras_dpt_0123456789abcdef.tmp.h5"]
    for name in mine:
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert names(tmp_path) == sorted(mine)


@needs_locks
def test_links_are_not_followed(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo").touch()
    (tmp_path / ".keras_dpt_0123456789abcdef.tmp").symlink_to(tmp_path / "mine")
    sweep(tmp_path)
    assert names(tmp_path / "mine") == ["photo"]


def test_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    for content in (b"one", b"two"):
        with written_whole(path, DepthError) as file:
            file.write(content)
            assert not path.exists() or path.read_bytes() == b"one"
        assert path.read_bytes() == content
    with pytest.raises(KeyboardInterrupt), written_whole(path, DepthError) as file:
        file.write(b"three")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"two" and names(tmp_path) == ["file"]
    long = tmp_path / ("x" * 300)
    with pytest.raises(DepthError, match="too long"), written_whole(long, DepthError) as file:
        file.write(b"four")
    assert names(tmp_path) == ["file"]
    mode = path.stat().st_mode & 0o777
    assert mode == 0o666 & ~_umask()  # as of any other file, not private


def test_paths_and_file_objects(tmp_path):
    whole = io.BytesIO()
    for target in (whole, tmp_path / "file", str(tmp_path / "other")):
        with written(target, DepthError) as file:
            file.write(b"one")
            assert whole.getvalue() in (b"", b"one")
    assert whole.getvalue() == b"one"
    assert [(tmp_path / name).read_bytes() for name in names(tmp_path)] == [b"one", b"one"]
    closed = io.BytesIO()
    closed.close()
    for target, why in ((io.StringIO(), "takes no bytes"), (closed, "Cannot write to BytesIO")):
        with pytest.raises(DepthError, match=why), written(target, DepthError) as file:
            file.write(b"one")


@needs_locks
@pytest.mark.parametrize("taken", ["removed", "held"])
def test_another_process_is_quicker_than_the_lock(taken, tmp_path, monkeypatch):
    """It takes what is new for what a killed process left; another name is tried then."""
    lock, counts = files.try_lock, [0]

    def slow_lock(descriptor):
        counts[0] += 1
        if counts[0] % 2 == 0:
            return lock(descriptor)
        (new,) = names(tmp_path)
        if taken == "held":
            return False
        path = tmp_path / new
        path.rmdir() if path.is_dir() else path.unlink()
        return lock(descriptor)

    monkeypatch.setattr(files, "try_lock", slow_lock)
    if taken == "removed":
        with written_whole(tmp_path / "file", DepthError) as file:
            file.write(b"one")
        assert (tmp_path / "file").read_bytes() == b"one"
        (tmp_path / "file").unlink()
    with temporary_folder(tmp_path) as folder:
        assert folder.is_dir() and counts[0] % 2 == 0
        (folder / "a").touch()


def test_a_file_that_is_closed_within(tmp_path):
    """As encoders of videos may do."""
    with written_whole(tmp_path / "file", DepthError) as file:
        file.write(b"one")
        file.close()
    assert (tmp_path / "file").read_bytes() == b"one" and names(tmp_path) == ["file"]


def test_a_folder(tmp_path):
    (tmp_path / "out").mkdir()
    with folder_written_whole(tmp_path / "out", DepthError) as folder:
        (folder / "a").touch()
    assert names(tmp_path / "out") == ["a"]
    with (
        pytest.raises(DepthError, match="exists already"),
        folder_written_whole(tmp_path / "out", DepthError),
    ):
        pass
    with pytest.raises(ZeroDivisionError), temporary_folder(tmp_path) as folder:
        (folder / "a").touch()
        raise ZeroDivisionError
    assert names(tmp_path) == ["out"]


HOLDS = """
import os, sys, time
from pathlib import Path
from files import hold  # alone, without Keras: quick
has = hold(Path("."))
if sys.argv[1:] == ["fork"]:
    if os.fork() == 0:
        print(has, flush=True)  # from here on it holds nothing itself
        time.sleep(60)  # a worker that outlives its process
        os._exit(0)
else:
    print(has, flush=True)
sys.stdin.read()
"""


def holding(folder, *arguments):
    """A process that has a folder to itself, if it can, and what it says of it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(files.__file__).parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    return process, process.stdout.readline() == b"True\n"


@needs_locks
@pytest.mark.parametrize("arguments", [(), ("fork",)])
def test_one_process_has_a_folder(arguments, tmp_path):
    process, has = holding(tmp_path, *arguments)
    assert has and not hold(tmp_path)
    process.kill()
    process.wait()
    try:
        assert hold(tmp_path) and hold(tmp_path)  # its workers do not have it
        other, has = holding(tmp_path)
        assert not has
        other.communicate()
        release(tmp_path)
        other, has = holding(tmp_path)
        assert has
        other.communicate()
    finally:
        release(tmp_path)
        os.killpg(process.pid, signal.SIGKILL) if arguments else None
        process.communicate()
    assert names(tmp_path) == []


@pytest.mark.parametrize("moves", range(4))
def test_a_folder_renewed_is_never_a_mixture(moves, tmp_path, monkeypatch):
    """It ends before one of its files is moved."""
    folder, count, replace = tmp_path / "folder", iter(range(10)), os.replace

    def write(text):
        with folder_renewed(folder, "key") as new:
            for name in ("a", "key", "b"):
                (new / name).write_text(text)

    def dies(*paths):
        if next(count) == moves:
            raise KeyboardInterrupt
        replace(*paths)

    write("old")
    (folder / "mine").touch()
    monkeypatch.setattr(files.os, "replace", dies)
    with suppress(KeyboardInterrupt):
        write("new")
    found = {path.name: path.read_text() for path in folder.iterdir()}
    assert found.pop("mine") == ""
    assert "key" not in found or found == dict.fromkeys(("a", "b", "key"), "new")
    assert ("key" in found) == (moves == 3) and names(tmp_path) == ["folder"]


def _umask():
    now = os.umask(0)
    os.umask(now)
    return now
