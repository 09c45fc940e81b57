"""Data sets, read from disk and checked; nothing here needs network access.

A `Source` is a data set split, `Batches` makes training batches from one or several.
"""

from keras_dpt.datasets.augmentation import PAPER_DEPTH, PAPER_SEGMENTATION, Augmentation
from keras_dpt.datasets.batches import Batches, default_augmentation
from keras_dpt.datasets.folders import folder
from keras_dpt.datasets.kinds import TargetKind
from keras_dpt.datasets.kitti import kitti
from keras_dpt.datasets.middlebury import middlebury
from keras_dpt.datasets.named import named
from keras_dpt.datasets.nyuv2 import depth_misc, nyuv2
from keras_dpt.datasets.segmentation import ade20k, camvid, pascal_context
from keras_dpt.datasets.shapes import Shapes
from keras_dpt.datasets.source import DataWarning, Sample, Source, check
from keras_dpt.datasets.tensorflow_datasets import tfds

__all__ = [
    "PAPER_DEPTH",
    "PAPER_SEGMENTATION",
    "Augmentation",
    "Batches",
    "DataWarning",
    "Sample",
    "Shapes",
    "Source",
    "TargetKind",
    "ade20k",
    "camvid",
    "check",
    "default_augmentation",
    "depth_misc",
    "folder",
    "kitti",
    "middlebury",
    "named",
    "nyuv2",
    "pascal_context",
    "tfds",
]
