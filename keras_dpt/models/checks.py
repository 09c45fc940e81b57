"""What training and test data must be, said before any work."""

import numpy as np

from keras_dpt.errors import TrainingError


def check_batch(x, caller):
    """Raise a TrainingError unless `x` are images."""
    if x is not None and not hasattr(x, "shape") and not isinstance(x, list | tuple):
        raise TrainingError(
            f"`{caller}` takes arrays, `tf.data.Dataset`s, Grain's datasets, "
            "`keras.utils.PyDataset`s, PyTorch's `DataLoader`s and generators of batches. "
            "Received: "
            f"{type(x).__name__}."
        )
    if x is None or not len(x):
        raise TrainingError(f"`{caller}` was given no images.")
    images = x if isinstance(x, list | tuple) else x[:1]
    shapes = [tuple(np.shape(image)) for image in images]
    if odd := [shape for shape in shapes if len(shape) != 3]:
        raise TrainingError(
            f"`{caller}` takes images (batch, height, width, channels). Received: "
            f"{len(x)} of shape {odd[0]}. A single image needs a first axis, `x[None]`; "
            "`predict_images` takes files."
        )
    if other := [shape for shape in shapes if shape != shapes[0]]:
        raise TrainingError(
            f"`{caller}` takes images of one shape. Received: {shapes[0]} and {other[0]}. "
            "`predict_images` takes any."
        )


def check_arrays(x, y, sample_weight, caller):
    """Raise a TrainingError unless `x` are images and all that is given with them is as long."""
    check_batch(x, caller)
    needed = {"target `y`": y}
    if sample_weight is not None:
        needed["`sample_weight`"] = sample_weight
    for name, values in needed.items():
        length = None if isinstance(values, str) or not np.ndim(values) else len(values)
        if length != len(x):
            received = "none" if values is None else length or repr(values)
            raise TrainingError(
                f"`{caller}` needs one {name} for each of the {len(x)} images `x`. Received: "
                f"{received}."
            )


def check_alone(y, sample_weight, kind, caller):
    """Raise a TrainingError for targets or weights beside data that have their own."""
    if y is not None or sample_weight is not None:
        raise TrainingError(
            f"A `{kind}` gives its own targets and weights; `{caller}` was given others."
        )


def split_at(count, validation_split):
    """How many of `count` images are trained with.

    Raises: TrainingError: `validation_split` leaves none for the one or the other.
    """
    if not 0 < validation_split < 1:
        raise TrainingError(
            "`validation_split` must be above 0 and below 1, the share of images that are not "
            f"trained with. Received: {validation_split}."
        )
    cut = int(count * (1 - validation_split))
    if cut in (0, count):
        raise TrainingError(
            f"`validation_split={validation_split}` of {count} images leaves none to "
            f"{'validate' if cut else 'train'} with. Give more images, or `validation_data`."
        )
    return cut


def check_depth_sizes(images, targets, converter):
    """Raise a TrainingError unless depth has the size of images that are ready for the network.

    Args:
        images, targets: shapes; `None` is an unknown side.
        converter: the `DPTImageConverter` that made the images, or `None`.
    """
    images, targets = tuple(images), tuple(targets)
    if len(targets) not in (3, 4) or (len(targets) == 4 and targets[-1] not in (1, None)):
        raise TrainingError(
            "Depth targets must be (batch, height, width) or (batch, height, width, 1). Received: "
            f"{targets}."
        )
    given, due = targets[1:3], images[1:3]
    if None in (*given, *due) or given == due:
        return
    advice = f"Resize the targets to {_by(due)}"
    if converter is not None and not any(side % converter.multiple_of for side in given):
        advice += f", or set `model.preprocessor.image_size = {given}` if images have that shape"
    raise TrainingError(
        f"Targets are {_by(given)} (height x width), but images are {_by(due)} after "
        f"preprocessing. {advice}."
    )


def _by(size):
    return f"{size[0]} x {size[1]}"
