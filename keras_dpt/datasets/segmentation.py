"""Data sets of classes: ADE20K, Pascal Context, CamVid."""

import os
from functools import partial
from pathlib import Path

import numpy as np

from keras_dpt.datasets.folders import (
    by_stem,
    existing,
    files_below,
    lines_of,
    paired,
    split_folder,
)
from keras_dpt.datasets.readers import read_labels
from keras_dpt.datasets.registry import register_reader
from keras_dpt.datasets.source import Source
from keras_dpt.errors import DataError
from keras_dpt.presets import read_preset

IGNORE = 255

# Ids by stored number. Numbers that are no class remain none, so that they are reported.
_FIRST_IS_UNLABELLED = np.array([IGNORE, *range(254), IGNORE], "uint8")
_LAST_IS_UNLABELLED = np.array([*range(11), IGNORE, *range(12, 256)], "uint8")

# fmt: off
CAMVID_CLASS_NAMES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian",
    "bicyclist",
)
# fmt: on

# fmt: off
PASCAL_CONTEXT_CLASS_NAMES = (
    "aeroplane", "bag", "bed", "bedclothes", "bench", "bicycle", "bird", "boat", "book", "bottle",
    "building", "bus", "cabinet", "car", "cat", "ceiling", "chair", "cloth", "computer", "cow",
    "cup", "curtain", "dog", "door", "fence", "floor", "flower", "food", "grass", "ground", "horse",
    "keyboard", "light", "motorbike", "mountain", "mouse", "person", "plate", "platform",
    "pottedplant", "road", "rock", "sheep", "shelves", "sidewalk", "sign", "sky", "snow", "sofa",
    "table", "track", "train", "tree", "truck", "tvmonitor", "wall", "water", "window", "wood",
)
# fmt: on


@register_reader(
    kinds=["labels"],
    splits=["training", "validation"],
    aliases={"train": "training", "val": "validation"},
)
def ade20k(folder: str | os.PathLike, split: str) -> Source:
    """ADE20K's 150 classes as of the SceneParsing benchmark.

    Expects the release's layout, `images/SPLIT/NAME.jpg` and `annotations/SPLIT/NAME.png`, where
    0 is unlabelled and k is class k - 1.

    Args:
        folder: usually `ADEChallengeData2016`.
        split: "training" or "validation".

    Returns: `Source` of kind "labels". Raises: DataError: files are missing.
    Source: Zhou et al. 2017, "Scene Parsing through ADE20K Dataset".
    """
    root, name = Path(folder), f"ade20k/{split}"
    images, labels = existing(root / "images" / split), existing(root / "annotations" / split)
    class_names = read_preset("dpt_hybrid_ade20k")["output"]["class_names"]
    pictures = by_stem(files_below(images, (".jpg",)), images)
    return _labels(name, pictures, labels, class_names, _FIRST_IS_UNLABELLED)


@register_reader(kinds=["labels"], splits=["train", "val"])
def pascal_context(folder: str | os.PathLike, split: str) -> Source:
    """Pascal Context's 59 most frequent classes.

    Expects `JPEGImages/NAME.jpg`, `SegmentationClassContext/NAME.png`, where 0 is unlabelled and k
    is class k - 1 in alphabetic order, and the names of a split one a line in
    `ImageSets/SegmentationContext/SPLIT.txt`.

    Args:
        folder: usually `VOCdevkit/VOC2010`.
        split: "train" (4998 images) or "val" (5105).

    Returns: `Source` of kind "labels". Raises: DataError: files are missing.
    Source: Mottaghi et al. 2014, "The Role of Context for Object Detection and Semantic
        Segmentation in the Wild".
    """
    root = Path(folder)
    images, labels = existing(root / "JPEGImages"), existing(root / "SegmentationClassContext")
    stems = lines_of(root / "ImageSets" / "SegmentationContext" / f"{split}.txt")
    pictures = {stem: images / f"{stem}.jpg" for stem in stems}
    names = PASCAL_CONTEXT_CLASS_NAMES
    return _labels(f"pascal_context/{split}", pictures, labels, names, _FIRST_IS_UNLABELLED)


@register_reader(kinds=["labels"], splits=["train", "val", "test"])
def camvid(folder: str | os.PathLike, split: str) -> Source:
    """CamVid road scenes, 11 classes.

    Expects `SPLIT/rgb/NAME.jpg` and `SPLIT/seg/NAME.png`, or SegNet's `SPLIT/NAME.png` and
    `SPLITannot/NAME.png`. Ids are SegNet's, 11 is unlabelled.

    Args:
        folder: see above.
        split: "train", "val" or "test".

    Returns: `Source` of kind "labels". Raises: DataError: files are missing.
    Source: Brostow et al. 2009, "Semantic object classes in video".
    """
    root, name = Path(folder), f"camvid/{split}"
    if (root / f"{split}annot").is_dir():
        images, labels = existing(root / split), root / f"{split}annot"
    else:
        path = split_folder(name, root, split, ("rgb", "seg"))
        images, labels = path / "rgb", path / "seg"
    pictures = by_stem(files_below(images, (".jpg", ".png")), images)
    return _labels(name, pictures, labels, CAMVID_CLASS_NAMES, _LAST_IS_UNLABELLED)


def _labels(name, pictures, labels: Path, class_names, table) -> Source:
    pairs = [(picture, labels / f"{stem}.png") for stem, picture in pictures.items()]
    return paired(
        name,
        list(pictures),
        pairs,
        partial(_read_mapped, table),
        "labels",
        class_names=class_names,
        ignore_index=IGNORE,
    )


def _read_mapped(table: np.ndarray, path: Path) -> np.ndarray:
    stored = read_labels(path)
    if stored.dtype != np.uint8:
        raise DataError(f"{path} holds {stored.dtype}; ids of this data set have 8 bits.")
    return table[stored]
