"""Middlebury stereo: true disparity of table tops and rooms."""

import os
from pathlib import Path

from keras_dpt.datasets.folders import by_stem, existing, files_below, paired, target_reader
from keras_dpt.datasets.registry import register_reader
from keras_dpt.datasets.source import Source
from keras_dpt.errors import DataError

# Left view and its disparity in a scene's folder, by year of release: 2014 and 2021, 2005 and
# 2006, 2003, 2001.
_SCENE_FILES = (
    ("im0.png", "disp0.pfm"),
    ("view1.png", "disp1.png"),
    ("im2.png", "disp2.png"),
    ("im2.ppm", "disp2.pgm"),
)


@register_reader(kinds=["relative_inverse_depth"], splits=["val"])
def middlebury(folder: str | os.PathLike, split: str | None = "val") -> Source:
    """Middlebury's stereo pairs: left views with their true disparity.

    Disparity is inverse depth up to scale *and* shift, because views were cropped and shrunk. It is
    in the unit of the files, which differs between releases.

    Args:
        folder: with `split`, `SPLIT/rgb/NAME.jpg` and `SPLIT/disp/NAME.png`, 16 bit, disparity
            times 64, 0 where unknown. Without, as released: a folder per scene, with `im0.png`
            and `disp0.pfm` (infinite where unknown; 2014, 2021), `view1.png` and `disp1.png`
            (2005, 2006), or `im2` and `disp2` (2001, 2003).
        split: a split's name; `None` for the released layout.

    Returns: `Source` of kind "relative_inverse_depth". Raises: DataError: files are missing.
    Source: Scharstein and Szeliski 2003, Hirschmueller and Scharstein 2007, Scharstein et al. 2014.
    """
    root = existing(Path(folder))
    if split is None:
        ids, pairs = _scenes(root)
        scale = None
    else:
        images, disparities = (existing(root / split / part) for part in ("rgb", "disp"))
        pictures = by_stem(files_below(images, (".jpg", ".png")), images)
        ids = list(pictures)
        pairs = [(picture, disparities / f"{stem}.png") for stem, picture in pictures.items()]
        scale = 1 / 64
    kind = "relative_inverse_depth"
    name = "middlebury" if split is None else f"middlebury/{split}"
    return paired(name, ids, pairs, target_reader(kind, scale), kind)


def _scenes(root: Path) -> tuple[list[str], list[tuple[Path, Path]]]:
    ids, pairs = [], []
    for scene in sorted(path for path in root.rglob("*") if path.is_dir()):
        for image, disparity in _SCENE_FILES:
            if (scene / image).is_file() and (scene / disparity).is_file():
                ids.append(scene.relative_to(root).as_posix())
                pairs.append((scene / image, scene / disparity))
                break
    if not ids:
        expected = ", ".join(" with ".join(names) for names in _SCENE_FILES)
        raise DataError(f"{root} holds no folder of a scene with a left view ({expected}).")
    return ids, pairs
