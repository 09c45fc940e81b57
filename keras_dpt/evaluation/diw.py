"""Depth in the Wild: photos with one pair of points each, annotated with which is nearer."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_dpt.datasets.registry import register_reader
from keras_dpt.errors import EvaluationError
from keras_dpt.images.reading import read_image


class OrdinalSample(NamedTuple):
    """image: `(H, W, 3)` uint8. target: `(N, 5)` int, see `depth_errors.whdr`. valid: `(N,)`."""

    image: np.ndarray
    target: np.ndarray
    valid: np.ndarray


@register_reader(kinds=["ordinal"], splits=["test"], name="diw")
class DIW:
    """The test images of Depth in the Wild.

    The list of the release has two lines per image: its path, and `y, x` of point A, `y, x` of
    point B (from 1), the relation of their depths, `>` if A is farther, width and height.

    Args:
        folder: contains `DIW_test.csv`, directly or in `DIW_Annotations`, and the images at the
            paths in the list.
        split: "test".

    Raises: EvaluationError: (a ValueError) the list is missing or damaged, or the first image is
        not at its path.
    Source: Chen et al. 2016 (arXiv 1604.03901).
    """

    name = "diw/test"
    kind = "ordinal"

    def __init__(self, folder, split="test"):
        if split != "test":
            raise EvaluationError(
                f'Depth in the Wild has the split "test" only. Received: {split!r}.'
            )
        self.folder = Path(folder)
        paths = [self.folder / "DIW_test.csv", self.folder / "DIW_Annotations" / "DIW_test.csv"]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise EvaluationError(f"{folder} has no [DIW_Annotations/]DIW_test.csv.")
        lines = path.read_text(encoding="utf-8").splitlines()
        self.ids = [line.strip().removeprefix("./") for line in lines[::2]]
        self._pairs = lines[1::2]
        if not self.ids or len(self.ids) != len(self._pairs):
            raise EvaluationError(f"{path} has {len(lines)} lines, not two for each image.")
        if not (self.folder / self.ids[0]).is_file():
            raise EvaluationError(f"{path} names {self.ids[0]}, which is not in {self.folder}.")

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index) -> OrdinalSample:
        image = read_image(self.folder / self.ids[index])
        fields = self._pairs[index].split(",")
        try:
            points = np.array(fields[:4], int) - 1
            relation = {">": -1, "<": 1}[fields[4].strip()]
        except (ValueError, KeyError, IndexError) as error:
            raise EvaluationError(f"{self.ids[index]}: no pair: {self._pairs[index]!r}") from error
        last = np.array(image.shape[:2] * 2) - 1
        pair = [*np.clip(points, 0, last), relation]  # some points lie on the far border
        return OrdinalSample(image, np.array([pair]), np.ones(1, bool))
