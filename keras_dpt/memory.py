"""Freed memory: kept for the next prediction instead of given back, for those who ask for it."""

import ctypes
import platform

# Of glibc's malloc.h. The largest value that `mallopt` takes is the largest int of C.
_SETTINGS = (
    (-3, 2**31 - 1),  # M_MMAP_THRESHOLD: large blocks come from the heap, too
    (-1, 2**31 - 1),  # M_TRIM_THRESHOLD: and the heap does not shrink when they are freed
    (-8, 1),  # M_ARENA_MAX: one heap for all threads, so that one's freed block serves another
)


def keep_freed_memory():
    """Ask the C library to keep freed memory for the next prediction; for this process, for good.

    By default glibc gives large freed blocks back to the system, so that each prediction on a
    CPU gets its maps as fresh pages, which the system clears first: about 190 MB for a photo
    of 384 x 384 on TensorFlow with `dpt_base`. Kept, they cost nothing. The process holds on to its
    peak memory, which itself changes by a few per cent at most.

    Call it once, before the first prediction: threads that run already keep heaps of their own.
    The command line does. A library does not do it unasked, as it concerns all of the process: one
    heap may slow down programs in which many threads ask for memory at once.

    Returns:
        bool: whether the C library agreed. `False` where it is not glibc (macOS, Windows, Alpine);
        nothing has changed then.
    Source: the GNU C Library manual, "Malloc Tunable Parameters".
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(parameter, value) == 1 for parameter, value in _SETTINGS)
