"""The layouts of checkpoints that can be converted, and those that are only known by name."""

from keras_dpt.conversion.formats import (
    beit,
    depth_anything,
    dinov2_depther,
    efficientnet_lite,
    hf_dpt,
    isl_org,
    keras_hub,
    midas_v21,
    swin,
    vit_imagenet,
)
from keras_dpt.conversion.formats.unsupported import UNSUPPORTED
from keras_dpt.errors import WeightsError

# A new format is its own module and a line here. The first format that matches is used.
_ALL = (
    isl_org.DEPTH,
    isl_org.SEGMENTATION,
    hf_dpt.DEPTH,
    hf_dpt.SEGMENTATION,
    vit_imagenet.HUGGING_FACE,
    vit_imagenet.TIMM,
    efficientnet_lite.FORMAT,
    depth_anything.AUTHORS,
    depth_anything.HUGGING_FACE,
    dinov2_depther.AUTHORS,
    dinov2_depther.HUGGING_FACE,
    keras_hub.FORMAT,
    beit.AUTHORS,
    beit.HUGGING_FACE,
    swin.SWIN2,
    swin.SWIN,
    swin.HUGGING_FACE,
    midas_v21.RESNEXT,
    midas_v21.SMALL,
    midas_v21.TORCHVISION,
)
FORMATS = {layout.name: layout for layout in _ALL}


def format_of(specs, hf_config=None):
    """The `CheckpointFormat` of a checkpoint with these tensors.

    Args:
        specs: `{tensor name: Spec}`.
        hf_config: Hugging Face's `config.json` next to it, if there is one.

    Raises: WeightsError: no format matches; the message names known, unsupported networks.
    """
    check_config(hf_config)
    for layout in FORMATS.values():
        if layout.matches(specs, hf_config):
            return layout
    for other in UNSUPPORTED:
        if other.matches(specs):
            raise _not_supported(other)
    tensors = ", ".join(list(specs)[:4]) or "none at all"
    raise WeightsError(f"Unrecognised checkpoint (tensors such as {tensors}). {_supported()}")


def is_checkpoint(config):
    """Whether a `config.json` is of a checkpoint that we convert, or name because we can't."""
    return any(known.owns(config) for known in (*FORMATS.values(), *UNSUPPORTED))


def check_config(config):
    """Raise a WeightsError if a `config.json` is of a network that is known but not supported."""
    if not config or any(layout.owns(config) for layout in FORMATS.values()):
        return
    for other in UNSUPPORTED:
        if other.owns(config):
            raise _not_supported(other)


def _not_supported(other):
    return WeightsError(f"This is {other.name}, which is not supported. {_supported()}")


def _supported():
    return f"Supported formats: {', '.join(FORMATS)}."
