"""To which size an image is brought: near the one aimed for, in multiples. Plain Python."""

import math

SIZE_RULES = ("minimal", "lower_bound", "upper_bound")


def resized_size(size, aim, keep_aspect_ratio, multiple_of, rule, scale=1.0):
    """The `(height, width)` that an image is resized to.

    Args:
        size: its `(height, width)`.
        aim: the `(height, width)` to aim for; `None` for its own.
        keep_aspect_ratio, multiple_of, rule: see `DPTImageConverter`; `rule` is one of
            `SIZE_RULES`.
        scale: multiplies the result before it is rounded to multiples.
    """
    if aim is None and scale == 1:
        return tuple(size)
    aims = size if aim is None else aim
    factors = tuple(aim_side / side for aim_side, side in zip(aims, size, strict=True))
    if keep_aspect_ratio:
        factors = (_one_of(factors, rule),) * 2
    return tuple(
        _rounded(scale * factor * side, scale * bound, multiple_of, rule)
        for factor, side, bound in zip(factors, size, aim or (0, 0), strict=True)
    )


def padded_size(size, multiple_of, scale=1.0):
    """The `(height, width)` of the least multiples that hold an image, scaled before."""
    sides = (max(1, round(scale * side)) for side in size)
    return tuple(-(-side // multiple_of) * multiple_of for side in sides)


def _one_of(factors, rule):
    """The factor for both sides."""
    if rule == "lower_bound":
        return max(factors)
    if rule == "upper_bound":
        return min(factors)
    return min(factors, key=lambda factor: abs(1 - factor))


def _rounded(side, bound, multiple_of, rule):
    """A side as a multiple, at least one."""
    # Dividing by the photo's side and multiplying again may miss a whole number by 1e-13.
    steps, bound = side / multiple_of, bound / multiple_of
    count = round(steps)
    if rule == "lower_bound" and count < bound:
        count = math.ceil(max(steps, bound) - 1e-9)
    elif rule == "upper_bound" and count > bound > 0:
        count = math.floor(min(steps, bound) + 1e-9)
    return multiple_of * max(1, count)
