"""Checks that an encoder fits the decoder: four taps, and outputs that match them."""

from dataclasses import dataclass
from numbers import Integral


@dataclass(frozen=True)
class Tap:
    """One of the four feature maps that the decoder uses.

    Attributes:
        channels: width of the map.
        stride: input pixels per cell of the map, such as 4, 8, 14, 16 or 32.
        num_prefix_tokens: number of tokens in output `prefixN`: the class token first, then
            distillation or register tokens. A readout uses the first one only.
        reassemble: whether the map is projected and resized to its pyramid level. If not, as for
            stages of a convolutional network, it goes to fusion at its own width and stride.
    """

    channels: int
    stride: int
    num_prefix_tokens: int = 0
    reassemble: bool = True


def check_taps(taps):
    """`taps` as a tuple.

    Raises: ValueError: they are not four `Tap`s of whole numbers, finest first.
    """
    taps = tuple(taps) if isinstance(taps, list | tuple) else (taps,)
    if len(taps) != 4 or not all(isinstance(tap, Tap) for tap in taps):
        kinds = ", ".join(sorted({type(tap).__name__ for tap in taps})) or "nothing"
        raise ValueError(
            f"`taps` must be four `keras_dpt.Tap`s, finest first. Received: {len(taps)} of {kinds}."
        )
    for n, tap in enumerate(taps, 1):
        for name, least in (("channels", 1), ("stride", 1), ("num_prefix_tokens", 0)):
            value = getattr(tap, name)
            if not isinstance(value, Integral) or value < least:
                raise ValueError(
                    f"`{name}` of a tap must be a whole number of at least {least}. Received: "
                    f"{value!r} in tap {n}."
                )
    # Others are resized to the level of their place, whatever they come in.
    strides = [tap.stride for tap in taps if not tap.reassemble]
    if strides != sorted(strides):
        raise ValueError(f"Taps must be ordered finest first. Received: strides {strides}.")
    return taps


def check_outputs(outputs, taps, name):
    """Raise a ValueError unless an encoder's outputs match its taps.

    Args:
        outputs: outputs of the encoder, tensors or Keras tensors.
        taps: four `Tap`s.
        name: of the encoder, for messages.
    """
    promised = {}
    for n, tap in enumerate(taps, 1):
        promised[f"stage{n}"] = ("(B, h, w, C)", {3: tap.channels})
        if tap.num_prefix_tokens:
            axes = {1: tap.num_prefix_tokens, 2: tap.channels}
            promised[f"prefix{n}"] = ("(B, P, C)", axes)
    found = sorted(outputs) if isinstance(outputs, dict) else type(outputs).__name__
    if not isinstance(outputs, dict) or promised.keys() - outputs.keys():
        raise ValueError(
            f"The outputs of {name} must be a dict with {', '.join(promised)}, to match its taps. "
            f"Received: {found}."
        )
    if more := sorted(key for key in outputs.keys() - promised.keys() if key.startswith("prefix")):
        raise ValueError(
            f"{name} has outputs {', '.join(more)}, but its taps have none. Set "
            "`num_prefix_tokens` of these taps, or omit the outputs."
        )
    for key, (axes, sizes) in promised.items():
        shape = tuple(outputs[key].shape)
        known = len(shape) == axes.count(",") + 1
        if not known or any(shape[axis] not in (None, size) for axis, size in sizes.items()):
            raise ValueError(
                f"Output {key!r} of {name} must be {axes}, with {_named(axes, sizes)} as in its "
                f"tap. Received: {shape}."
            )


def check_strides(outputs, taps, size, name):
    """Raise a ValueError if a map of an encoder has another stride than its tap.

    Args:
        outputs, taps, name: as of `check_outputs`.
        size: `(height, width)` of the images; unknown sides are not checked.
    """
    for n, tap in enumerate(taps, 1):
        shape = tuple(outputs[f"stage{n}"].shape)
        for side, cells in zip(size, shape[1:3], strict=True):
            known = isinstance(side, int) and isinstance(cells, int)
            # An incomplete last cell may be kept or dropped.
            if known and cells not in (side // tap.stride, -(-side // tap.stride)):
                raise ValueError(
                    f"Tap {n} of {name} has stride {tap.stride}, but the map 'stage{n}' of an "
                    f"image of {size[0]} x {size[1]} is {shape[1]} x {shape[2]} (height x width). "
                    "Correct the stride, or the order of the maps: finest first."
                )


def _named(axes, sizes):
    names = axes.strip("()").split(", ")
    return " and ".join(f"{names[axis]} = {size}" for axis, size in sizes.items())
