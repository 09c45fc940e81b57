"""References for MiDaS 3.1's and DeiT's networks, in plain torch functions on the authors' names.

Nothing here is shared with keras_dpt, transformers or timm. `mistake` makes one of the errors that
facts about these networks warn of, so that tests can show that they would notice it.
"""

import math
import zlib

import numpy as np

WIDTHS, FUSED = (12, 16, 20, 24), 16
DIM, HEADS, BLOCKS, TAPS = 48, 3, 5, (0, 1, 3, 4)
GRID, PATCH = 4, 16
# Swin: a grid of 32 cells of 4 pixels at stage 1, windows of 8, pretrained with 4 and 2.
SWIN = {"dim": 16, "depths": (2, 2, 2, 2), "heads": (2, 2, 4, 4), "side": 128}
WINDOWS, SHIFTS, PRETRAINED = (8, 8, 8, 4), (4, 4, 0, 0), (6, 6, 6, 3)

MISTAKES = {
    "beit": (
        "biases bicubic",
        "biases with corners aligned",
        "biases antialiased",
        "biases nearest",
        "offsets of the other sign",
        "class rows swapped",
        "no LayerScale",
        "no query bias",
        "no biases",
        "tanh GELU",
        "halves of the readout swapped",
        "head corners not aligned",
    ),
    "deit": (
        "distillation token read",
        "mean of both tokens read",
        "tokens in the other order",
        "positions of the patches shifted",
    ),
    "swin2": (
        "no mask",
        "no shift",
        "final norm",
        "merged row by row",
        "scale not clamped",
        "pretrained with its own windows",
        "pretrained with one window for all",
        "a key bias",
        "norm before the branch",
        "columns before rows",
        "scale by the root of the width",
        "norm before the reduction",
    ),
    "swin": ("no mask", "no shift", "final norm", "merged row by row", "norm after the reduction"),
}


def shapes(kind):
    """`{tensor name: shape}` of a small network of one of the kinds in `MISTAKES`."""
    found = {}

    def layer(name, *shape, bias=True):
        found[f"{name}.weight"] = shape
        if bias:
            found[f"{name}.bias"] = shape[:1]

    root = "pretrained.model."
    if kind in ("beit", "deit"):
        _plain(found, layer, root, kind)
        widths = WIDTHS
        for n, width in enumerate(WIDTHS, 1):
            layer(f"pretrained.act_postprocess{n}.0.project.0", DIM, 2 * DIM)
            layer(f"pretrained.act_postprocess{n}.3", width, DIM, 1, 1)
        for n, side in ((1, 4), (2, 2), (4, 3)):
            layer(f"pretrained.act_postprocess{n}.4", WIDTHS[n - 1], WIDTHS[n - 1], side, side)
    else:
        _windowed(found, layer, root, kind)
        widths = [SWIN["dim"] * 2**n for n in range(4)]
    for n, width in enumerate(widths, 1):
        layer(f"scratch.layer{n}_rn", FUSED, width, 3, 3, bias=False)
        for unit in (1, 2):
            for conv in (1, 2):
                layer(f"scratch.refinenet{n}.resConfUnit{unit}.conv{conv}", FUSED, FUSED, 3, 3)
        layer(f"scratch.refinenet{n}.out_conv", FUSED, FUSED, 1, 1)
    layer("scratch.output_conv.0", FUSED // 2, FUSED, 3, 3)
    layer("scratch.output_conv.2", 32, FUSED // 2, 3, 3)
    layer("scratch.output_conv.4", 1, 32, 1, 1)
    return found


def _plain(found, layer, root, kind):
    found[root + "cls_token"] = (1, 1, DIM)
    layer(root + "patch_embed.proj", DIM, 3, PATCH, PATCH)
    if kind == "deit":
        found[root + "dist_token"] = (1, 1, DIM)
        found[root + "pos_embed"] = (1, 2 + GRID * GRID, DIM)
        layer(root + "head_dist", 10, DIM)
    for i in range(BLOCKS):
        block = f"{root}blocks.{i}."
        layer(block + "norm1", DIM)
        layer(block + "attn.qkv", 3 * DIM, DIM, bias=kind == "deit")
        layer(block + "attn.proj", DIM, DIM)
        layer(block + "norm2", DIM)
        layer(block + "mlp.fc1", 4 * DIM, DIM)
        layer(block + "mlp.fc2", DIM, 4 * DIM)
        if kind == "beit":
            found[block + "gamma_1"] = found[block + "gamma_2"] = (DIM,)
            found[block + "attn.q_bias"] = found[block + "attn.v_bias"] = (DIM,)
            rows = (2 * GRID - 1) ** 2 + 3
            found[block + "attn.relative_position_bias_table"] = (rows, HEADS)


def _windowed(found, layer, root, kind):
    layer(root + "patch_embed.proj", SWIN["dim"], 3, 4, 4)
    layer(root + "patch_embed.norm", SWIN["dim"])
    for s, (depth, heads) in enumerate(zip(SWIN["depths"], SWIN["heads"], strict=True)):
        dim = SWIN["dim"] * 2**s
        for j in range(depth):
            block = f"{root}layers.{s}.blocks.{j}."
            layer(block + "norm1", dim)
            layer(block + "attn.qkv", 3 * dim, dim, bias=kind == "swin")
            layer(block + "attn.proj", dim, dim)
            layer(block + "norm2", dim)
            layer(block + "mlp.fc1", 4 * dim, dim)
            layer(block + "mlp.fc2", dim, 4 * dim)
            if kind == "swin":
                rows = (2 * WINDOWS[s] - 1) ** 2
                found[block + "attn.relative_position_bias_table"] = (rows, heads)
            else:
                found[block + "attn.q_bias"] = found[block + "attn.v_bias"] = (dim,)
                found[block + "attn.logit_scale"] = (heads, 1, 1)
                layer(block + "attn.cpb_mlp.0", 512, 2)
                layer(block + "attn.cpb_mlp.2", heads, 512, bias=False)
        if s < 3:
            layer(f"{root}layers.{s}.downsample.reduction", 2 * dim, 4 * dim, bias=False)
            layer(f"{root}layers.{s}.downsample.norm", 4 * dim if kind == "swin" else 2 * dim)
    layer(root + "norm", dim)


def tensors(found, seed=0):
    """Random float32 arrays of these shapes; LayerScale and norms are far from 1."""
    result = {}
    for name, shape in found.items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        if "gamma_" in name:
            value = rng.uniform(0.2, 1.8, shape) * rng.choice([-1, 1], shape)
        elif name.endswith("logit_scale"):
            value = rng.uniform(1, 3, shape)
            if "layers.1.blocks.0." in name:
                value[0] = 5.0  # the clamp is at 4.6; heads so sharp multiply rounding, too
        elif "bias_table" in name or name.endswith(("cls_token", "dist_token", "pos_embed")):
            value = rng.normal(0, 1, shape)
        elif "cpb_mlp" in name:
            value = rng.normal(0, 1 if ".0." in name else 0.06, shape)
        elif len(shape) == 1 and name.endswith("weight"):
            value = rng.uniform(0.5, 1.5, shape)
        elif len(shape) == 1:
            value = rng.normal(0, 0.2, shape)
        else:
            transposed = "act_postprocess" in name and shape[-1] in (2, 4)
            fan_in = shape[0] if transposed else math.prod(shape[1:])
            value = rng.normal(0, fan_in**-0.5, shape)
        result[name] = value.astype("float32")
    return result


class Network:
    """One network: its tensors in float64, and what it makes of pictures.

    Args: kind: one of those in `MISTAKES`. tensors: `{name: array}`. mistake: see `MISTAKES`.
    """

    def __init__(self, kind, tensors, mistake=None):
        import torch

        self.kind, self.mistake = kind, mistake
        self.w = {n: torch.from_numpy(np.array(x, "float64")) for n, x in tensors.items()}

    def __call__(self, pixels, last_relu=True):
        """Inverse depth `(B, H, W)` float64 of normalised pixels `(B, H, W, 3)`."""
        import torch

        x = torch.from_numpy(np.array(pixels, "float64")).permute(0, 3, 1, 2)
        with torch.no_grad():
            maps = self.plain(x) if self.kind in ("beit", "deit") else self.windowed(x)
            y = self.decode(maps)
        return (y.relu() if last_relu else y).numpy()

    # --- layers ---

    def linear(self, x, name):
        y = x @ self.w[f"{name}.weight"].T
        return y + self.w[f"{name}.bias"] if f"{name}.bias" in self.w else y

    def norm(self, x, name):
        epsilon = 1e-5 if self.kind.startswith("swin") else 1e-6
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + epsilon).sqrt()
        return x * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def conv(self, x, name, stride=1, padding=0):
        import torch.nn.functional as F

        return F.conv2d(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"), stride, padding)

    def mlp(self, x, name):
        import torch

        form = "tanh" if self.mistake == "tanh GELU" else "none"
        x = torch.nn.functional.gelu(self.linear(x, f"{name}.fc1"), approximate=form)
        return self.linear(x, f"{name}.fc2")

    def qkv(self, x, name, heads):
        """Queries, keys and values, each `(B, N, T, d)`."""
        import torch

        y = self.linear(x, f"{name}.qkv")
        if f"{name}.q_bias" in self.w:
            query, value = self.w[f"{name}.q_bias"], self.w[f"{name}.v_bias"]
            query = torch.zeros_like(query) if self.mistake == "no query bias" else query
            key = value if self.mistake == "a key bias" else torch.zeros_like(query)
            y = y + torch.cat((query, key, value))
        return y.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)

    def joined(self, weights, value, name):
        return self.linear((weights @ value).transpose(1, 2).flatten(2), f"{name}.proj")

    # --- BEiT and DeiT ---

    def plain(self, x):
        import torch
        import torch.nn.functional as F

        w, root = self.w, "pretrained.model."
        x = F.conv2d(x, w[root + "patch_embed.proj.weight"], w[root + "patch_embed.proj.bias"], 16)
        height, width = x.shape[-2:]
        x = x.flatten(2).transpose(1, 2)
        first = [w[root + "cls_token"].expand(len(x), -1, -1)]
        if self.kind == "deit":
            first.append(w[root + "dist_token"].expand(len(x), -1, -1))
        if self.mistake == "tokens in the other order":
            first.reverse()
        count = len(first)
        x = torch.cat((*first, x), dim=1)
        if self.kind == "deit":
            table = w[root + "pos_embed"]
            skip = 1 if self.mistake == "positions of the patches shifted" else 2
            grid = (
                table[0, skip : skip + GRID * GRID].reshape(GRID, GRID, -1).permute(2, 0, 1)[None]
            )
            grid = interpolated(grid, (height, width), False).flatten(2).transpose(1, 2)
            x = x + torch.cat((table[:, :2], grid), dim=1)
        maps = []
        for i in range(BLOCKS):
            name = f"{root}blocks.{i}"
            one, two = (w.get(f"{name}.gamma_{m}", 1.0) for m in (1, 2))
            if self.mistake == "no LayerScale":
                one = two = 1.0
            query, key, value = self.qkv(self.norm(x, f"{name}.norm1"), f"{name}.attn", HEADS)
            scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
            if self.kind == "beit" and self.mistake != "no biases":
                scores = scores + self.biases(f"{name}.attn", height, width)
            x = x + one * self.joined(scores.softmax(-1), value, f"{name}.attn")
            x = x + two * self.mlp(self.norm(x, f"{name}.norm2"), f"{name}.mlp")
            if i in TAPS:
                token = x[:, 0]
                if self.mistake == "distillation token read":
                    token = x[:, 1]
                elif self.mistake == "mean of both tokens read":
                    token = x[:, :2].mean(1)
                maps.append(self.reassemble(x[:, count:], token, (height, width), len(maps) + 1))
        return maps

    def biases(self, name, height, width):
        """`(N, T, T)`, one pair of tokens at a time."""
        import torch
        import torch.nn.functional as F

        table = self.w[f"{name}.relative_position_bias_table"]
        old = 2 * GRID - 1
        image = table[: old * old].T.reshape(1, -1, old, old)
        options = {
            "biases bicubic": {"mode": "bicubic", "align_corners": False},
            "biases with corners aligned": {"mode": "bilinear", "align_corners": True},
            "biases antialiased": {"mode": "bilinear", "antialias": True},
            "biases nearest": {"mode": "nearest"},
        }.get(self.mistake, {"mode": "bilinear", "align_corners": False})
        image = F.interpolate(image, (2 * height - 1, 2 * width - 1), **options)[0]
        cells = [(y, x) for y in range(height) for x in range(width)]
        sign = -1 if self.mistake == "offsets of the other sign" else 1
        bias = torch.empty(len(image), 1 + len(cells), 1 + len(cells), dtype=table.dtype)
        from_class, to_class, own = table[old * old :]
        if self.mistake == "class rows swapped":
            from_class, to_class = to_class, from_class
        bias[:, 0, :], bias[:, :, 0] = from_class[:, None], to_class[:, None]
        bias[:, 0, 0] = own
        for i, query in enumerate(cells):
            for j, key in enumerate(cells):
                y, x = (sign * (a - b) for a, b in zip(query, key, strict=True))
                bias[:, 1 + i, 1 + j] = image[:, y + height - 1, x + width - 1]
        return bias

    def reassemble(self, x, token, grid, n):
        import torch
        import torch.nn.functional as F

        name = f"pretrained.act_postprocess{n}"
        parts = x, token[:, None].expand_as(x)
        parts = parts[::-1] if self.mistake == "halves of the readout swapped" else parts
        x = F.gelu(self.linear(torch.cat(parts, -1), f"{name}.0.project.0"))
        x = self.conv(x.transpose(1, 2).unflatten(2, grid), f"{name}.3")
        if n < 3:
            weight, bias = self.w[f"{name}.4.weight"], self.w[f"{name}.4.bias"]
            return F.conv_transpose2d(x, weight, bias, stride=weight.shape[-1])
        return x if n == 3 else self.conv(x, f"{name}.4", 2, 1)

    # --- Swin and Swin2 ---

    def windowed(self, x):
        root = "pretrained.model."
        x = self.conv(x, root + "patch_embed.proj", 4).permute(0, 2, 3, 1)
        x = self.norm(x, root + "patch_embed.norm")
        maps = []
        for s, depth in enumerate(SWIN["depths"]):
            for j in range(depth):
                x = self.block(x, s, f"{root}layers.{s}.blocks.{j}", SHIFTS[s] if j % 2 else 0)
            tap = self.norm(x, root + "norm") if self.mistake == "final norm" and s == 3 else x
            maps.append(tap.permute(0, 3, 1, 2))
            if s < 3:
                x = self.merge(x, f"{root}layers.{s}.downsample")
        return maps

    def merge(self, x, name):
        import torch

        order = ((0, 0), (1, 0), (0, 1), (1, 1))
        order = sorted(order) if self.mistake == "merged row by row" else order
        x = torch.cat([x[:, row::2, column::2] for row, column in order], dim=-1)
        if self.kind == "swin" and self.mistake != "norm after the reduction":
            return self.linear(self.norm(x, f"{name}.norm"), f"{name}.reduction")
        if self.kind == "swin":
            gain = self.w[f"{name}.norm.weight"][: x.shape[-1] // 2]
            x = self.linear(x, f"{name}.reduction")
            return (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True) * gain
        if self.mistake == "norm before the reduction":
            x = (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)
            return self.linear(x, f"{name}.reduction")
        return self.norm(self.linear(x, f"{name}.reduction"), f"{name}.norm")

    def block(self, x, s, name, shift):
        before = self.kind == "swin" or self.mistake == "norm before the branch"
        if before:
            x = x + self.attend(self.norm(x, f"{name}.norm1"), s, f"{name}.attn", shift)
            return x + self.mlp(self.norm(x, f"{name}.norm2"), f"{name}.mlp")
        x = x + self.norm(self.attend(x, s, f"{name}.attn", shift), f"{name}.norm1")
        return x + self.norm(self.mlp(x, f"{name}.mlp"), f"{name}.norm2")

    def attend(self, x, s, name, shift):
        """Attention of each cell to those of its window, in a shifted frame and back."""
        import torch

        side, window, heads = x.shape[1], WINDOWS[s], SWIN["heads"][s]
        shift = 0 if self.mistake == "no shift" else shift
        x = x.roll((-shift, -shift), (1, 2))
        # Where each cell of the frame comes from: cells that the roll brought together are apart.
        zone = torch.zeros(side, dtype=torch.long)
        if shift and self.mistake != "no mask":
            zone[side - window :], zone[side - shift :] = 1, 2
        result = torch.empty_like(x)
        bias = self.window_biases(s, name)
        for top in range(0, side, window):
            for left in range(0, side, window):
                rows, columns = slice(top, top + window), slice(left, left + window)
                tokens = x[:, rows, columns].flatten(1, 2)
                zones = (3 * zone[rows, None] + zone[None, columns]).flatten()
                query, key, value = self.qkv(tokens, name, heads)
                scores = self.scores(query, key, name) + bias
                scores = scores - 100.0 * (zones[:, None] != zones[None])
                y = self.joined(scores.softmax(-1), value, name)
                result[:, rows, columns] = y.unflatten(1, (window, window))
        return result.roll((shift, shift), (1, 2))

    def scores(self, query, key, name):
        import torch.nn.functional as F

        scale = query.shape[-1] ** -0.5
        if self.kind == "swin":
            return query @ key.transpose(-1, -2) * scale
        logit = self.w[f"{name}.logit_scale"]
        logit = logit if self.mistake == "scale not clamped" else logit.clamp(max=math.log(100))
        scale = scale if self.mistake == "scale by the root of the width" else 1.0
        cosine = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-1, -2)
        return cosine * logit.exp() * scale

    def window_biases(self, s, name):
        """`(N, T, T)`."""
        import torch

        window = WINDOWS[s]
        cells = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        apart = cells[:, None] - cells[None]
        if self.kind == "swin":
            index = (apart[..., 0] + window - 1) * (2 * window - 1) + apart[..., 1] + window - 1
            return self.w[f"{name}.relative_position_bias_table"][index].permute(2, 0, 1)
        pretrained = PRETRAINED[s]
        if self.mistake == "pretrained with its own windows":
            pretrained = window
        elif self.mistake == "pretrained with one window for all":
            pretrained = PRETRAINED[0]
        offsets = 8 * apart.double() / (pretrained - 1)
        offsets = offsets.flip(-1) if self.mistake == "columns before rows" else offsets
        offsets = offsets.sign() * (offsets.abs() + 1).log2() / 3
        bias = self.linear(self.linear(offsets, f"{name}.cpb_mlp.0").relu(), f"{name}.cpb_mlp.2")
        return 16 * bias.sigmoid().permute(2, 0, 1)

    # --- decoder ---

    def unit(self, x, name):
        y = self.conv(x.relu(), f"{name}.conv1", padding=1)
        return x + self.conv(y.relu(), f"{name}.conv2", padding=1)

    def decode(self, maps):
        maps = [self.conv(x, f"scratch.layer{n}_rn", padding=1) for n, x in enumerate(maps, 1)]
        x = None
        for n in (4, 3, 2, 1):
            name, skip = f"scratch.refinenet{n}", maps[n - 1]
            if x is None:
                x = skip
            else:
                if x.shape != skip.shape:
                    skip = interpolated(skip, x.shape[-2:], False)
                x = x + self.unit(skip, f"{name}.resConfUnit1")
            x = self.unit(x, f"{name}.resConfUnit2")
            goal = [2 * side for side in x.shape[-2:]]
            if n > 1:
                goal = maps[n - 2].shape[-2:]
            x = self.conv(interpolated(x, goal, True), f"{name}.out_conv")
        x = self.conv(x, "scratch.output_conv.0", padding=1)
        aligned = self.mistake != "head corners not aligned"
        x = interpolated(x, [2 * side for side in x.shape[-2:]], aligned)
        x = self.conv(x, "scratch.output_conv.2", padding=1).relu()
        return self.conv(x, "scratch.output_conv.4")[:, 0]


def interpolated(x, size, aligned):
    """Bilinear, in float64."""
    import torch.nn.functional as F

    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=aligned)


def picture(height, width, batch=2, seed=0):
    """`(batch, height, width, 3)` float32: patches and grain."""
    rng = np.random.default_rng([seed, height, width])
    coarse = rng.uniform(-0.8, 0.8, (batch, height // 8, width // 8, 3))
    fine = rng.uniform(-0.2, 0.2, (batch, height, width, 3))
    return (coarse.repeat(8, axis=1).repeat(8, axis=2) + fine).astype("float32")


def calibrated(kind, found):
    """Tensors whose last layer spreads the output: a mean of 0.7 std, so that a ReLU cuts some."""
    side = SWIN["side"] if kind.startswith("swin") else PATCH * GRID
    raw = Network(kind, found)(picture(side, side, seed=9), last_relu=False)
    weight, bias = "scratch.output_conv.4.weight", "scratch.output_conv.4.bias"
    gain = 1 / raw.std()
    shift = 0.7 + gain * (found[bias] - raw.mean())
    return found | {
        weight: (gain * found[weight]).astype("float32"),
        bias: shift.astype("float32"),
    }
