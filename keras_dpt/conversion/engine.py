"""Write a checkpoint's tensors into a model by declared names: all of them, or none.

A rule names the tensors of a variable. Names are templates: `{i}` is a number, `{n-1}` and `{4-n}`
are a number counted from another start or backwards.

    Rule("fusion_input_{n}/kernel", ("neck.convs.{n-1}.weight",))

This module is independent of models and formats. It plans with shapes only; data are read one
tensor at a time, after all checks.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from itertools import product

import numpy as np

from keras_dpt.errors import WeightsError
from keras_dpt.models.finite import all_finite

FLOATS = ("float16", "bfloat16", "float32", "float64")


def to_keras(*tensors):
    """PyTorch's layout to Keras's; several tensors are first concatenated along their outputs.

    A convolution or transposed convolution `(a, b, h, w)` becomes `(h, w, b, a)`, a dense layer
    `(out, in)` becomes `(in, out)`; tensors of other ranks are unchanged.
    """
    x = tensors[0] if len(tensors) == 1 else np.concatenate(tensors)
    return x.transpose(2, 3, 1, 0) if x.ndim == 4 else x.T if x.ndim == 2 else x


def as_it_is(tensor):
    """For tensors that already have our layout, such as tables."""
    return tensor


@dataclass(frozen=True)
class Rule:
    """`transform(*sources)` is the value of `variable`. All names are templates."""

    variable: str
    sources: tuple[str, ...]
    transform: Callable = to_keras


def weights(layer, *modules):
    """Rules for a dense layer or convolution with the concatenated outputs of `modules`."""
    return _leaves(layer, modules, kernel="weight", bias="bias")


def norm(layer, module):
    """Rules for a layer, group or batch normalisation."""
    moving = {"moving_mean": "running_mean", "moving_variance": "running_var"}
    return _leaves(layer, (module,), gamma="weight", beta="bias", **moving)


def _leaves(layer, modules, **leaves):
    return tuple(
        Rule(f"{layer}/{ours}", tuple(f"{module}.{theirs}" for module in modules))
        for ours, theirs in leaves.items()
    )


@dataclass(frozen=True)
class CheckpointFormat:
    """A format of checkpoints.

    Attributes:
        name: in messages and in the card of a converted preset.
        task: name of the task whose head the checkpoint has, or is given if it has none.
        encoders: encoder classes of such checkpoints, see
            `keras_dpt.conversion.architecture.read_encoder`.
        matches: function of `(specs, hf_config=None)`: whether a checkpoint has this format. It
            must be true even if a tensor is missing or misnamed, so that the error names it.
        rules: which tensors make which variables.
        ignore: `{pattern of tensor names: reason that they are not needed}`.
        constants: `{pattern of tensor names: function of the encoder's config}` for ignored tensors
            whose values follow from the architecture; the function returns these values as NumPy.
            Named groups of the pattern, such as a block's number, are its keyword arguments.
        read: function of `(shapes, encoders, hf_config)` that returns the architecture, see
            `keras_dpt.conversion.architecture`; `shapes` are `{variable path: shape}` of the
            variables made from the tensors.
        image_from: function of `(architecture, hf_image=None)` that returns arguments of
            `DPTImageConverter`; `hf_image` is a `preprocessor_config.json`.
        owns: function of a `config.json`'s content: whether a directory or repository with it is
            a checkpoint of this format. Omitted by formats of single files.
        names_from: function of `(architecture, hf_config)` that returns additions to the preset's
            `output` from Hugging Face's config, such as class names.
        ambiguous: whether different networks have the same tensors. Without a `config.json`, a
            preset must then be given.
        preset_of: function of names of weight files that returns the name of the preset with such
            an official file, or `None`.
        untold: arguments that no tensor shows, in which a preset may differ from what is inferred.
        fresh: `{pattern of variable paths: reason that the format has no tensors for them}`. These
            variables keep their initial values.
    """

    name: str
    task: str
    encoders: tuple
    matches: Callable
    rules: tuple[Rule, ...]
    ignore: dict[str, str]
    read: Callable
    image_from: Callable
    owns: Callable = lambda config: False
    names_from: Callable = lambda architecture, hf_config: {}
    ambiguous: bool = False
    preset_of: Callable = lambda files: None
    untold: frozenset[str] = frozenset()
    constants: dict[str, Callable] = field(default_factory=dict)
    fresh: dict[str, str] = field(default_factory=dict)

    def config_from(self, specs, hf_config=None):
        """The architecture, from the tensors and, if given, Hugging Face's config.

        Raises: WeightsError: the tensors are not sufficient, or the config has a setting that is
            not supported.
        """
        writes, _ = translate(self.rules, self.ignore, specs)
        shapes = {path: write.shape for path, write in writes.items() if write.shape is not None}
        return self.read(shapes, self.encoders, hf_config)


def has(*patterns):
    """A function of tensor names: whether each of these regular expressions matches one's start.

    For `CheckpointFormat.matches`.
    """

    def check(names):
        return all(any(re.match(pattern, name) for name in names) for pattern in patterns)

    return check


@dataclass(frozen=True)
class Write:
    """A step of a plan: `transform(*sources)`, of `shape`, goes into the variable at `path`."""

    path: str
    sources: tuple[str, ...]
    transform: Callable
    shape: tuple


def translate(rules, ignore, specs):
    """The variables that a checkpoint provides, in our names.

    Args:
        rules, ignore: see `CheckpointFormat`.
        specs: `{tensor name: Spec}`.

    Returns: `{variable path: Write}` and a list of problems, each with its tensors.
    """
    writes, problems = {}, []
    wanted = [name for name in specs if not matches(ignore, name)]
    unused = dict.fromkeys(wanted, "no rule uses this tensor")
    # The start of a name excludes most rules, at a tenth of the cost of parsing it.
    starts = [(rule, tuple(source.partition("{")[0] for source in rule.sources)) for rule in rules]
    for name, (rule, start) in product(wanted, starts):
        if not name.startswith(start):
            continue
        parsed = (parse(source, name) for source in rule.sources)
        numbers = next((found for found in parsed if found is not None), None)
        if numbers is None:
            continue
        path = fill(rule.variable, numbers)
        sources = tuple(fill(source, numbers) for source in rule.sources)
        if missing := [source for source in sources if source not in specs]:
            if name in unused:
                unused[name] = f"of no use without {', '.join(missing)}"
            continue
        unused.pop(name, None)
        if path in writes and writes[path].sources != sources:
            problems.append(f"{path}: {writes[path].sources} and {sources} both make it")
        shape = _result_shape(rule.transform, [specs[source].shape for source in sources])
        writes[path] = Write(path, sources, rule.transform, shape)
        if specs[name].dtype not in FLOATS:
            problems.append(f"{name}: {specs[name].dtype} is not a floating-point dtype")
    problems += [f"{name} {specs[name].shape}: {reason}" for name, reason in unused.items()]
    return writes, problems


def plan(variables, layout, specs, unbuilt=None):
    """All writes of a checkpoint into a model: each variable once, no tensor left over.

    Args:
        variables: `{path: shape}` of the model.
        layout: the checkpoint's `CheckpointFormat`.
        specs: `{tensor name: Spec}` of the checkpoint.
        unbuilt: `{pattern of variable paths: reason}` for parts that the model omits although
            the checkpoint has tensors for them.

    Returns: list of `Write`.
    Raises: WeightsError: a tensor is missing, left over or of another shape; lists all of them.
    """
    writes, problems = translate(layout.rules, layout.ignore, specs)
    writes = {path: write for path, write in writes.items() if not matches(unbuilt or {}, path)}
    for path in variables.keys() - writes.keys():
        if not matches(layout.fresh, path):
            needs = missing_tensors(layout.rules, path, specs) or "a rule for it"
            problems.append(f"{path} {variables[path]}: nothing to write into it, lacks {needs}")
    for path, write in writes.items():
        if path not in variables:
            problems.append(f"{', '.join(write.sources)}: the model has no variable {path}")
        elif write.shape != tuple(variables[path]):
            given = ", ".join(f"{name} {specs[name].shape}" for name in write.sources)
            problems.append(f"{path} {variables[path]}: another shape than {given}")
    if problems:
        raise WeightsError(
            "The checkpoint and the model do not fit; nothing was written.\n  "
            + "\n  ".join(sorted(problems))
        )
    return list(writes.values())


def assign(writes, read, variables):
    """Execute a plan. Raises: WeightsError: a tensor has NaN or infinity.

    Args:
        writes: iterable of `Write`, as from `plan`.
        read: function of a tensor name that returns its data, float32.
        variables: `{path: Keras variable}`.
    """
    for write in writes:
        value = write.transform(*map(read, write.sources))
        if not all_finite(value):
            raise WeightsError(
                f"{', '.join(write.sources)}: NaN or infinite numbers, for {write.path}. The "
                "checkpoint is damaged, or its training diverged."
            )
        variables[write.path].assign(value)


def check_constants(constants, specs, read, encoder_config):
    """Compare stored constants with those computed for the architecture.

    Args:
        constants: see `CheckpointFormat`.
        specs, read: of the checkpoint, as in `plan` and `assign`.
        encoder_config: constructor arguments of the encoder.

    Raises: WeightsError: one differs, so the weights are of another network.
    """
    for name in specs:
        for pattern, values in constants.items():
            found = re.match(pattern, name)
            if not found:
                continue
            expected = values(encoder_config, **found.groupdict())
            if specs[name].shape != expected.shape or (read(name) != expected).any():
                raise WeightsError(
                    f"{name} {specs[name].shape}: other values than those of this architecture, "
                    f"{expected.shape}. The weights were made for another network."
                )


def missing_tensors(rules, path, specs):
    """Names of the missing tensors of a variable, "" if it has no rule."""
    alternatives = []
    for rule in rules:
        numbers = parse(rule.variable, path)
        if numbers is not None:
            names = (fill(source, numbers) for source in rule.sources)
            alternatives.append(", ".join(name for name in names if name not in specs))
    return " or ".join(alternatives)


def matches(patterns, name):
    """Whether one of the regular expressions matches the start of `name`."""
    return any(re.match(pattern, name) for pattern in patterns)


_NUMBER = re.compile(r"\{(?:(\d+)-)?([a-z])(?:-(\d+))?\}")


def fill(template, numbers):
    """A template filled with numbers: `fill("a.{4-n}", {"n": 1}) == "a.3"`."""

    def value(match):
        total, name, start = match.groups()
        return str(int(total) - numbers[name] if total else numbers[name] - int(start or 0))

    return _NUMBER.sub(value, template)


def parse(template, name):
    """The numbers with which a template becomes `name`, or `None`; the inverse of `fill`."""
    pattern, placeholders = _compiled(template)
    match = pattern.fullmatch(name)
    if match is None:
        return None
    return {
        letter: int(total) - int(found) if total else int(found) + int(start or 0)
        for (total, letter, start), found in zip(placeholders, match.groups(), strict=True)
    }


@cache
def _compiled(template):
    literals = _NUMBER.split(template)[::4]
    return re.compile(r"(\d+)".join(map(re.escape, literals))), _NUMBER.findall(template)


def _result_shape(transform, shapes):
    """Shape of a transform's result, by arrays without memory; `None` if it fails."""
    try:
        return transform(*[np.broadcast_to(np.uint8(0), shape) for shape in shapes]).shape
    except (ValueError, IndexError):
        return None
