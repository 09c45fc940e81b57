"""The data set of a protocol, from its name and a folder."""

from pathlib import Path

from keras_dpt import datasets
from keras_dpt.datasets.kinds import kind_named
from keras_dpt.datasets.registry import reader_named
from keras_dpt.errors import EvaluationError
from keras_dpt.evaluation.diw import DIW  # noqa: F401 - registers itself
from keras_dpt.evaluation.protocols import Protocol

# Folders of images, in order of preference.
_IMAGE_FOLDERS = ("rgb", "images")


def open_source(protocol: Protocol, data, split=None, unit="mm", class_names=None):
    """The data set of a protocol.

    Args:
        protocol: specifies the reader, see `keras_dpt.datasets.registry`, and the split.
        data: folder or file, as that reader expects it. Protocols without a reader take `rgb/` or
            `images/` next to `depth/`, `disp/`, `seg/` or `targets/`.
        split: another split than the protocol's.
        unit: of depth files, for those: "mm", "m" or metres per stored number.
        class_names: of labels, for those.

    Returns: a `keras_dpt.datasets.Source`, or `DIW`.
    Raises: DataError, EvaluationError: (ValueErrors) files are missing; the message lists what is
        expected.
    """
    split = split or protocol.split
    if protocol.reader != "folder":
        return reader_named(protocol.reader).open(data, split)
    root = Path(data) / split if split else Path(data)
    images = _first_folder(root, _IMAGE_FOLDERS)
    kind = kind_named(protocol.target)
    targets = _first_folder(root, kind.folders)
    options = {"class_names": class_names} if kind.has_classes else {}
    if kind.is_metric:
        options["unit"] = unit
    return datasets.folder(images, targets, protocol.target, name=root.name, **options)


def _first_folder(root, names):
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise EvaluationError(f"Expected one of the folders {', '.join(names)} in {root}.")
