"""References for networks on DINOv2, in plain torch functions on the authors' tensor names.

Nothing here is shared with keras_dpt or transformers. `mistake` makes one of the errors that facts
about these networks warn of, so that tests can show that they would notice it.
"""

import math
import zlib

import numpy as np

DIM, HEADS, BLOCKS, GRID, PATCH = 48, 3, 6, 4, 14
TAPS = {"v1": (2, 3, 4, 5), "v2": (0, 2, 3, 5)}
WIDTHS, FUSED = (12, 16, 20, 24), 16

MISTAKES = (
    "taps of V1",
    "taps without the final norm",
    "taps one block early",
    "no LayerScale",
    "queries and keys swapped",
    "no offset",
    "positions with a = -0.5",
    "positions bilinear",
    "positions antialiased",
    "positions transposed",
    "fusion by doubling",
    "level 4 padded as SAME",
    "fusion corners not aligned",
    "head corners not aligned",
    "head doubled first",
    "level 4 with its skip unit",
    "no last ReLU",
    "epsilon of Keras",
    "tanh GELU",
)
DEPTHER_MISTAKES = (
    "taps with the final norm",
    "readout halves swapped",
    "no offset",
    "no clamp",
    "no 0.001",
    "last resize with corners aligned",
    "resize before the clamp",
    "no ReLU after the projection",
    "fusion to the skip's size",
)


def shapes(depther=False, swiglu=False, registers=0):
    """`{tensor name: shape}` of a small network with its authors' names."""
    d, found = DIM, {}

    def layer(name, *shape, bias=True):
        found[f"{name}.weight"] = shape
        if bias:
            found[f"{name}.bias"] = shape[:1] if "resize_layers" not in name else (shape[0],)

    root = "backbone." if depther else "pretrained."
    found[root + "cls_token"] = (1, 1, d)
    found[root + "pos_embed"] = (1, 1 + GRID * GRID, d)
    if registers:
        found[root + "register_tokens"] = (1, registers, d)
    found[root + "mask_token"] = (1, d)
    layer(root + "patch_embed.proj", d, 3, PATCH, PATCH)
    for i in range(BLOCKS):
        block = f"{root}blocks.{i}."
        layer(block + "norm1", d)
        layer(block + "attn.qkv", 3 * d, d)
        layer(block + "attn.proj", d, d)
        found[block + "ls1.gamma"] = found[block + "ls2.gamma"] = (d,)
        layer(block + "norm2", d)
        if swiglu:
            layer(block + "mlp.w12", 128, d)
            layer(block + "mlp.w3", d, 64)
        else:
            layer(block + "mlp.fc1", 4 * d, d)
            layer(block + "mlp.fc2", d, 4 * d)
    layer(root + "norm", d)
    head = "decode_head.reassemble_blocks." if depther else "depth_head."
    for n, width in enumerate(WIDTHS):
        layer(f"{head}projects.{n}" + (".conv" if depther else ""), width, d, 1, 1)
        if depther:
            layer(f"{head}readout_projects.{n}.0", d, 2 * d)
    for n, side in ((0, 4), (1, 2), (3, 3)):
        layer(f"{head}resize_layers.{n}", WIDTHS[n], WIDTHS[n], side, side)
    if depther:
        for n, width in enumerate(WIDTHS):
            layer(f"decode_head.convs.{n}.conv", FUSED, width, 3, 3, bias=False)
        for j in range(4):
            for unit in (1, 2) if j else (2,):
                for conv in (1, 2):
                    name = f"decode_head.fusion_blocks.{j}.res_conv_unit{unit}.conv{conv}.conv"
                    layer(name, FUSED, FUSED, 3, 3, bias=False)
            layer(f"decode_head.fusion_blocks.{j}.project.conv", FUSED, FUSED, 1, 1)
        layer("decode_head.project.conv", FUSED, FUSED, 3, 3)
        layer("decode_head.conv_depth.head.0", FUSED // 2, FUSED, 3, 3)
        layer("decode_head.conv_depth.head.2", 32, FUSED // 2, 3, 3)
        layer("decode_head.conv_depth.head.4", 1, 32, 1, 1)
    else:
        for n, width in enumerate(WIDTHS, 1):
            layer(f"depth_head.scratch.layer{n}_rn", FUSED, width, 3, 3, bias=False)
            for unit in (1, 2):
                for conv in (1, 2):
                    name = f"depth_head.scratch.refinenet{n}.resConfUnit{unit}.conv{conv}"
                    layer(name, FUSED, FUSED, 3, 3)
            layer(f"depth_head.scratch.refinenet{n}.out_conv", FUSED, FUSED, 1, 1)
        layer("depth_head.scratch.output_conv1", FUSED // 2, FUSED, 3, 3)
        layer("depth_head.scratch.output_conv2.0", 32, FUSED // 2, 3, 3)
        layer("depth_head.scratch.output_conv2.2", 1, 32, 1, 1)
    return found


def tensors(found, seed=0):
    """Random float32 arrays of these shapes; LayerScale and norms are far from 1."""
    result = {}
    for name, shape in found.items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        if name.endswith(("gamma", "lambda1")):
            value = rng.uniform(0.2, 1.8, shape) * rng.choice([-1, 1], shape)
        elif len(shape) == 1 and name.endswith("weight"):
            value = rng.uniform(0.5, 1.5, shape)
        elif len(shape) == 1:
            value = rng.normal(0, 0.2, shape)
        elif "token" in name or "pos" in name:
            value = rng.normal(0, 0.5, shape)
        else:
            transposed = "resize" in name and shape[-1] in (2, 4)
            fan_in = shape[0] if transposed else math.prod(shape[1:])
            value = rng.normal(0, fan_in**-0.5, shape)
        result[name] = value.astype("float32")
    return result


def picture(height, width, batch=2, seed=0):
    """`(batch, height, width, 3)` float32: patches and grain."""
    rng = np.random.default_rng([seed, height, width])
    coarse = rng.uniform(-1.5, 1.5, (batch, height // 7, width // 7, 3))
    fine = rng.uniform(-0.5, 0.5, (batch, height, width, 3))
    return (coarse.repeat(7, axis=1).repeat(7, axis=2) + fine).astype("float32")


class Network:
    """One network: its tensors in float64, and what it makes of pictures.

    Args:
        tensors: `{name: array}`. heads: of the attention. taps: blocks, 0-based.
        offset: of resized positions. max_depth: of the metric sigmoid; `None`: relative.
        depther: the range `(min, max)` of a DINOv2 depther; `None` for Depth Anything.
        final_norm: whether taps are normalised. mistake: one of `MISTAKES`, `DEPTHER_MISTAKES`.
        antialias: of resized positions, as in the authors' backbones with registers.
    """

    def __init__(
        self,
        tensors,
        heads=HEADS,
        taps=TAPS["v2"],
        offset=0.1,
        max_depth=None,
        depther=None,
        mistake=None,
        antialias=False,
    ):
        import torch

        self.w = {n: torch.from_numpy(np.array(x, "float64")) for n, x in tensors.items()}
        self.root = "backbone." if depther else "pretrained."
        self.heads, self.taps, self.offset = heads, taps, offset
        self.max_depth, self.depther, self.mistake = max_depth, depther, mistake
        self.antialias = antialias
        if mistake == "taps of V1":
            self.taps = TAPS["v1"]
        elif mistake == "taps one block early":
            self.taps = [max(tap - 1, 0) for tap in taps]
        elif mistake == "no offset":
            self.offset = 0.0

    def __call__(self, pixels):
        """Depth `(B, H, W)` float64 of normalised pixels `(B, H, W, 3)`."""
        import torch

        x = torch.from_numpy(np.array(pixels, "float64")).permute(0, 3, 1, 2)
        with torch.no_grad():
            taps = self.encode(x)
            decode = self.decode_depther if self.depther else self.decode
            return decode(taps, x.shape[-2:]).numpy()

    # --- encoder ---

    def linear(self, x, name):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def norm(self, x, name):
        epsilon = {"epsilon of Keras": 1e-3, "epsilon 1e-5": 1e-5}.get(self.mistake, 1e-6)
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + epsilon).sqrt()
        return x * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def gelu(self, x):
        import torch

        kind = "tanh" if self.mistake == "tanh GELU" else "none"
        return torch.nn.functional.gelu(x, approximate=kind)

    def positions(self, height, width):
        import torch

        table = self.w[self.root + "pos_embed"]
        side = math.isqrt(table.shape[1] - 1)
        if (height, width) == (side, side):
            return table
        grid = table[0, 1:].reshape(side, side, -1).permute(2, 0, 1)[None]
        if self.mistake == "positions transposed":
            grid = grid.transpose(2, 3)
        factors = (height + self.offset) / side, (width + self.offset) / side
        options = {"mode": "bicubic", "scale_factor": factors, "recompute_scale_factor": False}
        options["antialias"] = self.antialias
        if self.mistake == "positions bilinear":
            options["mode"] = "bilinear"
        elif self.mistake == "positions antialiased":
            options["antialias"] = True
        if self.mistake == "positions with a = -0.5":
            grid = _cubic(_cubic(grid, height, self.offset, 2), width, self.offset, 3)
        else:
            grid = torch.nn.functional.interpolate(grid, **options)
        assert grid.shape[-2:] == (height, width)
        return torch.cat((table[:, :1], grid.flatten(2).transpose(1, 2)), dim=1)

    def attention(self, x, name):
        qkv = self.linear(x, f"{name}.qkv").unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        if self.mistake == "queries and keys swapped":
            q, k = k, q
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        return self.linear((weights @ v).transpose(1, 2).flatten(2), f"{name}.proj")

    def feed_forward(self, x, name):
        import torch

        if f"{name}.w12.weight" in self.w:
            gate, value = self.linear(x, f"{name}.w12").chunk(2, dim=-1)
            return self.linear(torch.nn.functional.silu(gate) * value, f"{name}.w3")
        return self.linear(self.gelu(self.linear(x, f"{name}.fc1")), f"{name}.fc2")

    def encode(self, x):
        """`(class token (B, D), map (B, D, h, w))` of each tap."""
        import torch
        import torch.nn.functional as F

        w, root = self.w, self.root
        x = F.conv2d(x, w[root + "patch_embed.proj.weight"], w[root + "patch_embed.proj.bias"], 14)
        height, width = x.shape[-2:]
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat((w[root + "cls_token"].expand(len(x), -1, -1), x), dim=1)
        x = x + self.positions(height, width)
        registers = w.get(root + "register_tokens", x[:1, :0])
        x = torch.cat((x[:, :1], registers.expand(len(x), -1, -1), x[:, 1:]), dim=1)
        normed = (self.depther is None) != (self.mistake in _WRONG_NORM)
        taps = {}
        for i in range(max(self.taps) + 1):
            name = f"{root}blocks.{i}"
            scale1, scale2 = (w[f"{name}.ls{m}.gamma"] for m in (1, 2))
            if self.mistake == "no LayerScale":
                scale1 = scale2 = 1.0
            x = x + scale1 * self.attention(self.norm(x, f"{name}.norm1"), f"{name}.attn")
            x = x + scale2 * self.feed_forward(self.norm(x, f"{name}.norm2"), f"{name}.mlp")
            tap = self.norm(x, root + "norm") if normed else x
            grid = tap[:, 1 + registers.shape[1] :].transpose(1, 2).unflatten(2, (height, width))
            taps[i] = tap[:, 0], grid
        return [taps[i] for i in self.taps]

    # --- decoders ---

    def conv(self, x, name, stride=1, padding=0):
        import torch.nn.functional as F

        return F.conv2d(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"), stride, padding)

    def resized(self, x, level, name):
        """A reassembled map on its level; `level` from 0."""
        import torch.nn.functional as F

        if level < 2:
            w = self.w
            return F.conv_transpose2d(
                x, w[f"{name}.weight"], w[f"{name}.bias"], stride=(4, 2)[level]
            )
        if level == 2:
            return x
        if self.mistake == "level 4 padded as SAME":
            rows, columns = ((1, 1) if side % 2 else (0, 1) for side in x.shape[-2:])
            return self.conv(F.pad(x, (*columns, *rows)), name, 2)
        return self.conv(x, name, 2, 1)

    def unit(self, x, name, suffix=""):
        y = self.conv(x.relu(), f"{name}.conv1{suffix}", padding=1)
        return x + self.conv(y.relu(), f"{name}.conv2{suffix}", padding=1)

    def decode(self, taps, size):
        root = "depth_head.scratch."
        maps = []
        for n, (_, x) in enumerate(taps):
            x = self.conv(x, f"depth_head.projects.{n}")
            x = self.resized(x, n, f"depth_head.resize_layers.{n}")
            maps.append(self.conv(x, f"{root}layer{n + 1}_rn", padding=1))
        aligned = self.mistake != "fusion corners not aligned"
        x = None
        for n in (4, 3, 2, 1):
            name, skip = f"{root}refinenet{n}", maps[n - 1]
            if x is None:
                x = skip
                if self.mistake == "level 4 with its skip unit":
                    x = self.unit(x, f"{name}.resConfUnit1")
            else:
                if skip.shape != x.shape:
                    skip = interpolated(skip, x.shape[-2:], False)
                x = x + self.unit(skip, f"{name}.resConfUnit1")
            x = self.unit(x, f"{name}.resConfUnit2")
            goal = [2 * side for side in x.shape[-2:]]
            if n > 1 and self.mistake != "fusion by doubling":
                goal = maps[n - 2].shape[-2:]
            x = self.conv(interpolated(x, goal, aligned), f"{name}.out_conv")
        x = self.conv(x, f"{root}output_conv1", padding=1)
        if self.mistake == "head doubled first":
            x = interpolated(x, [2 * side for side in x.shape[-2:]], True)
        x = interpolated(x, size, self.mistake != "head corners not aligned")
        x = self.conv(x, f"{root}output_conv2.0", padding=1).relu()
        x = self.conv(x, f"{root}output_conv2.2")[:, 0]
        if self.max_depth:
            return self.max_depth * x.sigmoid()
        return x if self.mistake == "no last ReLU" else x.relu()

    def decode_depther(self, taps, size):
        import torch

        root = "decode_head."
        blocks = root + "reassemble_blocks."
        maps = []
        for n, (token, x) in enumerate(taps):
            grid = x.shape[-2:]
            x = x.flatten(2).transpose(1, 2)
            parts = x, token[:, None].expand_as(x)
            parts = parts[::-1] if self.mistake == "readout halves swapped" else parts
            x = self.gelu(self.linear(torch.cat(parts, -1), f"{blocks}readout_projects.{n}.0"))
            x = x.transpose(1, 2).unflatten(2, grid)
            x = self.conv(x, f"{blocks}projects.{n}.conv")
            x = self.resized(x, n, f"{blocks}resize_layers.{n}")
            maps.append(self.conv(x, f"{root}convs.{n}.conv", padding=1))
        x = None
        for j, skip in enumerate(maps[::-1]):
            name = f"{root}fusion_blocks.{j}"
            if x is None:
                x = skip
            else:
                if skip.shape != x.shape:
                    skip = interpolated(skip, x.shape[-2:], False)
                x = x + self.unit(skip, f"{name}.res_conv_unit1", ".conv")
            x = self.unit(x, f"{name}.res_conv_unit2", ".conv")
            goal = [2 * side for side in x.shape[-2:]]
            if self.mistake == "fusion to the skip's size" and j < 3:
                goal = maps[2 - j].shape[-2:]
            x = self.conv(interpolated(x, goal, True), f"{name}.project.conv")
        x = self.conv(x, root + "project.conv", padding=1)
        x = x if self.mistake == "no ReLU after the projection" else x.relu()
        x = self.conv(x, root + "conv_depth.head.0", padding=1)
        x = interpolated(x, [2 * side for side in x.shape[-2:]], True)
        x = self.conv(x, root + "conv_depth.head.2", padding=1).relu()
        x = self.conv(x, root + "conv_depth.head.4").relu()
        x = x if self.mistake == "no 0.001" else x + 0.001
        aligned = self.mistake == "last resize with corners aligned"
        if self.mistake == "resize before the clamp":
            return interpolated(x, size, aligned)[:, 0].clamp(*self.depther)
        x = x if self.mistake == "no clamp" else x.clamp(*self.depther)
        return interpolated(x, size, aligned)[:, 0]


_WRONG_NORM = ("taps without the final norm", "taps with the final norm")


def interpolated(x, size, aligned):
    """Bilinear, in float64."""
    import torch.nn.functional as F

    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=aligned)


def _cubic(x, size, offset, axis):
    """Cubic with a = -0.5 along one axis."""
    import torch

    length = x.shape[axis]
    source = (torch.arange(size, dtype=torch.float64) + 0.5) * length / (size + offset) - 0.5
    total = 0
    for tap in range(-1, 3):
        index = source.floor().long() + tap
        t = (source - index).abs()
        near = 1.5 * t**3 - 2.5 * t**2 + 1
        far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
        weight = torch.where(t <= 1, near, far).reshape([-1 if i == axis else 1 for i in range(4)])
        total = total + weight * x.index_select(axis, index.clamp(0, length - 1))
    return total


def calibrated(found, network, last):
    """Tensors whose last layer spreads the output: a mean of 0.7 std, so that a ReLU cuts some.

    Args: found: `{name: array}`. network: function of tensors that makes a `Network` without its
        last activation. last: name of the last layer.
    """
    raw = network(found)(picture(4 * PATCH, 6 * PATCH, seed=9))
    weight, bias = f"{last}.weight", f"{last}.bias"
    gain = 1 / raw.std()
    shift = 0.7 + gain * (found[bias] - raw.mean())
    return found | {
        weight: (gain * found[weight]).astype("float32"),
        bias: shift.astype("float32"),
    }
