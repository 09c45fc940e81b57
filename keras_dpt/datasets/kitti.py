"""KITTI: depth of streets, from laser scans, so of single points."""

import os
from pathlib import Path

import numpy as np

from keras_dpt.datasets.folders import existing, lines_of, paired, target_reader
from keras_dpt.datasets.registry import register_reader
from keras_dpt.datasets.source import Source
from keras_dpt.errors import DataError

# Height and width that the benchmark's pictures are cropped to.
_BENCHMARK_SIZE = 352, 1216


@register_reader(kinds=["metric_depth"], splits=["train", "test"])
def kitti(
    folder: str | os.PathLike,
    split: str,
    images: str | os.PathLike = "input",
    depths: str | os.PathLike = "gt_depth",
    pairs: str | os.PathLike | None = None,
    benchmark_crop: bool = False,
) -> Source:
    """KITTI with the annotated depth maps, in Eigen's split or any other.

    | in `folder`              | expected                                                        |
    |--------------------------|-----------------------------------------------------------------|
    | `input/`                 | the raw recordings: `2011_09_26/2011_09_26_drive_0002_sync/...` |
    | `gt_depth/`              | the annotated depth maps, 16-bit PNG of 256ths of a metre, 0    |
    |                          | where unknown: `2011_09_26_drive_0002_sync/proj_depth/...`,     |
    |                          | also below the release's `train/` and `val/`                    |
    | `kitti_eigen_SPLIT.txt`  | an image and its depth map a line, below these folders; what    |
    |                          | follows, such as the focal length, is not used                  |

    Lines whose depth map is `None` are left out: of Eigen's 697 test images 652 remain.

    Args:
        folder: see above.
        split: "train" or "test", or whatever there is a list of.
        images, depths, pairs: other names of the folders and of the list, below `folder` or
            absolute.
        benchmark_crop: cut out the lower middle, 352 x 1216 pixels, as the benchmark does.

    Returns: sparse `Source` of kind "metric_depth", its ids the images' names in the list.
    Raises: DataError: files are missing, or a line that is not a pair.
    Source: Geiger et al. 2012, Uhrig et al. 2017 (annotated depth), Eigen et al. 2014 (split).
    """
    root = existing(Path(folder))
    images, depths = existing(root / images), existing(root / depths)
    pairs = root / (pairs or f"kitti_eigen_{split}.txt")
    ids, files = [], []
    for line in lines_of(pairs):
        parts = line.split()
        if len(parts) < 2:
            raise DataError(f"{pairs}: expected an image and a depth map in the line {line!r}.")
        image, depth = (part.lstrip("/") for part in parts[:2])
        if depth != "None":
            ids.append(image)
            files.append((images / image, _depth_file(depths, depth)))
    source = paired(
        f"kitti/{split}",
        ids,
        files,
        target_reader("metric_depth", 1 / 256),
        "metric_depth",
        sparse=True,
    )
    return source.changed(_lower_middle) if benchmark_crop else source


def _depth_file(root: Path, relative: str) -> Path:
    candidates = [root / part / relative for part in ("", "train", "val")]
    return next((path for path in candidates if path.is_file()), candidates[0])


def _lower_middle(image: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    height, width = _BENCHMARK_SIZE
    top, left = image.shape[0] - height, (image.shape[1] - width) // 2
    if top < 0 or left < 0:
        raise DataError(
            f"the image is {image.shape[:2]}, too small for a crop of {height}x{width}."
        )
    window = slice(top, top + height), slice(left, left + width)
    return image[window], depth[window]
