"""TensorFlow on JAX and PyTorch, where only `tf.data`, TensorBoard and exports want it."""

import importlib
import sys
from contextlib import suppress

from keras_dpt.logs import quiet_import


def import_tensorflow(name="tensorflow"):
    """Import TensorFlow, or a module that imports it, without the lines that it logs then.

    Triton comes first if it is installed, as it is with PyTorch for CUDA: Triton 3.7 ends the
    process when it is imported after TensorFlow 2.21, as transformers and `torch.export` may do.

    Args: name: of the module.
    Returns: the module.
    Raises: ImportError: it is not installed.
    """
    if "tensorflow" in sys.modules:
        return importlib.import_module(name)
    with suppress(ImportError):
        importlib.import_module("triton")
    with quiet_import():
        return importlib.import_module(name)
