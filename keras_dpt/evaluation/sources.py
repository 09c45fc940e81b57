"""From a protocol's name and a folder to the data set that it means."""

from pathlib import Path

from keras_dpt import datasets
from keras_dpt.errors import EvaluationError
from keras_dpt.evaluation.diw import DIW
from keras_dpt.evaluation.protocols import Protocol

# Folders of targets beside a folder of images, in the order in which they are looked for.
_TARGET_FOLDERS = {
    "metric_depth": ("depth", "targets"),
    "relative_inverse_depth": ("disp", "disparity", "targets"),
    "labels": ("seg", "labels", "targets"),
}
_IMAGE_FOLDERS = ("rgb", "images")


def open_source(protocol: Protocol, data, split=None, unit="mm", class_names=None):
    """The data set of a protocol.

    Args:
        protocol: names the reader, a function of `keras_dpt.datasets`, and the split.
        data: folder or file, as that reader expects it. Protocols without a reader of their own
            take `rgb/` or `images/` beside `depth/`, `disp/`, `seg/` or `targets/`.
        split: another split than the protocol's.
        unit: of depth files, for those: "mm", "m" or metres per stored number.
        class_names: for labels, likewise.

    Returns: a `keras_dpt.datasets.Source`, or `DIW`.
    Raises: DataError, EvaluationError: (ValueErrors) files are missing; the message says what is
        expected where.
    """
    split = split or protocol.split
    if protocol.reader == "diw":
        return DIW(data)
    if protocol.reader != "folder":
        reader = getattr(datasets, protocol.reader)
        return reader(data) if split is None else reader(data, split)
    root = Path(data) / split if split else Path(data)
    images = _first_folder(root, _IMAGE_FOLDERS)
    targets = _first_folder(root, _TARGET_FOLDERS[protocol.target])
    options = {"class_names": class_names} if protocol.target == "labels" else {}
    if protocol.target == "metric_depth":
        options["unit"] = unit
    return datasets.folder(images, targets, protocol.target, name=root.name, **options)


def _first_folder(root, names):
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise EvaluationError(f"Expected one of the folders {', '.join(names)} in {root}.")
