"""References for MiDaS 2.1 and its small version, in plain torch functions on the authors' names.

Nothing here is shared with keras_dpt. `mistake` makes one of the errors that facts about these
networks warn of, so that tests can show that they would notice it.
"""

import math
import zlib

import numpy as np

DEPTHS, WIDTHS, GROUPS = (2, 2, 3, 2), (16, 24, 32, 40), 4
STEM = 8
INNER = None  # widths within the blocks of "v21", those of its stages if not set
FUSED = {"v21": (16,) * 4, "small": (8, 12, 16, 20)}
# Where each stage of the small one is stored, its kernel, stride, blocks and width.
LITE = (
    ("layer1.3", 3, 1, 1, 6),
    ("layer1.4", 3, 2, 2, 8),
    ("layer2.0", 5, 2, 2, 12),
    ("layer3.0", 3, 2, 2, 14),
    ("layer3.1", 5, 1, 2, 16),
    ("layer4.0", 5, 2, 2, 20),
    ("layer4.1", 3, 1, 1, 24),
)
TAPPED = (1, 2, 4, 6)
MISTAKES = {
    "v21": (
        "convolutions padded as SAME",
        "pool padded as SAME",
        "stride in the first convolution",
        "shortcut not rectified",
        "head with corners aligned",
        "fusion without corners aligned",
        "epsilon 1e-3",
        "one group",
    ),
    "small": (
        "symmetric padding",
        "plain ReLU",
        "epsilon 1e-5",
        "shortcut rectified",
        "head with corners aligned",
        "activation after the block",
    ),
}


def shapes(kind):
    """`{tensor name: shape}` of a small network, "v21" or "small"."""
    found = {}

    def layer(name, *shape, bias=True):
        found[f"{name}.weight"] = shape
        if bias:
            found[f"{name}.bias"] = shape[:1]

    def norm(name, width):
        layer(name, width)
        found[f"{name}.running_mean"] = found[f"{name}.running_var"] = (width,)

    root = "pretrained."
    layer(root + "layer1.0", STEM, 3, *((7, 7) if kind == "v21" else (3, 3)), bias=False)
    norm(root + "layer1.1", STEM)
    if kind == "v21":
        before = STEM
        for s, (depth, width) in enumerate(zip(DEPTHS, WIDTHS, strict=True)):
            for j in range(depth):
                block = root + ("layer1.4." if s == 0 else f"layer{s + 1}.") + str(j)
                inner = INNER[s] if INNER else width
                layer(f"{block}.conv1", inner, before, 1, 1, bias=False)
                layer(f"{block}.conv2", inner, inner // GROUPS, 3, 3, bias=False)
                layer(f"{block}.conv3", width, inner, 1, 1, bias=False)
                for k, size in enumerate((inner, inner, width), 1):
                    norm(f"{block}.bn{k}", size)
                if j == 0:
                    layer(f"{block}.downsample.0", width, before, 1, 1, bias=False)
                    norm(f"{block}.downsample.1", width)
                before = width
        widths = WIDTHS
    else:
        before = STEM
        for s, (place, kernel, _, depth, width) in enumerate(LITE):
            for j in range(depth):
                block, inner = f"{root}{place}.{j}", before if s == 0 else 6 * before
                if s:
                    layer(f"{block}.conv_pw", inner, before, 1, 1, bias=False)
                layer(f"{block}.conv_dw", inner, 1, kernel, kernel, bias=False)
                name = "conv_pwl" if s else "conv_pw"
                layer(f"{block}.{name}", width, inner, 1, 1, bias=False)
                sizes = (inner, inner, width) if s else (inner, width)
                for k, size in enumerate(sizes, 1):
                    norm(f"{block}.bn{k}", size)
                before = width
        widths = [LITE[s][-1] for s in TAPPED]
    fused = FUSED[kind]
    for n, width in enumerate(widths, 1):
        here = fused[n - 1]
        layer(f"scratch.layer{n}_rn", here, width, 3, 3, bias=False)
        for unit in (1, 2):
            for conv in (1, 2):
                layer(f"scratch.refinenet{n}.resConfUnit{unit}.conv{conv}", here, here, 3, 3)
        if kind == "small":
            layer(f"scratch.refinenet{n}.out_conv", fused[max(n - 2, 0)], here, 1, 1)
    layer("scratch.output_conv.0", fused[0] // 2, fused[0], 3, 3)
    layer("scratch.output_conv.2", 32, fused[0] // 2, 3, 3)
    layer("scratch.output_conv.4", 1, 32, 1, 1)
    return found


def tensors(found, seed=0):
    """Random float32 arrays of these shapes; some activations of the small one exceed 6."""
    result = {}
    for name, shape in found.items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        if name.endswith("running_var"):
            value = rng.uniform(0.3, 2, shape)
        elif name.endswith("running_mean"):
            value = rng.normal(0, 0.2, shape)
        elif len(shape) == 1 and name.endswith("weight"):
            value = rng.uniform(0.5, 1.5, shape) * (
                2.5 if ".conv_" in name or "layer" in name else 1
            )
            # The last norm of a residual branch is small in trained networks; else rounding grows.
            value *= 0.2 if name.endswith("bn3.weight") else 1
        elif len(shape) == 1:
            value = rng.normal(0, 0.2, shape)
        else:
            value = rng.normal(0, math.prod(shape[1:]) ** -0.5, shape)
        result[name] = value.astype("float32")
    return result


class Network:
    """One network: its tensors in float64, and what it makes of pictures."""

    def __init__(self, kind, tensors, mistake=None):
        import torch

        self.kind, self.mistake = kind, mistake
        self.w = {n: torch.from_numpy(np.array(x, "float64")) for n, x in tensors.items()}

    def __call__(self, pixels, last_relu=True):
        """Inverse depth `(B, H, W)` float64 of normalised pixels `(B, H, W, 3)`."""
        import torch

        x = torch.from_numpy(np.array(pixels, "float64")).permute(0, 3, 1, 2)
        with torch.no_grad():
            y = self.decode(self.resnext(x) if self.kind == "v21" else self.lite(x))
        return (y.relu() if last_relu else y).numpy()

    def conv(self, x, name, stride=1, groups=1, same=False):
        """Symmetric padding of half a kernel, or TensorFlow's SAME."""
        import torch.nn.functional as F

        weight, bias = self.w[f"{name}.weight"], self.w.get(f"{name}.bias")
        size = weight.shape[-1]
        if not same:
            return F.conv2d(x, weight, bias, stride, size // 2, 1, groups)
        pads = []
        for side in (x.shape[-1], x.shape[-2]):
            total = max(size - (stride if side % stride == 0 else side % stride), 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), weight, bias, stride, 0, 1, groups)

    def norm(self, x, name):
        epsilon = {"v21": 1e-5, "small": 1e-3}[self.kind]
        epsilon = {"epsilon 1e-3": 1e-3, "epsilon 1e-5": 1e-5}.get(self.mistake, epsilon)
        mean, variance, gain, shift = (
            self.w[f"{name}.{leaf}"][:, None, None]
            for leaf in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + epsilon).sqrt() * gain + shift

    def resnext(self, x):
        import torch.nn.functional as F

        same = self.mistake == "convolutions padded as SAME"
        x = self.norm(self.conv(x, "pretrained.layer1.0", 2, same=same), "pretrained.layer1.1")
        x = x.relu()
        if self.mistake == "pool padded as SAME":
            x = F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2)
        else:
            x = F.max_pool2d(x, 3, 2, 1)
        maps = []
        for s, depth in enumerate(DEPTHS):
            for j in range(depth):
                block = "pretrained." + ("layer1.4." if s == 0 else f"layer{s + 1}.") + str(j)
                stride = 2 if s and not j else 1
                first = self.mistake == "stride in the first convolution"
                strides = (stride, 1) if first else (1, stride)
                y = self.norm(self.conv(x, f"{block}.conv1", strides[0]), f"{block}.bn1").relu()
                if self.mistake == "one group":
                    y = y.roll(1, 1)
                y = self.conv(y, f"{block}.conv2", strides[1], GROUPS, same)
                y = self.norm(y, f"{block}.bn2").relu()
                y = self.norm(self.conv(y, f"{block}.conv3"), f"{block}.bn3")
                if j == 0:
                    x = self.norm(
                        self.conv(x, f"{block}.downsample.0", stride), f"{block}.downsample.1"
                    )
                x = (x + y).relu()
            maps.append(x)
        return maps

    def lite(self, x):
        def act(x):
            return x.relu() if self.mistake == "plain ReLU" else x.clamp(0, 6)

        same = self.mistake != "symmetric padding"
        x = self.conv(x, "pretrained.layer1.0", 2, same=same)
        x = act(self.norm(x, "pretrained.layer1.1"))
        stages = []
        for s, (place, _, stride, depth, _) in enumerate(LITE):
            for j in range(depth):
                block, y = f"pretrained.{place}.{j}", x
                step, number = 1 if j else stride, 1
                if s:
                    y = act(self.norm(self.conv(y, f"{block}.conv_pw"), f"{block}.bn1"))
                    number = 2
                y = self.conv(y, f"{block}.conv_dw", step, y.shape[1], same)
                y = act(self.norm(y, f"{block}.bn{number}"))
                y = self.conv(y, f"{block}.conv_pwl" if s else f"{block}.conv_pw")
                y = self.norm(y, f"{block}.bn{number + 1}")
                y = act(y) if self.mistake == "activation after the block" else y
                x = x + y if step == 1 and x.shape == y.shape else y
            stages.append(x)
        return [stages[s] for s in TAPPED]

    def unit(self, x, name):
        rectified = self.kind == "v21"
        if self.mistake in ("shortcut not rectified", "shortcut rectified"):
            rectified = not rectified
        y = self.conv(self.conv(x.relu(), f"{name}.conv1").relu(), f"{name}.conv2")
        return y + (x.relu() if rectified else x)

    def decode(self, maps):
        import torch.nn.functional as F

        def doubled(x, aligned):
            return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=aligned)

        x = None
        for n in (4, 3, 2, 1):
            name = f"scratch.refinenet{n}"
            skip = self.conv(maps[n - 1], f"scratch.layer{n}_rn")
            x = skip if x is None else x + self.unit(skip, f"{name}.resConfUnit1")
            x = self.unit(x, f"{name}.resConfUnit2")
            x = doubled(x, self.mistake != "fusion without corners aligned")
            x = self.conv(x, f"{name}.out_conv") if self.kind == "small" else x
        x = self.conv(x, "scratch.output_conv.0")
        x = doubled(x, self.mistake == "head with corners aligned")
        x = self.conv(x, "scratch.output_conv.2").relu()
        return self.conv(x, "scratch.output_conv.4")[:, 0]


def calibrated(kind, found, picture):
    """Tensors whose last layer spreads the output: a mean of 0.7 std, so that a ReLU cuts some."""
    raw = Network(kind, found)(picture, last_relu=False)
    weight, bias = "scratch.output_conv.4.weight", "scratch.output_conv.4.bias"
    gain = 1 / raw.std()
    shift = 0.7 + gain * (found[bias] - raw.mean())
    return found | {
        weight: (gain * found[weight]).astype("float32"),
        bias: shift.astype("float32"),
    }
