"""Formats, and which backend can write which, with errors that suggest an alternative."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from keras_dpt.errors import ExportError
from keras_dpt.extras import install_command


@dataclass(frozen=True)
class Format:
    """A file format.

    Args:
        name: as in `keras.Model.export`.
        suffix: of the file; empty for a folder.
        runtime: import name of the package that runs it.
        distribution: that package's name for pip.
        input_name, output_name: in such files.
    """

    name: str
    suffix: str
    runtime: str
    distribution: str
    input_name: str = "images"
    output_name: str = "output"


@dataclass(frozen=True)
class Pair:
    """Support of a format by a backend.

    Args:
        dynamic: whether height and width of images may be free.
        packages: import names of packages needed besides the runtime.
    """

    dynamic: bool = True
    packages: tuple[str, ...] = ()


FORMATS = {
    form.name: form
    for form in (
        Format("onnx", ".onnx", "onnxruntime", "onnxruntime"),
        Format("tf_saved_model", "", "tensorflow", "tensorflow", output_name="output_0"),
        Format("litert", ".tflite", "ai_edge_litert", "ai-edge-litert", output_name="output_0"),
        Format("openvino", ".xml", "openvino", "openvino"),
    )
}
"""The formats, by their names in `export_model` and `keras-dpt export`."""

# By backend and format; `REASONS` has the reasons for missing pairs.
PAIRS = {
    ("tensorflow", "onnx"): Pair(packages=("tf2onnx", "onnx")),
    ("tensorflow", "tf_saved_model"): Pair(),
    ("tensorflow", "litert"): Pair(),
    ("tensorflow", "openvino"): Pair(),
    ("torch", "onnx"): Pair(dynamic=False, packages=("onnx", "onnxscript")),
    ("torch", "openvino"): Pair(dynamic=False, packages=("onnx", "onnxscript")),
}

_STUCK = "its exporter does not finish with free image sizes"
REASONS = {
    ("torch", "onnx"): _STUCK,
    ("torch", "openvino"): _STUCK,
    ("torch", "tf_saved_model"): "Keras needs torch_xla for it",
    ("torch", "litert"): "Keras needs litert-torch for it, which is not supported",
    ("jax", "onnx"): "jax2onnx writes max-pooling that ONNX Runtime rejects",
    ("jax", "tf_saved_model"): "JAX writes operations that TensorFlow cannot read yet",
    ("jax", "litert"): "Keras cannot convert JAX to LiteRT",
    ("jax", "openvino"): "OpenVINO does not support the operations that JAX writes",
}
REASONS |= {("openvino", name): "it predicts only" for name in FORMATS}


def find_format(name):
    """The `Format` called `name`. Raises ExportError: there is none."""
    if name not in FORMATS:
        raise ExportError(f"`format` must be one of {', '.join(FORMATS)}. Received: {name!r}.")
    return FORMATS[name]


def check_path(form, path):
    """Raise `ExportError` unless a file of this format can be written to `path`."""
    if not path.name:
        raise ExportError(f"{path} is not a valid name for a new file.")
    if path.suffix.lower() != form.suffix and (form.suffix or path.suffix in _other_suffixes(form)):
        wanted = f"end in {form.suffix}" if form.suffix else "be the name of a folder"
        raise ExportError(f"{path}: files of format {form.name} must {wanted}.")
    if not path.absolute().parent.is_dir():
        raise ExportError(f"Cannot write {path}: there is no folder {path.parent}. Create it.")
    if form.suffix and path.is_dir():
        raise ExportError(f"Cannot write {path}: it is a folder.")
    if not form.suffix and path.exists() and not _may_be_replaced(path):
        raise ExportError(f"Cannot write {path}: it is not an export. Choose another name.")


def check_pair(backend, form, dynamic):
    """Raise `ExportError` if the backend cannot write this format; the message names one that can.

    Args:
        backend: "tensorflow", "jax", "torch" or "openvino".
        form: a `Format`.
        dynamic: whether height and width of images are free.
    """
    pair = PAIRS.get((backend, form.name))
    if pair is not None and (pair.dynamic or not dynamic):
        return
    able = [b for (b, f), p in PAIRS.items() if f == form.name and (p.dynamic or not dynamic)]
    ways = " or ".join(f"KERAS_BACKEND={b}" for b in able)
    if pair is not None:
        ways += ", or fix the size of images (image_size=, --image-size)"
    what = form.name if pair is None else f"{form.name} with free sizes of images"
    reason = REASONS[backend, form.name]
    raise ExportError(
        f"The {backend} backend does not export to {what}: {reason}. Use {ways}. A preset "
        "predicts the same on every backend; to move your own model there, use "
        "model.save_to_preset(folder)."
    )


def check_packages(names, purpose):
    """Raise `ExportError` if one of these packages, by import name, is not installed."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(f"{purpose} needs {' and '.join(missing)}: {install_command('export')}")


def _other_suffixes(form):
    return {other.suffix for other in FORMATS.values() if other is not form}


def _may_be_replaced(path: Path):
    """Whether `path` is an earlier export or an empty folder."""
    return path.is_dir() and ((path / "saved_model.pb").is_file() or not any(path.iterdir()))
