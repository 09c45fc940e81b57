"""Data sets by name, as on the command line: `nyuv2:FOLDER`."""

from keras_dpt.datasets.kinds import KINDS

# A new reader registers itself; its import here is what makes its name known.
from keras_dpt.datasets.kitti import kitti  # noqa: F401
from keras_dpt.datasets.middlebury import middlebury  # noqa: F401
from keras_dpt.datasets.nyuv2 import depth_misc, nyuv2  # noqa: F401
from keras_dpt.datasets.registry import READERS
from keras_dpt.datasets.segmentation import ade20k, camvid, pascal_context  # noqa: F401
from keras_dpt.datasets.source import Source
from keras_dpt.errors import DataError


def named(text: str, split: str) -> Source:
    """Open a split of a data set by its name and folder.

    Args:
        text: `NAME:FOLDER`, the name one of `nyuv2`, `kitti`, `middlebury`, `depth_misc`, `ade20k`,
            `pascal_context`, `camvid` and whatever else is registered, and the folder as that
            function of `keras_dpt.datasets` expects it.
        split: "train" or "val", or any other that the function takes. ADE20K's "training" and
            "validation" have these names, too.

    Raises: DataError: no folder, no such name, or whatever the function raises.
    """
    name, colon, folder = text.partition(":")
    names = [name for name, reader in READERS.items() if not KINDS.keys().isdisjoint(reader.kinds)]
    if not (colon and folder) or name not in names:
        raise DataError(
            f"A data set is NAME:FOLDER with one of the names {', '.join(names)}. Received: "
            f"{text!r}. "
            "Data of your own: keras_dpt.datasets.folder."
        )
    return READERS[name].open(folder, split)
