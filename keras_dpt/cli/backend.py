"""What to say where Keras's backend cannot be had."""

import os
from importlib.util import find_spec

BACKENDS = ("tensorflow", "jax", "torch", "openvino")


def about_the_backend(error: Exception) -> str | None:
    """A message if the error is of a backend that Keras does not know or have, else `None`."""
    missing = getattr(error, "name", None) if isinstance(error, ImportError) else None
    if missing not in BACKENDS and not str(error).startswith("Unable to import backend"):
        return None
    received = os.environ.get("KERAS_BACKEND")
    installed = [name for name in BACKENDS if find_spec(name)]
    choice = f"one that is installed: {', '.join(installed)}" if installed else "an installed one"
    why = f"Keras's backend {missing} is not installed" if missing else "Keras has no such backend"
    return f"{why}. Set KERAS_BACKEND to {choice}. Received: {received or 'nothing'}."
