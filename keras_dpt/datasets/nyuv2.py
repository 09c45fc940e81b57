"""NYU Depth V2: indoor depth, and classes, of 1449 labelled frames."""

import os
import threading
from functools import partial
from pathlib import Path

import numpy as np

from keras_dpt.datasets.folders import by_stem, files_below, paired, split_folder, target_reader
from keras_dpt.datasets.registry import register_reader
from keras_dpt.datasets.source import Source
from keras_dpt.errors import DataError
from keras_dpt.extras import install_command

# NYU40's order without the fortieth, "otherprop".
# fmt: off
CLASS_NAMES = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf",
    "picture", "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror",
    "floor mat", "clothes", "ceiling", "books", "refrigerator", "television", "paper", "towel",
    "shower curtain", "box", "whiteboard", "person", "night stand", "toilet", "sink", "lamp",
    "bathtub", "bag", "otherstructure", "otherfurniture",
)
# fmt: on

_SPLITS = {"train": "trainNdxs", "test": "testNdxs"}


@register_reader(kinds=["metric_depth", "labels"], splits=["train", "val", "test"])
def nyuv2(folder: str | os.PathLike, split: str, target: str = "depth") -> Source:
    """NYU Depth V2, from a folder of files or from the authors' own file.

    | `folder`                                | expected                                         |
    |-----------------------------------------|--------------------------------------------------|
    | a folder                                | `SPLIT/rgb/NAME.jpg`, `SPLIT/depth/NAME.png` in  |
    |                                         | 16-bit millimetres, `SPLIT/seg/NAME.png` of ids  |
    | `nyu_depth_v2_labeled.mat`, as released | `splits.mat` beside it, for the 795 "train" and  |
    |                                         | 654 "test" frames; needs scipy                   |

    Args:
        folder: see above.
        split: "train", "val" or any other folder's name; "train" or "test" of the `.mat`.
        target: "depth", metres, or "labels", 39 classes (of a folder only).

    Returns: `Source` of kind "metric_depth" or "labels".
    Raises: DataError: files are missing, or another split or target.
    Source: Silberman et al. 2012, "Indoor Segmentation and Support Inference from RGBD Images".
    """
    if target not in ("depth", "labels"):
        raise DataError(f'target must be "depth" or "labels". Received: {target!r}.')
    name, root = f"nyuv2/{split}", Path(folder)
    if root.suffix == ".mat":
        if target != "depth":
            raise DataError("Of the .mat file only depth is read; its labels are raw names.")
        return _from_mat(name, root, split)
    subfolder = "depth" if target == "depth" else "seg"
    path = split_folder(name, root, split, ("rgb", subfolder))
    if target == "labels":
        return _files(name, path, "seg", "labels", class_names=CLASS_NAMES)
    return _files(name, path, "depth", "metric_depth", "mm")


@register_reader(kinds=["metric_depth"], splits=["val"])
def depth_misc(folder: str | os.PathLike, split: str = "val") -> Source:
    """Depth from several sources, to see how a model performs outside its own data set.

    Expects `SPLIT/rgb/NAME.jpg` and `SPLIT/depth/NAME.png` in 16-bit millimetres, 0 if unknown.
    The origin of a sample is its id up to the last underscore.

    Returns: `Source` of kind "metric_depth". Raises: DataError: files are missing.
    """
    name = f"depth_misc/{split}"
    path = split_folder(name, Path(folder), split, ("rgb", "depth"))
    return _files(name, path, "depth", "metric_depth", "mm")


def _files(name, path: Path, targets: str, kind: str, unit=None, **options) -> Source:
    """Every `rgb/` picture of a split with the `.png` of its name in the folder `targets`."""
    images = by_stem(files_below(path / "rgb", (".jpg", ".png")), path / "rgb")
    pairs = [(image, path / targets / f"{stem}.png") for stem, image in images.items()]
    return paired(name, list(images), pairs, target_reader(kind, unit), kind, **options)


def _from_mat(name: str, path: Path, split: str) -> Source:
    if split not in _SPLITS:
        raise DataError(f'The .mat file has the splits "train" and "test". Received: {split!r}.')
    beside = path.with_name("splits.mat")
    for file in (path, beside):
        if not file.is_file():
            raise DataError(f"{name}: there is no {file}. The data set's page offers both files.")
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise DataError(f"splits.mat is read by scipy: {install_command('mat')}") from error
    numbers = loadmat(beside)[_SPLITS[split]].ravel().astype(int) - 1  # MATLAB counts from 1
    ids = [f"{number:04d}" for number in numbers]
    return Source(name, ids, partial(_MatFile(path).read, numbers), "metric_depth")


class _MatFile:
    """The labelled set as one HDF5 file, opened when first read; its axes are MATLAB's."""

    def __init__(self, path: Path):
        self._path, self._file, self._lock = path, None, threading.Lock()

    def read(self, numbers: np.ndarray, index: int) -> tuple[np.ndarray, np.ndarray]:
        import h5py

        try:
            with self._lock:
                if self._file is None:
                    self._file = h5py.File(self._path, "r")
                image = self._file["images"][numbers[index]]
                depth = self._file["depths"][numbers[index]]
        except (OSError, KeyError, ValueError) as error:
            raise DataError(f"{self._path} cannot be read ({error}). Download it again.") from error
        return np.ascontiguousarray(image.transpose(2, 1, 0)), depth.T
