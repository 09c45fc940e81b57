"""keras_dpt's models equal independent ones on random weights, through our own converter.

Differences are in units of the standard deviation of the reference's output, and bounded against
its float64 result more tightly than against its float32 one: PyTorch's own resizing and summation
are the greater part of the latter. Metric models are compared as 1 / depth, since depth itself
magnifies any error far away. `pytest -m parity` runs the full sizes.
"""

import functools
import gc

import keras
import numpy as np
import pytest

import keras_dpt
from keras_dpt.conversion import engine
from keras_dpt.conversion.formats import hf_dpt, isl_org
from keras_dpt.weights.readers import Spec

from . import answers, report
from .answers import Model
from .isl_org import isl_state_dict
from .reference import some_classes

SOURCES = {
    ("hf_dpt", "depth"): hf_dpt.DEPTH,
    ("isl_org", "depth"): isl_org.DEPTH,
    ("hf_dpt", "segmentation"): hf_dpt.SEGMENTATION,
    ("isl_org", "segmentation"): isl_org.SEGMENTATION,
}

# (max, rms)
LIMITS = {"ours - float32": (5e-4, 5e-5), "ours - float64": (1e-4, 1e-5)}

TINY = [
    Model("tiny"),
    Model("tiny", (("readout", "add"), ("use_batch_norm", True))),
    Model("tiny", (("readout", "ignore"),)),
    Model("tiny", (("position_grid", (3, 5)), ("layer_norm_epsilon", 1e-12))),
    Model("tiny_hybrid"),
    Model("tiny_hybrid", (("weight_standardization", "std"),)),
    Model("tiny_hybrid", (("out_stages", ()), ("out_indices", (0, 1, 2, 3)))),
]
CLASSES = (("num_classes", 5), ("use_batch_norm", True))
TINY_SEGMENTATION = [
    Model("tiny", CLASSES),
    Model("tiny_hybrid", (*CLASSES, ("weight_standardization", "std"))),
]
TINY_SIZES = [(64, 64), (96, 160), (128, 32)]

BASE, LARGE = Model("base"), Model("large")
# timm's old formula, which the official hybrids were trained with, and transformers'.
HYBRID_STD = Model("hybrid", (("weight_standardization", "std"),))
HYBRID_VARIANCE = Model("hybrid")
SIZES = [(384, 384), (384, 672), (224, 320)]
# Preset, reference, (height, width); neighbours share a network.
FULL = [
    *[("dpt_base", BASE, size) for size in SIZES],
    *[("dpt_large", LARGE, size) for size in SIZES],
    *[("dpt_hybrid", HYBRID_STD, size) for size in SIZES],
    ("dpt_hybrid_kitti", HYBRID_STD, (352, 1216)),
    ("dpt_hybrid_nyu", HYBRID_STD, (480, 640)),
    (None, HYBRID_VARIANCE, (384, 384)),
    (None, HYBRID_VARIANCE, (384, 672)),
]
ADE20K = (("num_classes", 150), ("use_batch_norm", True))
LARGE_ADE20K = Model("large", ADE20K)
HYBRID_ADE20K = Model("hybrid", (*ADE20K, ("weight_standardization", "std")))
FULL_SEGMENTATION = [
    *[("dpt_large_ade20k", LARGE_ADE20K, size) for size in [(480, 480), (384, 672), (224, 320)]],
    *[("dpt_hybrid_ade20k", HYBRID_ADE20K, size) for size in [(384, 672), (224, 320)]],
]


def build(model, **options):
    """Build the Keras model of a reference's architecture."""
    arch = model.architecture
    encoder_options = {
        "num_layers": arch.num_layers,
        "hidden_dim": arch.hidden_dim,
        "num_heads": arch.num_heads,
        "mlp_dim": arch.mlp_dim,
        "position_grid": arch.position_grid,
        "out_indices": arch.out_indices,
        "layer_norm_epsilon": arch.layer_norm_epsilon,
    }
    if arch.is_hybrid:
        encoder = keras_dpt.ViTHybridEncoder(
            stem_channels=arch.stem_channels,
            stage_channels=arch.stage_channels,
            stage_depths=arch.stage_depths,
            out_stages=arch.out_stages,
            num_groups=arch.num_groups,
            weight_standardization=arch.weight_standardization,
            **encoder_options,
        )
    else:
        encoder = keras_dpt.ViTEncoder(**encoder_options)
    backbone = keras_dpt.DPTBackbone(
        encoder,
        readout=arch.readout,
        reassemble_channels=arch.reassemble_channels,
        fusion_channels=arch.fusion_channels,
        use_batch_norm=arch.use_batch_norm,
    )
    if arch.num_classes:
        return keras_dpt.DPTSegmentation(backbone, arch.num_classes, **options)
    return keras_dpt.DPTDepth(backbone, head_channels=arch.head_channels, **options)


def load(network, tensors, source="hf_dpt"):
    """Write a Hugging Face state dict into a Keras model, by the rules of a conversion source."""
    if source == "isl_org":
        tensors = isl_state_dict(tensors)
    specs = {name: Spec(t.shape, str(t.dtype)) for name, t in tensors.items()}
    variables = {variable.path: variable for variable in network.weights}
    task = "depth" if isinstance(network, keras_dpt.DPTDepth) else "segmentation"
    shapes = {path: tuple(variable.shape) for path, variable in variables.items()}
    writes = engine.plan(shapes, SOURCES[source, task], specs)
    engine.assign(writes, tensors.__getitem__, variables)


def predict(network, pixels):
    """Run a network on ready pixels, compiled as the backend likes it; float64 arrays."""
    # Not `Task.predict_on_batch`, which would send them through a preprocessor.
    outputs = keras.Model.predict_on_batch(network, pixels)
    return keras.tree.map_structure(lambda x: np.asarray(x, "float64"), outputs)


def difference(ours, reference):
    """Return (max, rms) of ours - reference, in units of the reference's standard deviation."""
    assert ours.shape == reference.shape
    error = np.abs(ours - reference.astype("float64")) / np.std(reference, dtype="float64")
    return float(error.max()), float(np.sqrt(np.mean(error**2)))


def measure(ours, answer, convert=lambda x: x):
    """Return the `difference`s of `ours` from both precisions of `convert(answer)`."""
    single, double = (convert(answer[name].astype("float64")) for name in ("float32", "float64"))
    return {
        "ours - float32": difference(ours, single),
        "ours - float64": difference(ours, double),
        "reference's float32 - float64": difference(single, double),
    }


def check(measured):
    """Hold the result of `measure` against the limits."""
    for column, limits in LIMITS.items():
        for kind, value, limit in zip(("max", "rms"), measured[column], limits, strict=True):
            assert value <= limit, f"{kind} of {column}: {value:.2e} > {limit}; all: {measured}"


# ---- tiny models, every option -----------------------------------------------------------------


def tiny_answer(model, size):
    together = [(other, size) for other in TINY for size in TINY_SIZES]
    together += [(other, (96, 160)) for other in TINY_SEGMENTATION]
    return answers.answer(model, size, batch=2, pyramid=True, together=together)


@functools.cache
def tiny_network(model, source="hf_dpt"):
    network = build(model)
    load(network, model.tensors(tiny_answer(model, TINY_SIZES[0])), source)
    return network


@pytest.mark.parametrize("model", TINY, ids=str)
def test_options(model):
    size = (96, 160)
    ours = predict(tiny_network(model), answers.picture(model, size, batch=2))
    check(measure(ours[..., 0], tiny_answer(model, size)))


@pytest.mark.compiles_long
@pytest.mark.parametrize("size", TINY_SIZES, ids=str)
@pytest.mark.parametrize("model", [TINY[0], TINY[5]], ids=str)
def test_sizes_on_one_model(model, size):
    network = tiny_network(model, "isl_org")
    ours = predict(network, answers.picture(model, size, batch=2))
    check(measure(ours[..., 0], tiny_answer(model, size)))


@pytest.mark.compiles_long
@pytest.mark.parametrize("model", [TINY[1], TINY[4]], ids=str)
def test_pyramid(model):
    """Each fused map, so that a fault is found where it is, not behind the head."""
    size = (96, 160)
    ours = predict(tiny_network(model).backbone, answers.picture(model, size, batch=2))
    answer = tiny_answer(model, size)
    for level in ("P4", "P3", "P2", "P1"):
        check({name: difference(ours[level], answer[level]) for name in LIMITS})


def test_metric_depth():
    model, size, (scale, shift) = TINY[5], (96, 160), (0.000305, 0.1378)
    network = build(model, kind="metric_depth", scale=scale, shift=shift)
    answer = tiny_answer(model, size)
    load(network, model.tensors(answer))
    metres = predict(network, answers.picture(model, size, batch=2))[..., 0]
    check(measure(1 / metres, answer, lambda x: scale * x + shift))


@pytest.mark.parametrize("model", TINY_SEGMENTATION, ids=str)
def test_segmentation(model):
    size = (96, 160)
    answer = tiny_answer(model, size)
    network = build(model)
    load(network, model.tensors(answer), "isl_org" if "hybrid" in str(model) else "hf_dpt")
    ours = predict(network, answers.picture(model, size, batch=2))
    check(measure(ours, answer))
    # As an official file's second head is used here: on the result of the penultimate fusion.
    auxiliary = keras.ops.convert_to_numpy(network.auxiliary_head(answer["P2"].astype("float32")))
    check({name: difference(auxiliary, answer["auxiliary"]) for name in LIMITS})


# ---- full sizes --------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def full_network(preset, model):
    keras.backend.clear_session()
    gc.collect()  # of the network before: Large takes 1.4 GB, and its graphs as much again
    if preset is None:
        network = build(model)
    else:
        task = keras_dpt.DPTSegmentation if "ade20k" in preset else keras_dpt.DPTDepth
        network = task.from_preset(preset, load_weights=False, preprocessor=None)
    load(network, model.tensors(full_answer(model, (224, 320))))
    return network


def full_answer(model, size):
    together = [(other, size) for _, other, size in FULL + FULL_SEGMENTATION if other == model]
    return answers.answer(model, size, together=together)


@pytest.mark.parity
@pytest.mark.parametrize("preset, model, size", FULL, ids=str)
def test_full_size_depth(preset, model, size):
    network = full_network(preset, model)
    ours = predict(network, answers.picture(model, size))[..., 0]
    if network.kind == "metric_depth":
        scale, shift = network.scale, network.shift
        measured = measure(1 / ours, full_answer(model, size), lambda x: scale * x + shift)
    else:
        measured = measure(ours, full_answer(model, size))
    report.record(preset or str(model), size, keras.config.backend(), measured)
    check(measured)


@pytest.mark.parity
@pytest.mark.parametrize("preset, model, size", FULL_SEGMENTATION, ids=str)
def test_full_size_segmentation(preset, model, size):
    ours = predict(full_network(preset, model), answers.picture(model, size))
    measured = measure(some_classes(ours), full_answer(model, size))
    report.record(preset, size, keras.config.backend(), measured)
    check(measured)


@pytest.mark.parity
@pytest.mark.parametrize(
    "preset, constants",
    [
        ("dpt_hybrid_kitti", (0.00006016, 0.00579)),
        ("dpt_hybrid_nyu", (0.000305, 0.1378)),
    ],
)
def test_metric_presets_have_the_authors_constants(preset, constants):
    network = keras_dpt.DPTDepth.from_preset(preset, load_weights=False, preprocessor=None)
    assert (network.scale, network.shift) == constants
