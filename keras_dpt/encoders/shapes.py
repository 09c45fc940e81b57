"""Infer a network's arguments from the shapes of its variables, for `Encoder.config_from_shapes`.

Each number is decided by the majority of the variables that show it. A damaged tensor then does not
change the network, and is found when the two are compared.
"""

import math
import re
from collections import Counter

from keras_dpt.errors import WeightsError

# Where numbers of a transformer are found: patterns of variable paths, and an axis of each.
HIDDEN_DIM = {r"block_\d+/norm[12]/": 0, "patch_embedding/": -1, "position_embedding/": -1}
MLP_DIM = {r"block_\d+/mlp/dense1/": -1, r"block_\d+/mlp/dense2/kernel": 0}


def transformer_config(shapes, taps=4, num_heads=None, out_indices=None, **untold):
    """Arguments shared by all encoders with transformer blocks.

    Args:
        shapes: `{variable path: shape}`.
        taps: number of tapped blocks.
        num_heads: by default heads are 64 wide.
        out_indices: by default spread as evenly as in the official networks.
        **untold: more arguments, passed through.

    Raises: WeightsError: the shapes are not sufficient.
    """
    num_layers = number_of(shapes, r"block_(\d+)/(.*)")
    hidden_dim = vote(shapes, HIDDEN_DIM)
    return {
        "num_layers": num_layers,
        "hidden_dim": hidden_dim,
        "num_heads": num_heads or hidden_dim // 64,
        "mlp_dim": vote(shapes, MLP_DIM),
        "position_grid": _square_grid(shapes),
        "out_indices": out_indices or regular_taps(num_layers)[4 - taps :],
    } | untold


def regular_taps(num_layers):
    """The last block of each quarter, 0-based: 2, 5, 8, 11 of 12 and 5, 11, 17, 23 of 24."""
    return [num_layers * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]


def vote(shapes, evidence, n=0):
    """The number that most of the evidence agrees on.

    Args:
        shapes: `{variable path: shape}`.
        evidence: `{pattern of variable paths: axis}`; `{n}` and `{next}` in a pattern stand for `n`
            and `n + 1`.

    Raises: WeightsError: nothing shows it.
    """
    votes = Counter()
    for pattern, axis in evidence.items():
        pattern = re.compile(pattern.format(n=n, next=n + 1))
        found = [shape for path, shape in shapes.items() if pattern.match(path)]
        votes.update(shape[axis] for shape in found if -len(shape) <= axis < len(shape))
    if not votes:
        where = ", ".join(pattern.format(n=n, next=n + 1) for pattern in evidence)
        raise WeightsError(
            f"Unsupported or incomplete checkpoint: no tensor makes a variable like {where}."
        )
    return votes.most_common(1)[0][0]


def number_of(shapes, pattern):
    """Number of parts: group 1 of `pattern` counts them, group 2 is what each has."""
    found = filter(None, (re.fullmatch(pattern, path) for path in shapes))
    owners = Counter(match[2] for match in found)
    return Counter(owners.values()).most_common(1)[0][0] if owners else 0


def amount(shapes, pattern):
    """Number of variables whose paths start with a match of `pattern`."""
    return sum(re.match(pattern, path) is not None for path in shapes)


def _square_grid(shapes):
    """The grid of the stored positions if it is square, else that of 384 x 384 pixels."""
    prefix = 1 + amount(shapes, "position_embedding/distillation_token")
    cells = shapes.get("position_embedding/position_embedding", (1, 0))[1] - prefix
    side = math.isqrt(max(cells, 0))
    return [side, side] if side > 0 and side * side == cells else [24, 24]
