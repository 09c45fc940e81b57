"""Data sets by name, as command lines have them: `nyuv2:FOLDER`."""

from keras_dpt.datasets.kitti import kitti
from keras_dpt.datasets.middlebury import middlebury
from keras_dpt.datasets.nyuv2 import depth_misc, nyuv2
from keras_dpt.datasets.segmentation import ade20k, camvid, pascal_context
from keras_dpt.datasets.source import Source
from keras_dpt.errors import DataError

READERS = {
    reader.__name__: reader
    for reader in (nyuv2, kitti, middlebury, depth_misc, ade20k, pascal_context, camvid)
}


def named(text: str, split: str) -> Source:
    """The split of a data set that a text names.

    Args:
        text: `NAME:FOLDER`, the name one of `nyuv2`, `kitti`, `middlebury`, `depth_misc`, `ade20k`,
            `pascal_context` and `camvid`, and the folder as that function of `keras_dpt.datasets`
            expects it.
        split: "train" or "val", or any other that the function takes. ADE20K's "training" and
            "validation" go by these names, too.

    Raises: DataError: no folder, no such name, or whatever the function raises.
    """
    name, colon, folder = text.partition(":")
    if not (colon and folder) or name not in READERS:
        raise DataError(
            f"A data set is NAME:FOLDER with one of the names {', '.join(READERS)}; got {text!r}. "
            "Data of your own: keras_dpt.datasets.folder."
        )
    if name == "ade20k":
        split = {"train": "training", "val": "validation"}.get(split, split)
    return READERS[name](folder, split)
