import ctypes
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import keras_dpt
from keras_dpt import keep_freed_memory

# Faults of the second of two turns in which a thread, as a network's do, fills 64 MB and frees it.
SCRIPT = """
import ctypes, resource, sys, threading
sys.path.insert(0, sys.argv[1])
from memory import keep_freed_memory  # without the package: its libraries would take seconds
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
def turn():
    block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(64 << 20)))
    libc.memset(block, 1, ctypes.c_size_t(64 << 20))
    libc.free(block)
if "keep" in sys.argv:
    assert keep_freed_memory() is True
faults = []
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=turn)
    thread.start()
    thread.join()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc only")
def test_freed_memory_is_used_again():
    def faults(*arguments):
        folder = Path(keras_dpt.__file__).parent
        command = [sys.executable, "-c", SCRIPT, str(folder), *arguments]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    # 16384 pages of 4 KiB, or 32 of 2 MiB; nearly none when the block is used again.
    assert faults("keep") < faults() / 10


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False


def test_what_is_asked_of_glibc(monkeypatch):
    """Numbers of its malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX."""
    asked = {}

    class Library:
        agrees = 1

        def __init__(self, name):
            assert name is None

        def mallopt(self, parameter, value):
            asked[parameter] = value
            return self.agrees

    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(ctypes, "CDLL", Library)
    assert keep_freed_memory() is True
    assert asked == {-1: 2**31 - 1, -3: 2**31 - 1, -8: 1}
    monkeypatch.setattr(Library, "agrees", 0)
    assert keep_freed_memory() is False
