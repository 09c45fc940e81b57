"""Inputs and outputs of an exported file, for use without this package."""

import platform
from importlib.metadata import version

import keras
import numpy as np

from keras_dpt.evaluation.provenance import hash_of_weights
from keras_dpt.export.runtimes import OPENVINO_FLOAT32
from keras_dpt.version import __version__

_RESIZE = {
    "bicubic": "OpenCV's cv2.INTER_CUBIC (a = -0.75, no antialiasing) on float32 pixels",
    "bicubic_antialias": "Pillow's BICUBIC (a = -0.5, antialiased) on 8-bit pixels",
    "bilinear": "OpenCV's cv2.INTER_LINEAR (no antialiasing) on float32 pixels",
    "bilinear_aligned": "linear, centres of corner pixels aligned, on float32 pixels",
    "bilinear_antialias": "Pillow's BILINEAR (antialiased) on 8-bit pixels",
    "nearest": "pixel floor((i + 0.5) * old / new) of each axis",
}
_FACTOR = {
    "minimal": ("the factor closest to 1", ""),
    "lower_bound": ("the larger factor", " A side below image_size is rounded up instead."),
    "upper_bound": ("the smaller factor", " A side above image_size is rounded down instead."),
}


def describe(model, form, file, shape, checks, tolerance, origin=None):
    """Everything needed to run a file, in JSON types.

    Args:
        model: the task that was exported.
        form: a `Format`.
        file: name of the file.
        shape: of its input, `(B, H, W, 3)`, with `None` for free axes.
        checks: results of `parity.compare`.
        tolerance: of these checks.
        origin: further facts about the weights, such as preset and licence.
    """
    return {
        "keras_dpt": __version__,
        "format": form.name,
        "file": file,
        "network": type(model).__name__,
        "weights_sha256": hash_of_weights(model),
        "origin": origin,
        "input": {
            "name": form.input_name,
            "dtype": "float32",
            "layout": "NHWC",
            "shape": list(shape),
            "channels": "RGB",
            "sides_are_multiples_of": model.backbone.size_multiple,
            "note": "Already resized and normalised, as below. Most runtimes do not check that "
            "sides are such multiples, and silently return distorted output.",
        },
        "preprocessing": describe_preprocessing(model.converter_of_photos(), shape[1:3]),
        "output": {
            "name": form.output_name,
            "dtype": "float32",
            "layout": "NHWC",
            "shape": [*shape[:3], model.output.shape[-1]],
            **model.describe_output(),
        },
        "runtime": _runtime(form),
        "parity": {
            "reference": f"keras {keras.version()} on {keras.backend.backend()}, float32",
            "measure": "largest difference / (largest - smallest value of the reference)",
            "tolerance": tolerance,
            "checks": checks,
            "machine": platform.machine(),
        },
    }


def describe_preprocessing(converter, size):
    """The steps from a photo to the input, in JSON types.

    Args:
        converter: a `DPTImageConverter`.
        size: `(height, width)` that the file is fixed to; `(None, None)` for free sizes.
    """
    is_free = None in size
    image_size = converter.image_size if is_free else size
    return {
        "photo": "RGB pixels (H, W, 3), 0 to 255, turned upright",
        "image_size": list(image_size) if image_size else None,
        # A file of a fixed size takes photos of any shape only if they are stretched.
        "keep_aspect_ratio": converter.keep_aspect_ratio and is_free,
        "multiple_of": converter.multiple_of,
        "size_rule": _size_rule(converter, image_size),
        "resize": converter.resize,
        "resize_meaning": _RESIZE[converter.resize],
        "normalise": "(pixels / 255 - mean) / std",
        "mean": np.asarray(converter.mean, float).tolist(),
        "std": np.asarray(converter.std, float).tolist(),
        "value_range": _value_range(converter),
    }


def _size_rule(converter, image_size):
    """How the size of the input is computed from that of a photo."""
    if converter.pad and not image_size:
        return (
            "Photos keep their size. After normalisation they are padded with zeros, floor(half) "
            "of them above and to the left, to sides that are multiples of multiple_of."
        )
    if not image_size:
        return "Photos keep their size."
    factor, bound = _FACTOR[converter.size_rule]
    return (
        f"Factors are image_size / photo size, per axis. With keep_aspect_ratio, {factor} holds "
        "for both axes. A side becomes round(factor * side / multiple_of) * multiple_of, and at "
        f"least multiple_of.{bound}"
    )


def _value_range(converter):
    """The smallest and the largest value of the input."""
    ends = [(end - np.asarray(converter.mean)) / np.asarray(converter.std) for end in (0, 1)]
    return [float(np.min(ends[0])), float(np.max(ends[1]))]


def _runtime(form):
    """The runtime of the file, and its necessary settings."""
    runtime = {"package": form.distribution, "checked_with": version(form.distribution)}
    if form.name == "openvino":
        note = "Without this, OpenVINO computes in bfloat16 where the CPU can."
        runtime |= {"options": OPENVINO_FLOAT32, "note": note}
    if form.name == "litert":
        note = "Make a new interpreter for each input shape: one whose input grew can be wrong."
        runtime |= {"note": note}
    return runtime
