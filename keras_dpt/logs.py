"""What TensorFlow, XLA and CUDA log, kept from the terminal of a command."""

import logging
import os
import re
import signal
import sys
import tempfile
from contextlib import contextmanager

# Lines of their C++ logs, up to errors; what is fatal goes through. The environment variable that
# TensorFlow has for this does not reach what is logged while it is imported.
_LOG_LINE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog"
    rb"|[IWE]\d{4} \d\d:\d\d:\S+ +\d+ \S+:\d+\] "
    rb"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] \S+:\d+\] "
    rb"|To enable the following instructions: "
)


def quiet_frameworks() -> None:
    """Drop the logs of TensorFlow, XLA, CUDA and JAX from standard error, for this process.

    For programs, at their start and before they import Keras. Everything else that is written to
    standard error appears as before. Where there is no `os.fork` (Windows), TensorFlow's own
    setting is all that is done.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in ("absl", "jax", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if hasattr(os, "fork"):
        _filter_standard_error()


@contextmanager
def quiet_import():
    """Drop the logs of frameworks that are imported within, unless `TF_CPP_MIN_LOG_LEVEL` is 0.

    For the library, which leaves a program's standard error alone otherwise. Everything else that
    is written to it meanwhile appears when the import is done.
    """
    level = os.environ.get("TF_CPP_MIN_LOG_LEVEL")  # 1 means nothing: JAX sets it
    try:
        terminal = None if level == "0" else os.dup(2)
    except OSError:  # a program without standard error
        terminal = None
    if terminal is None:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # read once, for what is logged later
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            del os.environ["TF_CPP_MIN_LOG_LEVEL"]
            os.environ |= {} if level is None else {"TF_CPP_MIN_LOG_LEVEL": level}
            held.seek(0)
            _write(2, b"".join(line for line in held if not _LOG_LINE.match(line)))


def _filter_standard_error():
    """Have what C and C++ write to file 2 read by another process, which survives a crash."""
    sys.stderr.flush()
    reading, writing = os.pipe()
    if os.fork() == 0:
        status = 1
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the other process
            os.close(writing)
            _pass_on(reading, 2)
            status = 0
        finally:
            os._exit(status)
    os.close(reading)
    terminal = os.dup(2)
    os.dup2(writing, 2)
    os.close(writing)
    # Python's own messages and progress bars do not need the filter, and ask what they write to.
    sys.stderr = os.fdopen(
        terminal, "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace"
    )


def _pass_on(source, target):
    """Copy whole lines from one file descriptor to another, but for those of logs."""
    rest = b""
    while block := os.read(source, 65536):
        *lines, rest = (rest + block).split(b"\n")
        _write(target, b"".join(b"%b\n" % line for line in lines if not _LOG_LINE.match(line)))
    if not _LOG_LINE.match(rest):
        _write(target, rest)


def _write(target, data):
    while data:
        data = data[os.write(target, data) :]
