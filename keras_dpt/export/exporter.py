"""`export_model`: write a file, check it in its runtime, describe it, then put it in place."""

import json
import os
import shutil
from pathlib import Path

import keras

from keras_dpt.errors import ExportError
from keras_dpt.export import parity, writers
from keras_dpt.export.description import describe
from keras_dpt.export.formats import PAIRS, check_packages, check_pair, check_path, find_format
from keras_dpt.export.runtimes import load_exported
from keras_dpt.files import temporary_folder
from keras_dpt.models.task import DPTTask
from keras_dpt.ops.sides import one_size_only


def export_model(
    model, path, format, image_size=None, batch_size=None, tolerance=parity.TOLERANCE, origin=None
):
    """Write a network for another runtime, and check it there against Keras.

    The file takes images that are already resized and normalised. A JSON file next to it (`path`
    with `.json` added) describes preprocessing and output. Before either appears, the file is run
    in its runtime and compared with Keras: at its size, or at two if sizes are free, and in batches
    of 1 and 2 if these are free. If the results differ, no file is left. An existing `path` is
    replaced.

    Args:
        model: a `DPTDepth` or `DPTSegmentation` in float32.
        path: of the new file: `.onnx`, `.tflite`, `.xml` (OpenVINO; the weights are next to it
            as `.bin`), or a folder ("tf_saved_model").
        format: "onnx", "tf_saved_model", "litert" or "openvino".
        image_size: fixed `(height, width)` of the file, multiples of the model's `size_multiple`.
            `None` leaves both free: the file then takes any such multiples. A network of one size,
            such as one on Swin, is exported with that size.
        batch_size: fixed number of images; `None` leaves it free.
        tolerance: the largest accepted difference, as a share of the range of Keras's output.
        origin: dict of facts about the weights, such as preset and licence, for the JSON file.

    Returns: the content of the JSON file, a dict; `["parity"]["checks"]` are the measured
        differences.
    Raises: keras_dpt.ExportError: (a ValueError) the backend cannot write this format, a package is
        missing, the path or a size is not valid (all before any work); or the file could not be
        written or its results differ.
    """
    path = Path(path)
    if isinstance(model, DPTTask):
        image_size = _size_of(model, image_size)
    form = check_request(path, format, image_size, batch_size)
    _check_model(model)
    multiple = model.backbone.size_multiple
    _check_sides(image_size, multiple)
    image_size = None if image_size is None else tuple(image_size)
    shape = (batch_size, *(image_size or (None, None)), 3)
    shapes = parity.check_shapes(image_size, batch_size, _aim(model), multiple)
    # Next to the target, so that moving it there is a rename.
    with temporary_folder(path.absolute().parent) as folder:
        file = folder / path.name
        _write(model, form, file, shape)
        checks = parity.compare(model, _load(form, file), shapes, tolerance)
        about = describe(model, form, path.name, shape, checks, tolerance, origin)
        text = json.dumps(about, indent=2, ensure_ascii=False)
        file.with_name(f"{path.name}.json").write_text(f"{text}\n", encoding="utf-8")
        _publish(folder, path)
    return about


def check_request(path, format, image_size=None, batch_size=None, multiple=None):
    """Raise `ExportError` for what `export_model` cannot do, before loading a model.

    Args: as of `export_model`; multiple: sides must be multiples of it, if known.
    Returns: the `Format`.
    """
    form = find_format(format)
    backend = keras.backend.backend()
    check_pair(backend, form, dynamic=image_size is None)
    check_path(form, Path(path))
    if image_size is not None:
        _check_size(image_size)
        if multiple is not None:
            _check_sides(image_size, multiple)
    if batch_size is not None and not (isinstance(batch_size, int) and batch_size >= 1):
        raise ExportError(
            f"`batch_size` must be a number from 1, or None. Received: {batch_size!r}."
        )
    needed = (form.runtime, *PAIRS[backend, form.name].packages)
    check_packages(needed, f"Export to {form.name} on {backend}")
    return form


def _size_of(model, image_size):
    """`image_size`, or the size of a network that was built for one size."""
    fixed = tuple(model.backbone.input.shape[1:3])
    if None in fixed:
        return image_size
    if image_size is not None and tuple(image_size) != fixed:
        raise ExportError(
            f"{one_size_only('This network', fixed)} Received: image_size={image_size!r}."
        )
    return fixed


def _check_size(size):
    sides = tuple(size) if isinstance(size, list | tuple) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ExportError(f"`image_size` must be (height, width). Received: {size!r}.")


def _check_sides(size, multiple):
    if size is not None and any(side % multiple for side in size):
        height, width = (_nearest(side, multiple) for side in size)
        raise ExportError(
            f"Sides of images must be multiples of {multiple}. Received: {size[0]}x{size[1]} "
            f"(height x width). Try {height}x{width}."
        )


def _check_model(model):
    if not isinstance(model, DPTTask):
        raise ExportError(
            f"`export_model` takes a DPTDepth, a DPTSegmentation or another task. Received: "
            f"{type(model).__name__}."
        )
    other = {layer.dtype_policy.name for layer in model._flatten_layers()} - {"float32"}
    if other:
        raise ExportError(
            f"Files are written and checked in float32; parts of this model are {min(other)}. "
            'Load it with from_preset(..., dtype="float32").'
        )


def _aim(model):
    """`(height, width)` of the network's own images."""
    size = model.converter_of_photos().image_size or (128, 160)
    return tuple(_nearest(side, model.backbone.size_multiple) for side in size)


def _nearest(side, multiple):
    return max(multiple, multiple * round(side / multiple))


def _write(model, form, file, shape):
    try:
        writers.write(model, form, file, shape)
    except OSError:
        raise
    except Exception as error:  # each converter has its own
        raise ExportError(
            f"{form.name} could not be written: {parity.first_line(error)}"
        ) from error


def _load(form, file):
    try:
        return load_exported(file, form.name)
    except Exception as error:  # each runtime has its own
        raise ExportError(
            f"{form.runtime} does not load the exported file: {parity.first_line(error)}"
        ) from error


def _publish(folder, path):
    """Move all files to `path`; the description is last and marks the export as complete."""
    for file in sorted(folder.iterdir(), key=lambda file: file.suffix == ".json"):
        target = path.with_name(file.name)
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(file, target)
