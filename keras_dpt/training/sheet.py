"""Contact sheets: photo, ground truth and prediction side by side."""

import numpy as np
from PIL import Image

from keras_dpt.maps.depth_map import DepthMap
from keras_dpt.maps.label_map import LabelMap

_WIDTH = 240  # pixels of one picture


def contact_sheet(model, samples, source):
    """Draw one row of photo, ground truth and prediction per sample.

    Depth is drawn in the model's kind, each map over its own range, since relative maps share none.
    Unknown ground truth has the colour of the far end.

    Args:
        model: a `DPTDepth` or `DPTSegmentation`.
        samples: list of `keras_dpt.datasets.Sample`.
        source: the `keras_dpt.datasets.Source` that they come from.

    Returns: RGB PIL image, three columns of 240 pixels.
    """
    predictions = model.predict_images([sample.image for sample in samples])
    rows = []
    for sample, prediction in zip(samples, predictions, strict=True):
        truth = _truth(sample, source, model)
        rows.append([Image.fromarray(sample.image), truth.colorize(), prediction.colorize()])
    heights = [round(_WIDTH * row[0].height / row[0].width) for row in rows]
    sheet = Image.new("RGB", (3 * _WIDTH, sum(heights)))
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            sheet.paste(picture.resize((_WIDTH, height)), (column * _WIDTH, top))
        top += height
    return sheet


def _truth(sample, source, model):
    """The sample's target as the map that the model would predict for it."""
    if source.kind == "labels":
        return LabelMap(
            sample.target, model.class_names, model.palette, ignore_index=source.ignore_index
        )
    values = np.where(sample.valid, sample.target, np.nan)
    if source.kind != model.kind:  # metres or their inverse, either way
        values = 1 / values
    far = np.nanmin if model.kind == "relative_inverse_depth" else np.nanmax
    unknown = far(values) if sample.valid.any() else 1.0
    return DepthMap(np.where(sample.valid, values, unknown), model.kind)
