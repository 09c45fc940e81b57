"""Check a keras-hub preset directory before it is loaded: complete, with plausible numbers."""

import math
from pathlib import Path

from keras_dpt.errors import WeightsError
from keras_dpt.schema import (
    Either,
    FileName,
    Flag,
    ListOf,
    MapOf,
    Real,
    Record,
    Text,
    Whole,
    checked,
    explained,
    read_json,
)
from keras_dpt.weights.amount import check_amount

_WIDTH, _WIDTHS = Whole(1, 65536), ListOf(Whole(1, 65536), 1, 64)
_DEPTHS, _SIDE = ListOf(Whole(1, 1000), 1, 64), Whole(1, 16384)
_NUMBERS = Either(Real(-1e4, 1e4), ListOf(Real(-1e4, 1e4), 3, 3))
_ABOVE_ZERO = Real(0, 1e4, above=True)

# Constructor arguments, by name, of whatever class of this package has them.
ARGUMENTS = Record(
    {
        "name": Text(1000),
        "trainable": Flag(),
        # Encoders
        "num_layers": Whole(1, 1000),
        "hidden_dim": _WIDTH,
        "num_heads": Either(_WIDTH, _WIDTHS),  # of each stage, in windowed encoders
        "embed_dim": _WIDTH,
        "depths": _DEPTHS,
        "window_size": Whole(1, 64),
        "pretrained_window_sizes": ListOf(Whole(0, 1024), 4, 4),
        "mlp_dim": Whole(1, 1 << 20),
        "patch_size": Whole(1, 1024),
        "position_grid": ListOf(Whole(1, 4096), 2, 2),
        "out_indices": ListOf(Whole(0, 999), 1, 16),
        "out_stages": ListOf(Whole(0, 15), 0, 16),
        "layer_norm_epsilon": Real(0, 1, above=True),
        "stem_channels": _WIDTH,
        "stage_channels": _WIDTHS,
        "stage_depths": _DEPTHS,
        "num_groups": _WIDTH,
        "image_shape": ListOf(Either(None, Whole(1, 65536)), 3, 3),
        # Backbone
        "readout": Either(None, Text(100)),
        "reassemble_channels": Either(None, _WIDTHS),
        "fusion_channels": Either(_WIDTH, _WIDTHS),
        "use_batch_norm": Flag(),
        # Tasks
        "head_channels": _WIDTHS,
        "kind": Text(100),
        "num_classes": Whole(1, 65536),
        "auxiliary": Flag(),
        "auxiliary_weight": Real(0, 1e6),
        "dropout": Real(0, 1),
        "class_names": Either(None, ListOf(Text(1000), 1, 65536)),
        "palette": Either(None, ListOf(ListOf(Whole(0, 255), 3, 3), 1, 65536)),
        "ignore_index": Whole(-(1 << 31), (1 << 31) - 1),
        # Image converter, and encoders for squares of one size
        "image_size": Either(None, _SIDE, ListOf(_SIDE, 2, 2)),
        "keep_aspect_ratio": Flag(),
        "multiple_of": Whole(1, 4096),
        "mean": _NUMBERS,
        "std": Either(_ABOVE_ZERO, ListOf(_ABOVE_ZERO, 3, 3)),
    }
)
_TEXT = Text(1000)
_FIELDS = {"registered_name": _TEXT, "class_name": _TEXT, "config": Record()}
ANY_OBJECT, OBJECT = Record(_FIELDS), Record(_FIELDS, required=tuple(_FIELDS))
_INDEX = Record(
    {"weight_map": MapOf(Either(FileName(), ListOf(FileName())))}, required=("weight_map",)
)
_OURS = "keras_dpt>"
JSON_FILES = ("config.json", "task.json", "preprocessor.json", "image_converter.json")
_AGAIN = "Fetch or save the preset again; a folder in the cache can be deleted, it is made again."


def check_descriptions(folder):
    """Raise a WeightsError if a JSON file of a local preset directory is not what it should be."""
    for name in JSON_FILES:
        file = Path(folder) / name
        if file.is_file():
            for config in arguments_in(read_json(file, ANY_OBJECT, WeightsError)):
                checked(config, ARGUMENTS, file, WeightsError)


def check_weights(folder):
    """Raise a WeightsError unless a local preset directory has all weights that it describes.

    keras-hub would build a head with random weights if its file is missing.
    """
    folder = Path(folder)
    config = folder / "config.json"
    if not config.is_file():
        return  # an address
    if "registered_name" not in read_json(config, ANY_OBJECT, WeightsError):
        return  # of another library, which keras-hub converts
    has_task, task_weights = (folder / "task.json").is_file(), folder / "task.weights.h5"
    if has_task != task_weights.is_file():
        missing = task_weights.name if has_task else "task.json"
        raise WeightsError(f"{folder} is incomplete: it has no {missing}. {_AGAIN}")
    files = [*_files_of_backbone(folder), *([task_weights] if has_task else [])]
    available = sum(map(numbers_in, files))
    for name in ("config.json", "task.json"):
        file = folder / name
        if file.is_file():
            arguments = {}
            for config in arguments_in(read_json(file, OBJECT, WeightsError)):
                arguments |= config
            check_amount(arguments, available, file)


def _files_of_backbone(folder):
    whole, index = folder / "model.weights.h5", folder / "model.weights.json"
    if whole.is_file():
        return [whole]
    if not index.is_file():
        raise WeightsError(f"{folder} is incomplete: it has no {whole.name}. {_AGAIN}")
    names = set()
    for value in read_json(index, _INDEX, WeightsError)["weight_map"].values():
        names |= set(value if isinstance(value, list) else [value])
    for name in sorted(names):
        if not (folder / name).is_file():
            raise WeightsError(f"{index} names {name}, which is missing. {_AGAIN}")
    return [folder / name for name in sorted(names)]


def numbers_in(file, opened=None):
    """How many numbers a `.weights.h5` file holds; `opened` is a file object of its content.

    Raises: WeightsError: it is damaged.
    """
    import h5py

    with (
        explained(file, WeightsError, "is damaged or cut short"),
        h5py.File(opened or file, "r") as group,
    ):
        return _numbers_below(group, file)


def _numbers_below(group, file):
    import h5py

    total = 0
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise WeightsError(f"{file}: {group.name}/{name} is a link; weights must be inside.")
        item = group[name]
        if isinstance(item, h5py.Group):
            total += _numbers_below(item, file)
            continue
        size = math.prod(item.shape or ())
        stored = item.id.get_storage_size() * (1100 if item.chunks else 1)  # zlib's best
        if item.external or item.is_virtual or size * item.dtype.itemsize > stored:
            raise WeightsError(f"{file} is damaged: it does not hold all of {item.name}. {_AGAIN}")
        total += size
    return total


def arguments_in(value):
    """Constructor arguments of all objects of this package within a serialised one, outer first."""
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            is_ours = str(value.get("registered_name", "")).startswith(_OURS)
            if is_ours and isinstance(value.get("config"), dict):
                yield value["config"]
            pending += value.values()
        elif isinstance(value, list):
            pending += value
