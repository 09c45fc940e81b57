"""The engine on rules and models made up for the purpose."""

import numpy as np
import pytest

from keras_dpt.conversion.engine import (
    CheckpointFormat,
    Rule,
    assign,
    fill,
    norm,
    parse,
    plan,
    to_keras,
    translate,
    weights,
)
from keras_dpt.errors import WeightsError
from keras_dpt.weights.readers import Spec


class Variable:
    """What the engine needs of a Keras variable."""

    def __init__(self, shape):
        self.shape, self.value = shape, None

    def assign(self, value):
        assert value.shape == self.shape
        self.value = value


def first_half(x):
    return to_keras(x[:, : x.shape[1] // 2])


def second_half(x):
    return to_keras(x[:, x.shape[1] // 2 :])


RULES = (
    *weights("block_{i}/qkv", "blocks.{i}.q", "blocks.{i}.k"),
    *norm("block_{i}/norm", "blocks.{i}.norm"),
    Rule("read_{n}/token", ("readout.{n-1}.weight",), first_half),
    Rule("read_{n}/class", ("readout.{n-1}.weight",), second_half),
    *weights("fusion_{n}/conv", "fusion.{4-n}"),
)


def layout(rules=RULES, **options):
    """A format of these rules; of the rest the engine needs nothing."""
    return CheckpointFormat(
        name="made up",
        task="depth",
        encoders=(),
        matches=None,
        rules=rules,
        ignore={r"head\.": "unused"},
        read=None,
        image_from=None,
        **options,
    )


def tensors():
    rng = np.random.default_rng(0)
    shapes = {
        "blocks.0.q.weight": (3, 2),
        "blocks.0.k.weight": (3, 2),
        "blocks.0.q.bias": (3,),
        "blocks.0.k.bias": (3,),
        "blocks.0.norm.weight": (2,),
        "blocks.0.norm.bias": (2,),
        "readout.1.weight": (2, 6),
        "fusion.0.weight": (4, 5, 3, 2),
        "fusion.0.bias": (4,),
        "head.weight": (9, 9),
    }
    return {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}


def variables():
    shapes = {
        "block_0/qkv/kernel": (2, 6),
        "block_0/qkv/bias": (6,),
        "block_0/norm/gamma": (2,),
        "block_0/norm/beta": (2,),
        "read_2/token": (3, 2),
        "read_2/class": (3, 2),
        "fusion_4/conv/kernel": (3, 2, 5, 4),
        "fusion_4/conv/bias": (4,),
    }
    return {path: Variable(shape) for path, shape in shapes.items()}


def specs_of(tensors):
    return {name: Spec(x.shape, str(x.dtype)) for name, x in tensors.items()}


def convert(tensors, variables, made_of=None, **options):
    shapes = {path: variable.shape for path, variable in variables.items()}
    assign(
        plan(shapes, made_of or layout(), specs_of(tensors), **options),
        tensors.__getitem__,
        variables,
    )


def test_every_variable_gets_its_tensors():
    x, model = tensors(), variables()
    convert(x, model)
    q, k = x["blocks.0.q.weight"], x["blocks.0.k.weight"]
    np.testing.assert_array_equal(model["block_0/qkv/kernel"].value, np.hstack([q.T, k.T]))
    biases = [*x["blocks.0.q.bias"], *x["blocks.0.k.bias"]]
    np.testing.assert_array_equal(model["block_0/qkv/bias"].value, biases)
    np.testing.assert_array_equal(model["block_0/norm/gamma"].value, x["blocks.0.norm.weight"])
    np.testing.assert_array_equal(model["block_0/norm/beta"].value, x["blocks.0.norm.bias"])
    np.testing.assert_array_equal(model["read_2/token"].value, x["readout.1.weight"][:, :3].T)
    np.testing.assert_array_equal(model["read_2/class"].value, x["readout.1.weight"][:, 3:].T)
    kernel = np.einsum("oihw->hwio", x["fusion.0.weight"])
    np.testing.assert_array_equal(model["fusion_4/conv/kernel"].value, kernel)
    np.testing.assert_array_equal(model["fusion_4/conv/bias"].value, x["fusion.0.bias"])


def assert_refused(tensors, model, *words, **options):
    with pytest.raises(WeightsError) as caught:
        convert(tensors, model, **options)
    for word in words:
        assert word in str(caught.value)
    assert all(variable.value is None for variable in model.values())


def test_both_leftovers_are_listed_and_nothing_is_written():
    x, model = tensors(), variables()
    del x["blocks.0.k.bias"], x["fusion.0.weight"]
    x["stranger"] = np.zeros((1, 2), "float32")
    model["extra/kernel"] = Variable((7,))
    assert_refused(
        x,
        model,
        "block_0/qkv/bias (6,): nothing to write into it, lacks blocks.0.k.bias",
        "fusion_4/conv/kernel (3, 2, 5, 4): nothing to write into it, lacks fusion.0.weight",
        "blocks.0.q.bias (3,): of no use without blocks.0.k.bias",
        "stranger (1, 2): no rule uses this tensor",
        "extra/kernel (7,): nothing to write into it, lacks a rule for it",
    )


def test_a_tensor_of_a_part_that_the_model_lacks_is_named():
    x = tensors() | {"blocks.1.norm.weight": np.zeros(2, "float32")}
    why = "blocks.1.norm.weight: the model has no variable block_1/norm/gamma"
    assert_refused(x, variables(), why)


def test_a_lone_member_of_a_group_is_named():
    x = tensors() | {"blocks.9.k.bias": np.zeros(3, "float32")}
    assert_refused(x, variables(), "blocks.9.k.bias (3,): of no use without blocks.9.q.bias")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("blocks.0.norm.weight", (3,)),
        ("blocks.0.k.weight", (4, 2)),  # stacks with q, to too many outputs
        ("blocks.0.k.weight", (3, 5)),  # does not even stack with q
        ("readout.1.weight", (2, 7)),  # one half fits
        ("readout.1.weight", (2,)),  # has no second axis to be halved
        ("fusion.0.weight", (5, 4, 3, 2)),
    ],
)
def test_other_shapes_are_named(name, shape):
    x = tensors() | {name: np.zeros(shape, "float32")}
    assert_refused(x, variables(), f"{name} {shape}", "another shape")


def test_integers_are_no_weights():
    x = tensors()
    x["blocks.0.norm.bias"] = x["blocks.0.norm.bias"].astype("int8")
    assert_refused(x, variables(), "blocks.0.norm.bias: int8 is not a floating-point dtype")


def test_two_rules_for_one_variable_are_refused():
    rules = (*RULES, Rule("block_{i}/norm/gamma", ("twin.{i}",)))
    x = tensors() | {"twin.0": np.zeros(2, "float32")}
    assert_refused(x, variables(), "block_0/norm/gamma: ", "twin.0", made_of=layout(rules))


def test_parts_without_tensors_keep_their_values_only_if_declared():
    model = variables() | {"head/kernel": Variable((2, 2))}
    assert_refused(tensors(), model, "head/kernel")
    convert(tensors(), model, layout(fresh={"head/": "untrained"}))
    assert model["head/kernel"].value is None
    assert all(v.value is not None for path, v in model.items() if path != "head/kernel")


def test_parts_that_the_model_leaves_out_only_if_declared():
    x, model = tensors(), variables()
    del model["fusion_4/conv/bias"]
    assert_refused(x, model, "fusion.0.bias: the model has no variable fusion_4/conv/bias")
    convert(x, model, unbuilt={"fusion_4/conv/bias": "off"})
    assert all(variable.value is not None for variable in model.values())


def test_planning_takes_no_memory():
    """A shape alone is enough, here of four exabytes."""
    specs = {"a.weight": Spec((10**9, 10**9), "float32")}
    writes, problems = translate(weights("dense", "a"), {}, specs)
    assert writes["dense/kernel"].shape == (10**9, 10**9) and not problems


@pytest.mark.parametrize(
    ("template", "numbers", "name"),
    [
        ("block_{i}/norm{k}", {"i": 11, "k": 2}, "block_11/norm2"),
        ("layers.{n-1}.x", {"n": 1}, "layers.0.x"),
        ("layers.{4-n}.m{m}", {"n": 4, "m": 2}, "layers.0.m2"),
        ("a.b+c", {}, "a.b+c"),
    ],
)
def test_fill_and_parse_are_inverse(template, numbers, name):
    assert fill(template, numbers) == name
    assert parse(template, name) == numbers
    assert parse(template, name + "x") is None
    assert parse(template, "x" + name) is None


def test_dots_in_names_stand_for_themselves():
    assert parse("a.{i}", "ab3") is None
