"""Read a network's architecture from the names and shapes of a checkpoint's tensors.

It works on what `engine.translate` offers, so on our names, whatever the source. Every number is
what most of the tensors that show it say: a damaged tensor then doesn't change the network, and the
engine finds it by comparing the two.

An architecture is a dict as in a preset's file: `encoder` (a class name), `encoder_config`,
`backbone_config`, `task_config` (constructor arguments).
"""

import math
import re
from collections import Counter

from keras_dpt.errors import WeightsError

# What shows a number: patterns of variable paths, and an axis of these variables.
HIDDEN_DIM = {r"block_\d+/norm[12]/": 0, "patch_embedding/": -1, "position_embedding/": -1}
MLP_DIM = {r"block_\d+/mlp/dense1/": -1, r"block_\d+/mlp/dense2/kernel": 0}
STEM_CHANNELS = {"stem/": -1}
STAGE_CHANNELS = {r"stage_{n}_block_\d+/(conv3|norm3|downsample_conv|downsample_norm)/": -1}
REASSEMBLE_CHANNELS = {"fusion_input_{n}/kernel": 2, "reassemble_{n}/projection/": -1}
FUSION_CHANNELS = {r"fusion_input_\d/kernel": -1, r"fusion_\d/": -1}
NUM_CLASSES = {"(segmentation|auxiliary)_head/conv2/": -1}
HEAD_CHANNELS = {"depth_head/conv{n}/": -1, "depth_head/conv{next}/kernel": 2}

# What no tensor shows. A preset, a Hugging Face config or the source's habits settle it. (The grid
# of positions shows if it is square; how often it is right is checked when shapes are compared.)
UNTOLD = frozenset(
    {
        "num_heads",
        "position_grid",
        "out_indices",
        "layer_norm_epsilon",
        "num_groups",
        "weight_standardization",
    }
)


def shapes_of(writes):
    """`{variable path: shape}` of what `engine.translate` offers."""
    return {path: write.shape for path, write in writes.items() if write.shape is not None}


def read_architecture(shapes, readout="ignore", **untold):
    """The complete architecture of a depth or segmentation network.

    Args:
        shapes: `{variable path: shape}`.
        readout: mode where the class token has no weights of its own: "ignore" or "add".
        **untold: arguments named in `UNTOLD`, see `read_encoder`.

    Raises: WeightsError: too little is there to tell.
    """
    encoder, encoder_config = read_encoder(shapes, **untold)
    stages = [encoder_config["stage_channels"][s] for s in encoder_config.get("out_stages", ())]
    readouts = _number_of(shapes, r"read_(\d)/(token/kernel|readout/kernel|readout/bias)")
    norms = _amount(shapes, r"fusion_\d/residual_unit\d/norm")
    biases = _amount(shapes, r"fusion_\d/residual_unit\d/conv./bias")
    return {
        "encoder": encoder,
        "encoder_config": encoder_config,
        "backbone_config": {
            "readout": "project" if readouts else readout,
            "reassemble_channels": stages
            + [_vote(shapes, REASSEMBLE_CHANNELS, n) for n in range(len(stages) + 1, 5)],
            "fusion_channels": _vote(shapes, FUSION_CHANNELS),
            "use_batch_norm": norms > biases,
        },
        "task_config": _read_head(shapes),
    }


def _read_head(shapes):
    """Constructor arguments of the task: `DPTSegmentation`'s if there are classes."""
    if not _amount(shapes, "segmentation_head/"):
        channels = [_vote(shapes, HEAD_CHANNELS, n) for n in (1, 2)]
        return {"head_channels": channels, "kind": "relative_inverse_depth"}
    return {
        "num_classes": _vote(shapes, NUM_CLASSES),
        "auxiliary": _amount(shapes, "auxiliary_head/") > 0,
    }


def read_encoder(
    shapes,
    num_heads=None,
    out_indices=None,
    num_groups=32,
    weight_standardization=None,
    **untold,
):
    """Class name and constructor arguments of the encoder.

    Args:
        shapes: `{variable path: shape}`.
        num_heads: by default heads are 64 wide.
        out_indices: by default spread as evenly as in the official networks.
        num_groups, weight_standardization: see `ViTHybridEncoder`; others do not take them.
        **untold: more arguments for any encoder.

    Raises: WeightsError: too little is there to tell.
    """
    num_layers = _number_of(shapes, r"block_(\d+)/(.*)")
    hidden_dim = _vote(shapes, HIDDEN_DIM)
    depths = [_number_of(shapes, rf"stage_{s}_block_(\d+)/(.*)") for s in range(3)]
    read = r"(?:reassemble|read)_(\d)/(projection/.*|token/kernel|readout/.*)"
    map_taps = 4 - _number_of(shapes, read) if depths[0] else 0
    config = {
        "num_layers": num_layers,
        "hidden_dim": hidden_dim,
        "num_heads": num_heads or hidden_dim // 64,
        "mlp_dim": _vote(shapes, MLP_DIM),
        "position_grid": _square_grid(shapes),
        "out_indices": out_indices or regular_taps(num_layers)[map_taps:],
    } | untold
    if not depths[0]:
        kernel = shapes.get("patch_embedding/projection/kernel", (16,))
        return "ViTEncoder", config | {"patch_size": kernel[0]}
    return "ViTHybridEncoder", config | {
        "stem_channels": _vote(shapes, STEM_CHANNELS),
        "stage_channels": [_vote(shapes, STAGE_CHANNELS, s) for s in range(3)],
        "stage_depths": depths,
        "out_stages": list(range(map_taps)),
        "num_groups": num_groups,
        "weight_standardization": weight_standardization,
    }


def original_image(architecture, hf_image=None):
    """Image geometry of the authors' scripts for this network, as `DPTImageConverter` arguments."""
    return {
        "image_size": native_size(architecture),
        "keep_aspect_ratio": True,
        "multiple_of": 32,
        "resize": "bicubic",
        "mean": 0.5,
        "std": 0.5,
    }


def native_size(architecture):
    """`[height, width]` in pixels to which the stored positions belong."""
    config = architecture["encoder_config"]
    return [side * config.get("patch_size", 16) for side in config["position_grid"]]


def regular_taps(num_layers):
    """The last block of each quarter, 0-based: 2, 5, 8, 11 of 12 and 5, 11, 17, 23 of 24."""
    return [num_layers * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]


def differences(told, wanted):
    """Where two architectures disagree, apart from `UNTOLD`: list of one line each."""
    lines = []
    for part, value in told.items():
        pairs = value.items() if isinstance(value, dict) else ()
        if not isinstance(value, dict) and value != wanted[part]:
            lines.append(f"{part}: {value} in the checkpoint, {wanted[part]} in the preset")
        for key, ours in pairs:
            theirs = wanted[part].get(key)
            if key == "readout" and "project" not in (ours, theirs):
                continue
            if key not in UNTOLD | {"kind"} and ours != theirs:
                lines.append(f"{part}.{key}: {ours} in the checkpoint, {theirs} in the preset")
    return lines


def _vote(shapes, evidence, n=0):
    """The number that most of the evidence shows."""
    votes = Counter()
    for pattern, axis in evidence.items():
        pattern = re.compile(pattern.format(n=n, next=n + 1))
        votes.update(s[axis] for path, s in shapes.items() if pattern.match(path) and len(s) > axis)
    if not votes:
        where = ", ".join(pattern.format(n=n, next=n + 1) for pattern in evidence)
        raise WeightsError(f"The checkpoint isn't a whole network: it has nothing like {where}.")
    return votes.most_common(1)[0][0]


def _number_of(shapes, pattern):
    """How many parts there are: group 1 of `pattern` counts them, group 2 says what each has."""
    found = filter(None, (re.fullmatch(pattern, path) for path in shapes))
    owners = Counter(match[2] for match in found)
    return Counter(owners.values()).most_common(1)[0][0] if owners else 0


def _amount(shapes, pattern):
    return sum(re.match(pattern, path) is not None for path in shapes)


def _square_grid(shapes):
    """The grid of the stored positions if it is square, else that of 384 x 384 pixels."""
    cells = shapes.get("position_embedding/position_embedding", (1, 0))[1] - 1
    side = math.isqrt(max(cells, 0))
    return [side, side] if side > 0 and side * side == cells else [24, 24]
