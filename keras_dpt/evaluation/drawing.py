"""Panels of one measured image: photo, ground truth, prediction and error side by side."""

import numpy as np
from PIL import Image

from keras_dpt.evaluation.measure import Measured
from keras_dpt.maps.depth_map import DepthMap
from keras_dpt.maps.label_map import LabelMap

_UNKNOWN = (205, 205, 205)
_RIGHT, _WRONG = (232, 240, 236), (196, 44, 58)


def panels(sample, measured: Measured, model, space: str = "depth") -> dict[str, Image.Image]:
    """What a report shows of one image.

    Ground truth and prediction share one range of colours; grey is not measured.

    Args:
        sample: `(image, target, valid)`.
        measured: its result of `measure`.
        model: for class names and palette of labels.
        space: "depth" or "disparity".

    Returns: RGB images of the image's size by caption; only the photo if no pixels were
        measured.
    """
    photo = {"photo": Image.fromarray(sample.image)}
    if measured.error is None:
        return photo
    known = np.isfinite(measured.error)
    if hasattr(model, "class_names"):
        return photo | _label_panels(measured, known, model)
    truth, prediction = _depth_panels(measured, known, space)
    return photo | {"truth": truth, "prediction": prediction, "error": error_picture(measured)}


def error_picture(measured: Measured, limit: float = 0.5) -> Image.Image:
    """The error of each pixel in colours, from dark for 0 to bright for `limit` and more."""
    error = np.nan_to_num(measured.error, nan=0.0).astype("float32")
    picture = DepthMap(error, "relative_inverse_depth").colorize("magma", 0.0, limit)
    return _with_grey(picture, np.isfinite(measured.error))


def _depth_panels(measured, known, space):
    kind = "metric_depth" if space == "depth" else "relative_inverse_depth"
    low, high = np.percentile(measured.truth[known], (2, 98))
    if low == high:
        low, high = low * 0.9 - 1e-6, high * 1.1 + 1e-6
    shown = np.isfinite(measured.prediction)
    pictures = []
    for values, there in ((measured.truth, known), (measured.prediction, shown)):
        values = np.where(there, values, low).astype("float32")
        pictures.append(_with_grey(DepthMap(values, kind).colorize(vmin=low, vmax=high), there))
    return pictures


def _label_panels(measured, known, model):
    ignored = model.ignore_index

    def colors(labels):
        return LabelMap(labels, model.class_names, model.palette, ignore_index=ignored).colorize()

    truth = np.where(known, measured.truth, ignored)
    wrong = known & (measured.error > 0)
    error = np.where(wrong[..., None], _WRONG, _RIGHT).astype("uint8")
    return {
        "truth": _with_grey(colors(truth), known),
        "prediction": colors(measured.prediction),
        "error": _with_grey(Image.fromarray(error), known),
    }


def _with_grey(picture, known):
    pixels = np.array(picture.convert("RGB"))
    pixels[~known] = _UNKNOWN
    return Image.fromarray(pixels)
