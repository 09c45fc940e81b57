"""The table of protocols, from `keras_dpt.evaluation.PROTOCOLS`."""

import inspect

from keras_dpt.evaluation.crops import CROPS
from keras_dpt.evaluation.protocols import METRICS, PROTOCOLS
from made.markdown import table

INTRODUCTION = """\
# Protocols

A protocol fixes everything that affects a score: which images, which pixels, in which units,
averaged how. A run that deviates is labelled as a deviation. `keras-dpt evaluate --protocol NAME`
and [`keras_dpt.evaluation.evaluate`](../api/evaluation.md#keras_dpt.evaluation.evaluate.evaluate)
take the names; a protocol of your own is a
[`Protocol`](../api/evaluation.md#keras_dpt.evaluation.Protocol).

"Cap" is the greatest depth that counts, in metres. "Alignment" is fitted for each image over the
pixels that are measured: least squares means scale and shift in inverse depth, median scale means
one factor on metres. "Averaging" per image is the mean of the images' values; per pixel means all
pixels at once. The first metric ranks the images of a report.
"""
ALIGNMENTS = {"none": "none", "least_squares": "least squares", "median_scale": "median scale"}


def protocols_page():
    """The page: a table of what decides a score, then data and source of each, then the crops."""
    protocols = sorted(PROTOCOLS.values(), key=lambda protocol: protocol.name)
    header = [
        "protocol",
        "split",
        "images",
        "crop",
        "cap",
        "alignment",
        "averaging",
        "first metric",
    ]
    used = {protocol.crop for protocol in protocols} | {p.input_crop for p in protocols}
    crops = [[f"`{name}`", inspect.getdoc(CROPS[name])] for name in CROPS if name in used]
    return "\n".join(
        [
            INTRODUCTION,
            table(header, [_row(protocol) for protocol in protocols]),
            "## Data and source\n",
            table(
                ["protocol", "data", "size of images", "target", "source"],
                [_source(protocol) for protocol in protocols],
            ),
            "## Crops\n",
            table(["crop", "what is measured"], crops),
            "## Metrics\n",
            table(
                ["name", "heading in tables", "better", "reported for"],
                [_metric(name) for name in METRICS],
            ),
        ]
    )


def _row(protocol):
    crop = f"`{protocol.crop}`" if protocol.crop != "none" else "none"
    if protocol.input_crop != "none":
        crop += f", network sees `{protocol.input_crop}`"
    averaging = f"per {protocol.averaging}"
    if protocol.groups:
        averaging += f", then over {len(protocol.groups)} groups"
    if len(protocol.scales) > 1:
        averaging += f"; {len(protocol.scales)} scales" + ", mirrored" * protocol.flip
    return [
        f"`{protocol.name}`",
        f"{protocol.reader}/{protocol.split}" if protocol.split else protocol.reader,
        " or ".join(f"{count:,}" for count in protocol.counts) or "any",
        crop,
        _cap(protocol),
        ALIGNMENTS[protocol.alignment],
        averaging,
        METRICS[protocol.metrics[0]][0],
    ]


def _cap(protocol):
    if protocol.groups:
        limits = sorted({group.max_depth for group in protocol.groups if group.max_depth})
        return " or ".join(f"{limit:g} m" for limit in limits)
    if protocol.max_depth is None:
        return "none"
    return f"{protocol.max_depth:g} m"


def _source(protocol):
    size = "any"
    if protocol.sizes:
        (low, high), (left, right) = protocol.sizes
        size = f"{low} x {left}" + (f" to {high} x {right}" if (low, left) != (high, right) else "")
    target = protocol.target.replace("_", " ")
    if protocol.num_classes:
        target += f", {protocol.num_classes} classes"
    return [f"`{protocol.name}`", protocol.data, size, target, protocol.reference]


def _metric(name):
    heading, smaller = METRICS[name]
    targets = {p.target.replace("_", " ") for p in PROTOCOLS.values() if name in p.metrics}
    better = "lower" if smaller else "higher"
    return [f"`{name}`", heading, better, ", ".join(sorted(targets)) or "protocols of your own"]
