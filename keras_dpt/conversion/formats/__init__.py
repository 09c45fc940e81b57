"""The kinds of checkpoints that can be converted, each a table of names."""

from keras_dpt.conversion.formats import efficientnet_lite, hf_dpt, isl_org, vit_imagenet
from keras_dpt.errors import WeightsError

# The kinds of checkpoints that can be read; a checkpoint is of the first kind that fits.
SOURCES = {
    "isl_org_segmentation": isl_org.SEGMENTATION,
    "isl_org": isl_org.DEPTH,
    "hf_dpt_segmentation": hf_dpt.SEGMENTATION,
    "hf_dpt": hf_dpt.DEPTH,
    "hf_vit": vit_imagenet.HUGGING_FACE,
    "timm_vit": vit_imagenet.TIMM,
    "efficientnet_lite": efficientnet_lite.SOURCE,
}


def detect_source(specs):
    """The key in `SOURCES` of a checkpoint with these tensor names.

    Raises: WeightsError: it is of none of these kinds.
    """
    for name, source in SOURCES.items():
        if all(any(tensor.startswith(mark) for tensor in specs) for mark in source.marks):
            return name
    raise WeightsError(
        f"A checkpoint with tensors like {', '.join(list(specs)[:4]) or 'none at all'} is of no "
        f"kind that can be converted; kinds: {', '.join(SOURCES)}."
    )
