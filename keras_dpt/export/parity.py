"""Compare the outputs of Keras and of an exported file on the same images."""

import itertools

import keras
import numpy as np

from keras_dpt.errors import ExportError

# Largest accepted difference, as a share of the range of Keras's output. Float32 runtimes are far
# below it; half precision, or a wrongly exported operation, is far above.
TOLERANCE = 1e-4
BATCH_SIZES = (1, 2)


def check_shapes(image_size, batch_size, aim, multiple):
    """Input shapes to check a file with.

    Args:
        image_size: fixed `(height, width)` of the file, or `None`.
        batch_size: its fixed batch size, or `None`.
        aim: `(height, width)` of the preset, checked together with another size and aspect.
        multiple: sides are multiples of it.

    Returns: list of `(B, H, W, 3)`.
    """
    height, width = aim
    free = [(height, width), (height + multiple, width + 2 * multiple)]
    sizes = free if image_size is None else [image_size]
    batches = BATCH_SIZES if batch_size is None else (batch_size,)
    return [(batch, *size, 3) for size, batch in itertools.product(sizes, batches)]


def compare(model, run, shapes, tolerance):
    """Run a model and a file on the same images.

    Args:
        model: a `DPTDepth` or `DPTSegmentation`.
        run: function of `(B, H, W, 3)` float32 that runs the file.
        shapes: of the images.
        tolerance: the largest accepted error, see `relative_error`.

    Returns: one dict per shape, `input_shape` and `max_relative_error`.
    Raises: ExportError: the runtime fails, returns another shape, or differs by more.
    """
    found = []
    for shape in shapes:
        images = pictures(shape)
        expected = np.asarray(keras.Model.predict_on_batch(model, images))
        where = "x".join(map(str, shape))
        try:
            output = np.asarray(run(images))
        except Exception as error:  # each runtime has its own
            raise ExportError(
                f"The exported file does not run on images {where}: {first_line(error)}"
            ) from error
        if output.shape != expected.shape:
            raise ExportError(
                f"The exported file returns {output.shape} for images {where}; Keras returns "
                f"{expected.shape}."
            )
        error = relative_error(output, expected)
        if not error <= tolerance:  # NaN is no success
            raise ExportError(
                f"The results of the exported file differ: for images {where} by {error:.2g} of "
                f"the output's range, where {tolerance:g} is allowed. The file was deleted."
            )
        found.append({"input_shape": list(shape), "max_relative_error": error})
    return found


def relative_error(output, expected):
    """The largest difference, over the range (largest minus smallest value) of `expected`."""
    expected = np.asarray(expected, "float64")
    scale = np.ptp(expected) or np.abs(expected).max() or 1.0
    return float(np.abs(output - expected).max() / scale)


def pictures(shape, seed=0):
    """Network inputs `(B, H, W, 3)` float32 in [-1, 1]: waves, as photos are smooth, and noise."""
    batch, height, width, _ = shape
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width][..., None]
    phase = rng.uniform(0, 2 * np.pi, (batch, 1, 1, 3))
    waves = np.sin(rows / 17 + columns / 29) + np.cos(rows / 41 - phase)
    return (0.4 * waves + rng.uniform(-0.2, 0.2, shape)).astype("float32")


def first_line(error):
    """The first line of an error's message that is not empty."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:500]
