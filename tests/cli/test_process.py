"""The command as a process: pipes that close, consoles of few characters, signals, no streams."""

import io
import os
import signal
import subprocess
import sys

import pytest

from keras_dpt import cli, files, presets
from keras_dpt.cli import process
from keras_dpt.errors import EvaluationError


def printing(monkeypatch, text):
    monkeypatch.setattr(presets, "list_presets", lambda task: print(text))


def test_a_pipe_that_nobody_reads(tmp_path):
    """As in `keras-dpt presets | head -1`: silence, and the exit code of SIGPIPE."""
    reader, writer = os.pipe()
    os.close(reader)
    program = "import sys; from keras_dpt.cli import main; sys.exit(main(['presets']))"
    result = subprocess.run([sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert result.returncode == 141
    assert b"roken" not in result.stderr and b"Traceback" not in result.stderr


@pytest.mark.parametrize(
    "encoding, shown", [("cp1252", "AbsRel v 1 × 2 ? é"), ("utf-8", "AbsRel ↓ 1 × 2 深 é")]
)
def test_a_console_of_few_characters(encoding, shown, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    printing(monkeypatch, "AbsRel ↓ 1 × 2 深 é")
    assert cli.main(["presets"]) == 0
    assert stream.buffer.getvalue().decode(encoding).strip() == shown


def test_a_name_that_is_no_text(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    printing(monkeypatch, os.fsdecode(b"photo\xff.jpg"))
    assert cli.main(["presets"]) == 0 and stream.buffer.getvalue().strip() == b"photo?.jpg"


@pytest.mark.parametrize("missing", ["stdout", "stderr"])
def test_no_streams(missing, monkeypatch):
    """As services have it, and `2>&-`."""
    monkeypatch.setattr(sys, missing, None)
    printing(monkeypatch, "text")
    assert cli.main(["presets"]) == 0
    getattr(sys, missing).close()


@pytest.mark.parametrize("name, code", [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_to_end_leaves_nothing_half_written(name, code, monkeypatch, tmp_path, capsys):
    number = getattr(signal, name, None)
    if number is None:
        pytest.skip(f"no {name} here")

    def list_presets(task):
        with (
            files.folder_written_whole(tmp_path / "folder", EvaluationError) as folder,
            files.written_whole(tmp_path / "file", EvaluationError) as file,
        ):
            (folder / "a").touch()
            file.write(b"half")
            signal.raise_signal(number)

    monkeypatch.setattr(presets, "list_presets", list_presets)
    before = signal.signal(number, signal.SIG_DFL)  # the tests may have been started with nohup
    try:
        assert cli.main(["presets"]) == code
        assert not list(tmp_path.iterdir())
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert capsys.readouterr().err == f"keras-dpt: ended by {name}\n"


def test_what_was_to_be_ignored_is(monkeypatch, capsys):
    """`nohup keras-dpt ...` outlives its terminal."""
    number = getattr(signal, "SIGHUP", None)
    if number is None:
        pytest.skip("no SIGHUP here")
    before = signal.signal(number, signal.SIG_IGN)
    try:
        monkeypatch.setattr(presets, "list_presets", lambda task: signal.raise_signal(number))
        assert cli.main(["presets"]) == 0
    finally:
        signal.signal(number, before)


def test_other_threads_cannot_say_what_signals_do():
    import threading

    codes = []
    thread = threading.Thread(target=lambda: codes.append(cli.main(["presets"])))
    thread.start()
    thread.join()
    assert codes == [0] and process.BROKEN_PIPE == 128 + 13


@pytest.mark.parametrize("name", ["tensorflw", "openvino"])
def test_a_backend_that_is_not_there(name, tmp_path):
    """In one message, whatever Keras raises for it."""
    missing = f"raise ModuleNotFoundError('No module named {name}', name='{name}')"
    (tmp_path / f"{name}.py").write_text(missing)  # ahead of one that is installed
    (tmp_path / "photo.ppm").write_bytes(b"P6 2 2 255 " + bytes(12))
    command = [sys.executable, "-m", "keras_dpt", "depth", "photo.ppm", "-o", "out"]
    result = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"KERAS_BACKEND": name},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("keras-dpt: Keras") and line.endswith(f"Received: {name}.")
    assert "torch" in line and not (tmp_path / "out").exists()
