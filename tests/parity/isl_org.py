"""A second reference: isl-org names, and DPT written out from them in plain torch functions.

Nothing here is shared with transformers or keras_dpt. Resizing is a product with exact
interpolation matrices and padding is explicit, so that it also checks torch's own resizing.
"""

import re

import numpy as np

# isl-org name as a template of groups <- Hugging Face name as a pattern; first match wins.
_BLOCK = r"dpt\.encoder\.layer\.(\d+)\."
_FROM_HUGGING_FACE = [
    (r"dpt\.embeddings\.cls_token", r"pretrained.model.cls_token"),
    (r"dpt\.embeddings\.position_embeddings", r"pretrained.model.pos_embed"),
    (
        r"dpt\.embeddings\.(?:patch_embeddings\.)?projection\.(\w+)",
        r"pretrained.model.patch_embed.proj.\1",
    ),
    (
        r"dpt\.embeddings\.backbone\.bit\.embedder\.(conv|norm)(?:olution)?\.(\w+)",
        r"pretrained.model.patch_embed.backbone.stem.\1.\2",
    ),
    (
        r"dpt\.embeddings\.backbone\.bit\.encoder\.stages\.(\d)\.layers\.(\d)\.(.+)",
        r"pretrained.model.patch_embed.backbone.stages.\1.blocks.\2.\3",
    ),
    (_BLOCK + r"layernorm_before\.(\w+)", r"pretrained.model.blocks.\1.norm1.\2"),
    (_BLOCK + r"layernorm_after\.(\w+)", r"pretrained.model.blocks.\1.norm2.\2"),
    (_BLOCK + r"attention\.output\.dense\.(\w+)", r"pretrained.model.blocks.\1.attn.proj.\2"),
    (_BLOCK + r"intermediate\.dense\.(\w+)", r"pretrained.model.blocks.\1.mlp.fc1.\2"),
    (_BLOCK + r"output\.dense\.(\w+)", r"pretrained.model.blocks.\1.mlp.fc2.\2"),
    (r"dpt\.layernorm\.(\w+)", r"pretrained.model.norm.\1"),
    (
        r"neck\.reassemble_stage\.readout_projects\.(\d)\.0\.(\w+)",
        r"pretrained.act_postprocess{level}.0.project.0.\2",
    ),
    (
        r"neck\.reassemble_stage\.layers\.(\d)\.projection\.(\w+)",
        r"pretrained.act_postprocess{level}.3.\2",
    ),
    (
        r"neck\.reassemble_stage\.layers\.(\d)\.resize\.(\w+)",
        r"pretrained.act_postprocess{level}.4.\2",
    ),
    (r"neck\.convs\.(\d)\.weight", r"scratch.layer{level}_rn.weight"),
    (
        r"neck\.fusion_stage\.layers\.(\d)\.projection\.(\w+)",
        r"scratch.refinenet{reversed}.out_conv.\2",
    ),
    (
        r"neck\.fusion_stage\.layers\.(\d)\.residual_layer(\d)\.convolution(\d)\.(\w+)",
        r"scratch.refinenet{reversed}.resConfUnit\2.conv\3.\4",
    ),
    (
        r"neck\.fusion_stage\.layers\.(\d)\.residual_layer(\d)\.batch_norm(\d)\.(\w+)",
        r"scratch.refinenet{reversed}.resConfUnit\2.bn\3.\4",
    ),
    (r"head\.head\.(\d)\.(\w+)", r"scratch.output_conv.\1.\2"),
    (r"auxiliary_head\.head\.(\d)\.(\w+)", r"auxlayer.\1.\2"),
]


def isl_name(name):
    """Return the isl-org name of a Hugging Face tensor (query, key and value: see below)."""
    for pattern, template in _FROM_HUGGING_FACE:
        match = re.fullmatch(pattern, name)
        if match:
            number = int(match[1]) if match.lastindex and match[1].isdigit() else 0
            template = template.replace("{level}", str(number + 1))
            return match.expand(template.replace("{reversed}", str(4 - number)))
    raise KeyError(name)


def isl_state_dict(hugging_face, seed=0):
    """Convert a Hugging Face state dict to isl-org's names and packing.

    Args: hugging_face: name -> numpy array, all the tensors of a transformers DPT.
        seed: of the ImageNet classifier, which only isl-org's files have.
    Returns: name -> numpy array, the tensors that no model reads included.
    """
    tensors = {}
    for name, tensor in hugging_face.items():
        match = re.fullmatch(_BLOCK + r"attention\.attention\.(query|key|value)\.(\w+)", name)
        if match is None:
            tensors[isl_name(name)] = tensor
        elif match[2] == "query":
            parts = [name.replace("query", part) for part in ("query", "key", "value")]
            packed = np.concatenate([hugging_face[part] for part in parts])
            tensors[f"pretrained.model.blocks.{match[1]}.attn.qkv.{match[3]}"] = packed
    rng = np.random.default_rng(seed)
    width = tensors["pretrained.model.cls_token"].shape[-1]
    tensors["pretrained.model.head.weight"] = rng.standard_normal((1000, width), "float32")
    tensors["pretrained.model.head.bias"] = rng.standard_normal(1000, "float32")
    return tensors


def isl_forward(
    tensors,
    pixels,
    hooks,
    num_heads,
    grid=(24, 24),
    readout="project",
    num_groups=32,
    weight_standardization="std",
    epsilon=1e-6,
    dtype="float64",
):
    """Run a DPT straight from an isl-org state dict.

    Args: tensors: name -> numpy array. pixels: `(B, H, W, 3)`, sides multiples of 32.
        hooks: tapped blocks, 0-based; two of them if the ResNet is tapped, else four.
        grid: (height, width) of the stored position table. The rest as in keras_dpt.
    Returns: `(B, H, W)` array, the depth head's output after its ReLU, or logits `(B, H, W, C)`.
    """
    import torch

    w = {name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()}
    w = {name: t.to(getattr(torch, dtype)) for name, t in w.items() if t.is_floating_point()}
    x = torch.from_numpy(np.array(pixels, dtype=dtype)).permute(0, 3, 1, 2)
    with torch.no_grad():
        decoder = _Functions(w, readout, num_groups, weight_standardization, epsilon)
        taps = decoder.encode(x, hooks, num_heads, grid)
        return decoder.decode(taps).numpy()


class _Functions:
    """The pieces of `isl_forward`, around one state dict."""

    def __init__(self, w, readout, num_groups, weight_standardization, epsilon):
        self.w, self.readout, self.num_groups = w, readout, num_groups
        self.weight_standardization, self.epsilon = weight_standardization, epsilon

    def conv(self, x, name, stride=1, padding=0):
        import torch.nn.functional as F

        bias = self.w.get(f"{name}.bias")
        return F.conv2d(x, self.w[f"{name}.weight"], bias, stride, padding)

    def linear(self, x, name):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def layer_norm(self, x, name):
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + self.epsilon).sqrt()
        return x * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def standardized_conv(self, x, name, stride=1):
        """TF's SAME padding at even sizes: the odd row and column go below and to the right."""
        import torch.nn.functional as F

        kernel = self.w[f"{name}.weight"]
        kernel = kernel - kernel.mean((1, 2, 3), keepdim=True)
        variance = kernel.square().mean((1, 2, 3), keepdim=True)
        if self.weight_standardization == "std":
            kernel = kernel / (variance.sqrt() + 1e-5)
        else:
            kernel = kernel / (variance + 1e-8).sqrt()
        total = max(kernel.shape[-1] - stride, 0)
        before, after = total // 2, total - total // 2
        return F.conv2d(F.pad(x, (before, after, before, after)), kernel, stride=stride)

    def group_norm(self, x, name):
        groups = x.reshape(len(x), self.num_groups, -1)
        groups = groups - groups.mean(-1, keepdim=True)
        groups = groups / (groups.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        gain, bias = self.w[f"{name}.weight"], self.w[f"{name}.bias"]
        return groups.reshape(x.shape) * gain[:, None, None] + bias[:, None, None]

    def resnet(self, x):
        """Return the maps after each stage."""
        import torch.nn.functional as F

        root = "pretrained.model.patch_embed.backbone"
        x = self.standardized_conv(x, f"{root}.stem.conv", 2)
        x = self.group_norm(x, f"{root}.stem.norm").relu()
        x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-float("inf")), 3, 2)
        maps = []
        for stage in range(3):
            block = 0
            while f"{root}.stages.{stage}.blocks.{block}.conv1.weight" in self.w:
                name = f"{root}.stages.{stage}.blocks.{block}"
                stride = 2 if stage > 0 and block == 0 else 1
                shortcut = x
                if block == 0:
                    shortcut = self.standardized_conv(x, f"{name}.downsample.conv", stride)
                    shortcut = self.group_norm(shortcut, f"{name}.downsample.norm")
                x = self.standardized_conv(x, f"{name}.conv1")
                x = self.group_norm(x, f"{name}.norm1").relu()
                x = self.standardized_conv(x, f"{name}.conv2", stride)
                x = self.group_norm(x, f"{name}.norm2").relu()
                x = self.standardized_conv(x, f"{name}.conv3")
                x = (self.group_norm(x, f"{name}.norm3") + shortcut).relu()
                block += 1
            maps.append(x)
        return maps

    def attention(self, x, name, num_heads):
        qkv = self.linear(x, f"{name}.qkv").unflatten(-1, (3, num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        return self.linear((weights @ v).transpose(1, 2).flatten(2), f"{name}.proj")

    def encode(self, x, hooks, num_heads, grid):
        """Return four maps, the finest first."""
        import torch

        root, height, width = "pretrained.model", x.shape[2] // 16, x.shape[3] // 16
        taps = []
        if f"{root}.patch_embed.backbone.stem.conv.weight" in self.w:
            maps = self.resnet(x)
            tokens = self.conv(maps[-1], f"{root}.patch_embed.proj")
            taps = maps[: 4 - len(hooks)]
        else:
            tokens = self.conv(x, f"{root}.patch_embed.proj", 16)
        table = self.w[f"{root}.pos_embed"]
        positions = table[0, 1:].T.reshape(-1, *grid)
        positions = resize(positions, (height, width), align_corners=False)
        tokens = (tokens + positions).flatten(2).transpose(1, 2)
        token = (self.w[f"{root}.cls_token"] + table[:, :1]).expand(len(x), -1, -1)
        x = torch.cat((token, tokens), dim=1)
        for block in range(max(hooks) + 1):
            name = f"{root}.blocks.{block}"
            x = x + self.attention(self.layer_norm(x, f"{name}.norm1"), f"{name}.attn", num_heads)
            hidden = self.linear(self.layer_norm(x, f"{name}.norm2"), f"{name}.mlp.fc1")
            hidden = hidden * 0.5 * (1 + torch.erf(hidden * 0.5**0.5))
            x = x + self.linear(hidden, f"{name}.mlp.fc2")
            if block in hooks:
                taps.append(self.reassemble(x, len(taps) + 1, height, width))
        return taps

    def reassemble(self, x, level, height, width):
        import torch
        import torch.nn.functional as F

        name = f"pretrained.act_postprocess{level}"
        token, x = x[:, :1], x[:, 1:]
        if self.readout == "project":
            x = torch.cat((x, token.expand_as(x)), dim=-1)
            x = self.linear(x, f"{name}.0.project.0")
            x = x * 0.5 * (1 + torch.erf(x * 0.5**0.5))
        elif self.readout == "add":
            x = x + token
        x = self.conv(x.transpose(1, 2).unflatten(2, (height, width)), f"{name}.3")
        if level == 4:
            return self.conv(x, f"{name}.4", 2, 1)
        if level == 3:
            return x
        kernel, bias = self.w[f"{name}.4.weight"], self.w[f"{name}.4.bias"]
        return F.conv_transpose2d(x, kernel, bias, stride=kernel.shape[-1])

    def residual_unit(self, x, name):
        y = x
        for index in (1, 2):
            y = self.conv(y.relu(), f"{name}.conv{index}", 1, 1)
            norm = f"{name}.bn{index}"
            if f"{norm}.running_mean" in self.w:
                y = self.batch_norm(y, norm)
        return x + y

    def batch_norm(self, x, name):
        mean, variance, gamma, beta = (
            self.w[f"{name}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * gamma + beta

    def decode(self, taps):
        """Fuse four maps, the finest first; return depth `(B, H, W)` or logits `(B, H, W, C)`."""
        x = 0
        for level in (4, 3, 2, 1):
            name = f"scratch.refinenet{level}"
            skip = self.conv(taps[level - 1], f"scratch.layer{level}_rn", 1, 1)
            x = skip if level == 4 else x + self.residual_unit(skip, f"{name}.resConfUnit1")
            x = self.residual_unit(x, f"{name}.resConfUnit2")
            x = self.conv(double(x), f"{name}.out_conv")
        if "scratch.output_conv.1.running_mean" in self.w:
            x = self.conv(x, "scratch.output_conv.0", 1, 1)
            x = self.batch_norm(x, "scratch.output_conv.1").relu()
            return double(self.conv(x, "scratch.output_conv.4")).permute(0, 2, 3, 1)
        x = double(self.conv(x, "scratch.output_conv.0", 1, 1))
        x = self.conv(x, "scratch.output_conv.2", 1, 1).relu()
        return self.conv(x, "scratch.output_conv.4").relu()[:, 0]


def double(x):
    """Bilinear upsampling by two, corners aligned."""
    return resize(x, (2 * x.shape[-2], 2 * x.shape[-1]), align_corners=True)


def resize(x, size, align_corners):
    """Bilinear resizing of the last two axes without antialiasing, by two matrix products."""
    import torch

    rows, columns = (
        torch.from_numpy(_matrix(old, new, align_corners)).to(x.dtype)
        for old, new in zip(x.shape[-2:], size, strict=True)
    )
    return rows @ x @ columns.T


def _matrix(old, new, align_corners):
    """Weights `(new, old)` of linear interpolation."""
    if align_corners:
        centres = np.linspace(0, old - 1, new)
    else:
        centres = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(old)))
