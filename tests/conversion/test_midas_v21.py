"""MiDaS 2.1's files and ResNet classifiers: every tensor counts, and is named where it is wrong."""

import re

import pytest
from parity import midas_v21 as reference

from keras_dpt.conversion.engine import matches, plan
from keras_dpt.conversion.formats import format_of
from keras_dpt.errors import WeightsError
from keras_dpt.weights.readers import Spec

from .checkpoints import variable_shapes

CLASSIFIER = {
    "pretrained.layer1.0.": "conv1.",
    "pretrained.layer1.1.": "bn1.",
    "pretrained.layer1.4.": "layer1.",
    "pretrained.": "",
}


def specs_of(kind):
    """`{tensor name: Spec}` of a small network; "classifier" is the encoder of "v21" alone."""
    shapes = reference.shapes("v21" if kind == "classifier" else kind)
    if kind == "classifier":
        shapes = {
            next(name.replace(a, b) for a, b in CLASSIFIER.items() if name.startswith(a)): shape
            for name, shape in shapes.items()
            if name.startswith("pretrained.")
        } | {"fc.weight": (10, 24), "fc.bias": (10,)}
    counters = [name.replace("running_var", "num_batches_tracked") for name in shapes]
    specs = {name: Spec(shape, "float32") for name, shape in shapes.items()}
    return specs | {name: Spec((), "int64") for name in counters if name.endswith("tracked")}


def convert_shapes(specs, architecture=None):
    layout = format_of(specs)
    architecture = architecture or layout.config_from(specs)
    return plan(variable_shapes({"architecture": architecture}), layout, specs)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("v21", "midas_v21"), ("small", "midas_v21_small"), ("classifier", "torchvision_resnet")],
)
def test_dropped_added_and_bent_tensors_are_named(kind, name):
    specs = specs_of(kind)
    layout = format_of(specs)
    assert layout.name == name
    architecture = layout.config_from(specs)
    used = [tensor for tensor in specs if not matches(layout.ignore, tensor)]
    writes = convert_shapes(specs, architecture)
    assert {source for write in writes for source in write.sources} >= {
        tensor for tensor in used if "refinenet4.resConfUnit1" not in tensor
    }
    for tensor in {re.sub(r"\d+", "#", tensor): tensor for tensor in used}.values():
        spec = specs[tensor]
        less = {other: x for other, x in specs.items() if other != tensor}
        with pytest.raises(WeightsError, match=re.escape(tensor) + r"\b"):
            convert_shapes(less, architecture)
        with pytest.raises(WeightsError, match=re.escape(tensor + "2")):
            convert_shapes(specs | {tensor + "2": spec}, architecture)
        bent = (spec.shape[0] + 1, *spec.shape[1:])
        with pytest.raises(WeightsError, match=re.escape(f"{tensor} {bent}")):
            convert_shapes(specs | {tensor: Spec(bent, "float32")}, architecture)
