"""What a well-behaved process does: end cleanly when told to, write to whatever its output is."""

import codecs
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

BROKEN_PIPE = 141  # as shells say that SIGPIPE ended a process
_PLAIN = {"↓": "v", "↑": "^", "→": "->", "×": "x", "≤": "<=", "≥": ">=", "–": "-", "…": "..."}


class Told(KeyboardInterrupt):
    """A signal told the process to end; `code` is the exit code that says so."""

    def __init__(self, number):
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


@contextmanager
def cleaned_up_when_told() -> Iterator[None]:
    """Within it SIGTERM and SIGHUP raise `Told`, so that what is half written is removed."""
    names = ("SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can say what signals do
        return

    def tell(number, _):
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)  # once is enough: let it clean up
        raise Told(number)

    # Who started this may have wanted it to outlive a terminal: nohup.
    heeded = [n for n in numbers if signal.getsignal(n) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, tell) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def prepare_streams() -> None:
    """Let output never fail for a character that its console lacks, or for not being there."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # as services have it
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif getattr(stream, "errors", None) in ("strict", "surrogateescape"):
            with suppress(AttributeError):  # something else than a text stream
                stream.reconfigure(errors="keras_dpt_plain")


def silence_broken_streams() -> None:
    """Send what is still to be written nowhere, or Python complains of it when it ends."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def _plain(error):
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in text), error.end


codecs.register_error("keras_dpt_plain", _plain)
