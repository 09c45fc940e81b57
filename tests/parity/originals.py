"""The references of this folder on official files of full size, for `keras-dpt verify`."""

import re

import numpy as np

from . import dinov2, isl_org, midas, midas_v21


def answers(preset, name, tensors, images):
    """What the network of an official file makes of images, in float64.

    Args:
        preset: as from `keras_dpt.presets.read_preset`.
        name: of the file's format, one of `FORMATS`.
        tensors: `{name: float32 array}`, the file's.
        images: list of `(H, W, 3)` float32, normalised.

    Returns: list of `(H, W)` arrays, `(H, W, C)` of classes, or lists of four maps of encoders.
    """
    network = FORMATS[name](preset["architecture"], tensors)
    return [_first(network(image[None])) for image in images]


def _first(output):
    return [x[0] for x in output] if isinstance(output, list) else output[0]


def _isl_org(architecture, tensors):
    encoder, backbone = architecture["encoder_config"], architecture["backbone_config"]
    task = architecture["task_config"]

    def network(x):
        y = isl_org.isl_forward(
            tensors,
            x,
            encoder["out_indices"],
            encoder["num_heads"],
            encoder["position_grid"],
            backbone["readout"],
            encoder.get("num_groups", 32),
            encoder.get("weight_standardization", "std"),
            encoder["layer_norm_epsilon"],
        )
        if task.get("kind") != "metric_depth":
            return y
        return 1 / np.maximum(task["scale"] * y + task["shift"], 1e-8)

    return network


def _depth_anything(architecture, tensors):
    encoder = architecture["encoder_config"]
    return dinov2.Network(
        tensors,
        encoder["num_heads"],
        encoder["out_indices"],
        encoder["position_offset"],
        architecture["task_config"].get("max_depth"),
    )


def _depther(architecture, tensors):
    encoder = architecture["encoder_config"]
    limits = architecture["task_config"]["output_layer"]["config"]
    tensors = {
        name if name.startswith(("decode_head.", "backbone.")) else f"backbone.{name}": x
        for name, x in tensors.items()
    }
    return dinov2.Network(
        tensors,
        encoder["num_heads"],
        encoder["out_indices"],
        encoder["position_offset"],
        depther=(limits["min_depth"], limits["max_depth"]),
    )


def _beit(architecture, tensors):
    _of_plain(architecture["encoder_config"])
    return _BEiT("beit", tensors)


def _of_plain(encoder):
    midas.DIM, midas.HEADS = encoder["hidden_dim"], encoder["num_heads"]
    midas.BLOCKS, midas.TAPS = encoder["num_layers"], tuple(encoder["out_indices"])
    midas.GRID = encoder["position_grid"][0]


class _BEiT(midas.Network):
    """At full size a loop over pairs of tokens takes an hour; here they are looked up together."""

    def biases(self, name, height, width):
        import torch

        table = self.w[f"{name}.relative_position_bias_table"]
        old = 2 * midas.GRID - 1
        image = table[: old * old].T.reshape(1, -1, old, old)
        image = midas.interpolated(image, (2 * height - 1, 2 * width - 1), False)[0]
        y, x = torch.cartesian_prod(torch.arange(height), torch.arange(width)).T
        count = len(y) + 1
        bias = torch.empty(len(image), count, count, dtype=table.dtype)
        from_class, to_class, own = table[old * old :]
        bias[:, 0, :], bias[:, :, 0] = from_class[:, None], to_class[:, None]
        bias[:, 0, 0] = own
        rows = y[:, None] - y[None] + height - 1
        bias[:, 1:, 1:] = image[:, rows, x[:, None] - x[None] + width - 1]
        return bias


def _swin(kind):
    def make(architecture, tensors):
        encoder = architecture["encoder_config"]
        grids = [encoder["image_size"] // 4 // 2**s for s in range(4)]
        midas.SWIN = {
            "dim": encoder["embed_dim"],
            "depths": tuple(encoder["depths"]),
            "heads": tuple(encoder["num_heads"]),
            "side": encoder["image_size"],
        }
        window = encoder["window_size"]
        midas.WINDOWS = tuple(min(window, grid) for grid in grids)
        midas.SHIFTS = tuple(window // 2 if grid > window else 0 for grid in grids)
        if kind == "swin2":
            pretrained = encoder["pretrained_window_sizes"]
            pairs = zip(pretrained, midas.WINDOWS, strict=True)
            midas.PRETRAINED = tuple(wide or own for wide, own in pairs)
        return midas.Network(kind, tensors)

    return make


def _resnext(architecture, tensors):
    encoder = architecture["encoder_config"]
    midas_v21.DEPTHS, midas_v21.GROUPS = tuple(encoder["stage_depths"]), encoder["groups"]
    return midas_v21.Network("v21", tensors)


def _lite(architecture, tensors):
    """How many blocks a stage has shows in the names of its tensors."""
    table = []
    for place, kernel, stride, _, width in midas_v21.LITE:
        numbers = [re.match(rf"pretrained\.{re.escape(place)}\.(\d+)\.", x) for x in tensors]
        depth = 1 + max(int(found[1]) for found in numbers if found)
        table.append((place, kernel, stride, depth, width))
    midas_v21.LITE = tuple(table)
    return midas_v21.Network("small", tensors)


class _Taps(isl_org._Functions):
    """Encoders of plain ViTs alone: maps of the tapped blocks' patch tokens."""

    def reassemble(self, x, level, height, width):
        return x[:, 1:].transpose(1, 2).unflatten(2, (height, width))


class _TwoTokens(midas.Network):
    def reassemble(self, x, token, grid, n):
        return x.transpose(1, 2).unflatten(2, grid)


def _timm_vit(architecture, tensors):
    import torch

    encoder = architecture["encoder_config"]
    named = {f"pretrained.model.{name}": x for name, x in tensors.items()}
    if encoder.get("distilled"):
        _of_plain(encoder)
        network = _TwoTokens("deit", named)
        encode = network.plain
    else:
        w = {name: torch.from_numpy(x.astype("float64")) for name, x in named.items()}
        network = _Taps(w, "ignore", 32, "std", encoder["layer_norm_epsilon"])

        def encode(x):
            return network.encode(
                x, encoder["out_indices"], encoder["num_heads"], encoder["position_grid"]
            )

    return _maps(encode)


def _hugging_face_vit(architecture, tensors):
    """The names of transformers' DPT under another root, and a classifier."""
    wanted = {name: x for name, x in tensors.items() if name.startswith("vit.")}
    renamed = {
        name.replace("vit.", "dpt.", 1): x for name, x in wanted.items() if "pooler" not in name
    }
    root = "pretrained.model."
    named = {x.removeprefix(root): y for x, y in isl_org.isl_state_dict(renamed).items()}
    return _timm_vit(architecture, named)


def _torchvision(architecture, tensors):
    """torchvision's names of a ResNet are those of MiDaS 2.1 but for the first layers."""
    encoder = architecture["encoder_config"]
    midas_v21.DEPTHS = tuple(encoder["stage_depths"])
    midas_v21.GROUPS = encoder.get("groups", 1)
    named = {}
    for name, x in tensors.items():
        name = re.sub(r"^layer1\.", "layer1.4.", name)
        name = re.sub(r"^conv1\.", "layer1.0.", re.sub(r"^bn1\.", "layer1.1.", name))
        named[f"pretrained.{name}"] = x
    return _maps(midas_v21.Network("v21", named).resnext)


def _maps(encode):
    """A function of pixels that returns maps `(B, h, w, C)`."""
    import torch

    def network(x):
        x = torch.from_numpy(x.astype("float64")).permute(0, 3, 1, 2)
        with torch.no_grad():
            return [y.permute(0, 2, 3, 1).numpy() for y in encode(x)]

    return network


FORMATS = {
    "isl_org": _isl_org,
    "isl_org_segmentation": _isl_org,
    "depth_anything": _depth_anything,
    "dinov2_depther": _depther,
    "isl_org_beit": _beit,
    "isl_org_swin": _swin("swin"),
    "isl_org_swin2": _swin("swin2"),
    "midas_v21": _resnext,
    "midas_v21_small": _lite,
    "timm_vit": _timm_vit,
    "hf_vit": _hugging_face_vit,
    "torchvision_resnet": _torchvision,
}
