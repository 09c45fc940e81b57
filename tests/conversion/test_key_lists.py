"""The public checkpoints fit the networks of the presets: all tensors, all variables, no other."""

import functools
import math
import re

import pytest

from keras_dpt.conversion import engine
from keras_dpt.conversion.architecture import differences
from keras_dpt.conversion.engine import matches, plan
from keras_dpt.conversion.formats import format_of
from keras_dpt.errors import WeightsError
from keras_dpt.presets import read_preset
from keras_dpt.weights.readers import Spec

from .checkpoints import key_list, variable_shapes

pytestmark = pytest.mark.compiles_long  # names and shapes, the same on every backend


def large(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


# Lists of the Hybrid are those of its metric versions too. The larger a network, the longer it
# takes to build; one Large of a kind is enough to be quick.
FITS = [
    ("isl_base", "dpt_base"),
    ("isl_large", "dpt_large"),
    ("isl_hybrid", "dpt_hybrid"),
    ("isl_hybrid", "dpt_hybrid_kitti"),
    ("isl_hybrid", "dpt_hybrid_nyu"),
    ("hf_base", "dpt_base"),
    ("hf_large", "dpt_large"),
    ("hf_hybrid", "dpt_hybrid"),
    large("isl_large_ade20k", "dpt_large_ade20k"),
    ("isl_hybrid_ade20k", "dpt_hybrid_ade20k"),
    large("hf_large_ade20k", "dpt_large_ade20k"),
    ("depth_anything_small", "depth_anything_small"),
    ("depth_anything_small", "depth_anything_v2_metric_outdoor_small"),
    ("depth_anything_large", "depth_anything_v2_large"),
    ("hf_depth_anything_small", "depth_anything_v2_small"),
    large("hf_depth_anything_large", "depth_anything_large"),
    ("dinov2_small", "dinov2_dpt_small_nyu"),
    large("dinov2_large", "dinov2_dpt_large_kitti"),
    ("hf_dinov2_small", "dinov2_dpt_small_nyu"),
    ("isl_base", "dpt_deit_base"),
    ("isl_deit_base_distilled", "dpt_deit_base_distilled"),
    ("isl_beit_base_384", "dpt_beit_base_384"),
    ("hf_beit_base_384", "dpt_beit_base_384"),
    large("isl_beit_large_384", "dpt_beit_large_384"),
    large("isl_beit_large_512", "dpt_beit_large_512"),
    large("hf_beit_large_512", "dpt_beit_large_512"),
    ("isl_midas_v21", "midas_v21"),
    ("isl_midas_v21_small", "midas_v21_small"),
    ("isl_swin2_tiny_256", "dpt_swin2_tiny_256"),
    ("hf_swin2_tiny_256", "dpt_swin2_tiny_256"),
    large("isl_swin2_base_384", "dpt_swin2_base_384"),
    large("hf_swin2_base_384", "dpt_swin2_base_384"),
    large("isl_swin2_large_384", "dpt_swin2_large_384"),
    large("isl_swin_large_384", "dpt_swin_large_384"),
]


@pytest.fixture(autouse=True)
def _parse_names_once(monkeypatch):
    """Tests here translate the same few thousand names a thousand times."""
    monkeypatch.setattr(engine, "parse", functools.cache(engine.parse))


def convert_shapes(specs):
    """What conversion would write for tensors of these shapes, without their data."""
    source = format_of(specs)
    shapes = variable_shapes({"architecture": source.config_from(specs)})
    return plan(shapes, source, specs)


@pytest.mark.parametrize(("keys", "preset"), FITS)
def test_every_tensor_and_every_variable_once(keys, preset):
    preset, specs = read_preset(preset), key_list(keys)
    source = format_of(specs)
    shapes = variable_shapes(preset)
    writes = plan(shapes, source, specs)
    differ = differences(source.config_from(specs), preset["architecture"], source.untold)
    assert not differ
    assert sorted(write.path for write in writes) == sorted(shapes)
    used = {name for write in writes for name in write.sources}
    ignored = {name for name in specs if matches(source.ignore, name)}
    assert used | ignored == set(specs) and not used & ignored
    parameters = sum(math.prod(spec.shape) for name, spec in specs.items() if name in used)
    assert parameters == sum(map(math.prod, shapes.values())) == preset["parameters"]


def one_of_each(keys):
    """The last tensor among those whose names differ in numbers only."""
    return {re.sub(r"\d+", "#", name): name for name in key_list(keys)}.values()


def used_tensors(keys, names):
    ignore = format_of(key_list(keys)).ignore
    return [name for name in names if not matches(ignore, name)]


def assert_dropping_and_bending_fail(keys, names, axes):
    for name in used_tensors(keys, names):
        specs = key_list(keys)
        spec = specs.pop(name)
        with pytest.raises(WeightsError, match=re.escape(name) + r"\b"):
            convert_shapes(specs)
        for axis in axes[: len(spec.shape)]:
            shape = (*spec.shape[:axis], spec.shape[axis] + 1, *spec.shape[axis + 1 :])
            with pytest.raises(WeightsError, match=re.escape(f"{name} {shape}")):
                convert_shapes(specs | {name: Spec(shape, spec.dtype)})


@pytest.mark.parametrize(
    "keys",
    [
        *("isl_hybrid", "hf_base", "hf_depth_anything_small", "dinov2_small"),
        *map(large, ("isl_beit_base_384", "hf_beit_base_384", "isl_deit_base_distilled")),
        *map(large, ("isl_swin2_tiny_256", "hf_swin2_tiny_256", "isl_swin_large_384")),
    ],
)
def test_a_dropped_or_bent_tensor_is_named(keys):
    names = one_of_each(keys)
    assert len(names) > 25
    assert_dropping_and_bending_fail(keys, names, axes=[0])


@pytest.mark.slow
@pytest.mark.parametrize("keys", ["isl_large", "hf_hybrid", "isl_large_ade20k", "hf_large_ade20k"])
def test_any_dropped_or_bent_tensor_is_named(keys):
    assert_dropping_and_bending_fail(keys, key_list(keys), axes=[0, 1, 2, 3])


@pytest.mark.parametrize(
    "keys", ["hf_base", pytest.param("isl_large_ade20k", marks=pytest.mark.slow)]
)
def test_an_added_tensor_is_named(keys):
    specs = key_list(keys)
    additions = {}
    for name in used_tensors(keys, one_of_each(keys)):
        renumbered = re.sub(r"\.\d+\.", ".77.", name, count=1)
        additions |= dict.fromkeys((name + "2", "more." + name, renumbered), specs[name])
    additions = {name: spec for name, spec in additions.items() if name not in specs}
    assert len(additions) > 50
    for name, spec in additions.items():
        with pytest.raises(WeightsError, match=re.escape(name)):
            convert_shapes(specs | {name: spec})


def test_without_auxiliary_head():
    names = [name for name in key_list("isl_hybrid_ade20k") if name.startswith("auxlayer.")]
    specs = {name: x for name, x in key_list("isl_hybrid_ade20k").items() if name not in names}
    assert len(names) == 8
    assert not any(write.path.startswith("auxiliary_head") for write in convert_shapes(specs))


def test_other_networks_are_of_no_known_kind():
    with pytest.raises(WeightsError, match=r"such as fc\.weight.*isl_org.*hf_dpt"):
        format_of({"fc.weight": Spec((10, 10), "float32")})
