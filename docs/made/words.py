"""What the values in a preset's JSON mean, in words."""

KINDS = {
    "relative_inverse_depth": "relative inverse depth, no unit; larger is nearer",
    "metric_depth": "metric depth in metres",
    "labels": "semantic labels",
}
KERNELS = {
    "bicubic": "OpenCV's bicubic kernel, without antialiasing",
    "bicubic_antialias": "Pillow's bicubic kernel, with antialiasing",
    "bilinear_antialias": "Pillow's bilinear kernel, with antialiasing",
}
SCALING = {
    "minimal": "scaled until one side matches {size}, by the factor closer to 1",
    "lower_bound": "scaled until both sides reach {size}",
    "upper_bound": "scaled until neither side exceeds {size}",
}


def image_size(preset):
    """The size near which a preset sees images, short enough for a table."""
    image = preset["image"]
    if image["image_size"] is None:
        return "any"
    size = "{} x {}".format(*image["image_size"])
    return size if image.get("keep_aspect_ratio", True) else f"{size} only"


def size_rule(preset):
    """How images are brought to the network's size, one sentence."""
    image = preset["image"]
    multiple = image.get("multiple_of", 32)
    if image["image_size"] is None:
        how = "padded with zeros" if image.get("pad") else "resized"
        return f"Images keep their size; sides are {how} to multiples of {multiple}."
    size = "{} x {} (height x width)".format(*image["image_size"])
    kernel = KERNELS[image["resize"]]
    if not image.get("keep_aspect_ratio", True):
        return f"Images are stretched to {size}, with {kernel}."
    scaling = SCALING[image.get("size_rule", "minimal")].format(size=size)
    return (
        f"Images keep their aspect ratio: they are {scaling}, then each side is rounded to a "
        f"multiple of {multiple}, with {kernel}."
    )


def commercial_use(preset):
    """What the licence says about commercial use, as a table's cell."""
    return {True: "yes", False: "no", None: "unclear"}[preset["commercial_ok"]]


def checked(preset):
    """Whether the official file was converted and compared, as a table's cell."""
    return "not yet" if preset["sources"] else "no official file (trained by this project)"
