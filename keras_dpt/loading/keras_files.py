"""`.keras` and `.weights.h5` files: checked before anything is built or allocated from them."""

import math
import zipfile
from pathlib import Path

from keras_dpt.errors import WeightsError
from keras_dpt.loading.preset_files import ARGUMENTS, OBJECT, arguments_in, numbers_in
from keras_dpt.schema import checked, explained, naming, parsed_json
from keras_dpt.weights.amount import check_amount

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_MOST_JSON = 64 * 1024**2  # bytes of a config; a large network's has 100 kB
_SPARE = 1_000_000  # numbers; random states, counters and whatever else Keras keeps


def is_keras_file(path) -> bool:
    """Whether a path is that of a model file as `keras.Model.save` writes it."""
    return Path(path).suffix == ".keras"


def load_keras_file(path, cls):
    """The model of a `.keras` file, compiled if it was.

    No code of the file is run: Keras builds registered classes only, and no lambdas.

    Args: cls: the class that the model must have.
    Raises: WeightsError: it is missing, damaged, unsafe, of another class, or not finite.
    """
    import keras

    from keras_dpt.models.finite import check_finite

    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"There is no file {path}.")
    with naming(path), explained(path, WeightsError, "cannot be loaded"):
        _check_archive(path)
        model = keras.saving.load_model(path, safe_mode=True)
    if not isinstance(model, cls):
        raise WeightsError(f"{path} holds a {type(model).__name__}, not a {cls.__name__}.")
    check_finite(model.variables, path)
    return model


def check_weights_file(path, variables):
    """Raise a WeightsError for a `.weights.h5` file that holds far more than these variables.

    Keras would read all of its numbers before it compares their shapes.
    """
    path = Path(path)
    if path.suffix == ".h5" and path.is_file():
        _check_most(numbers_in(path), variables, path)


def _check_most(found, variables, name):
    # An optimizer keeps several more of each.
    most = 8 * sum(math.prod(variable.shape) for variable in variables) + _SPARE
    if found > most:
        raise WeightsError(
            f"{name} holds {found:,} numbers, far more than this network's weights. It is damaged "
            "or another network's."
        )


def _check_archive(path):
    """Raise a WeightsError unless an archive's config is sensible and its weights are all there."""
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo(_CONFIG).file_size > _MOST_JSON:
            raise WeightsError(f"{path}: its {_CONFIG} is too large.")
        if broken := archive.testzip():  # Keras does not look at all checksums
            raise WeightsError(f"{path} is damaged: the checksum of {broken} is wrong.")
        text = archive.read(_CONFIG).decode("utf-8")
        config = checked(parsed_json(text, path, WeightsError), OBJECT, path, WeightsError)
        arguments = {}
        for part in arguments_in(config):
            arguments |= checked(part, ARGUMENTS, path, WeightsError)
        if archive.getinfo(_WEIGHTS).compress_type != zipfile.ZIP_STORED:
            raise WeightsError(f"{path}: its weights are compressed, which Keras does not do.")
        with archive.open(_WEIGHTS) as weights:
            check_amount(arguments, numbers_in(path, weights), path)
