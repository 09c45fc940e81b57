"""Reading `.npy` files that others wrote: no more memory than the file is long, and no pickles."""

from pathlib import Path

import numpy as np


def read_npy(path: Path) -> np.ndarray:
    """The array of a `.npy` file.

    A header may promise any shape; mapping the file compares it with the file's length first.

    Raises: ValueError: it is another kind of file, holds Python objects, or is cut off.
    """
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(mapped, np.ndarray):
        mapped.close()
        raise ValueError("it is an .npz archive, whatever its name says")
    return np.array(mapped)
