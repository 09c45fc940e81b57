"""`keras-dpt verify` on files of full size with random weights, from a server on loopback.

    python tests/verification/full_size.py dpt_hybrid dpt_large depth_anything_v2_small

It needs transformers, about 8 GB of memory and, in the folder of `--out`, 12 GB of disk. What it
shows: time and memory of each file, and that nothing but rounding is between the networks. The
files and what was verified are kept there: a second call goes on.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))
# ruff: noqa: E402
from parity import dinov2, isl_org, reference
from weights.server import Server


def dpt(kind, **options):
    """Both files of a DPT of 2021: the hub's, the release page's, and `config.json`."""
    network = reference.make_reference(kind, **options)
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        hub = (Path(folder) / "model.safetensors").read_bytes()
        config = (Path(folder) / "config.json").read_bytes()
    return hub, torch_file(isl_org.isl_state_dict(reference.state_dict(network))), config


def depth_anything(width, heads, blocks, widths, fused, taps):
    """Both files of a Depth Anything: the hub's, the authors', and `config.json`."""
    from parity.test_dinov2_full import hub_names

    dinov2.DIM, dinov2.BLOCKS, dinov2.GRID = width, blocks, 37
    dinov2.WIDTHS, dinov2.FUSED = widths, fused
    tensors = dinov2.calibrated(
        dinov2.tensors(dinov2.shapes()),
        lambda x: dinov2.Network(x, heads=heads, taps=taps, mistake="no last ReLU"),
        "depth_head.scratch.output_conv2.2",
    )
    config = {
        "model_type": "depth_anything",
        "architectures": ["DepthAnythingForDepthEstimation"],
        "backbone_config": {
            "model_type": "dinov2",
            "hidden_size": width,
            "num_attention_heads": heads,
            "num_hidden_layers": blocks,
            "image_size": 518,
            "patch_size": 14,
            "out_indices": [tap + 1 for tap in taps],
            "reshape_hidden_states": False,
        },
        "reassemble_hidden_size": width,
        "neck_hidden_sizes": list(widths),
        "fusion_hidden_size": fused,
    }
    hub = save(hub_names(tensors), metadata={"format": "pt"})
    return hub, torch_file(tensors), json.dumps(config).encode()


FILES = {
    "dpt_hybrid": lambda: dpt("hybrid", weight_standardization="std"),
    "dpt_large": lambda: dpt("large"),
    "depth_anything_v2_small": lambda: depth_anything(
        384, 6, 12, (48, 96, 192, 384), 64, (2, 5, 8, 11)
    ),
}


def torch_file(tensors):
    """The bytes of a PyTorch file of these arrays."""
    import torch

    buffer = io.BytesIO()
    torch.save({name: torch.from_numpy(np.array(x)) for name, x in tensors.items()}, buffer)
    return buffer.getvalue()


def made(name, folder):
    """The bytes of a preset's files, made once."""
    files = [folder / f"{name}.{part}" for part in ("hub", "authors", "config")]
    if not files[-1].is_file():
        folder.mkdir(exist_ok=True)
        for file, content in zip(files, FILES[name](), strict=True):
            file.write_bytes(content)
    return [file.read_bytes() for file in files]


def serve(name, server, folder):
    """Put a preset's files on the server; returns the preset's dict with their addresses."""
    preset = json.loads((ROOT / "presets" / f"{name}.json").read_text())
    hub, authors, config = made(name, folder)
    for source, content in zip(preset["sources"], (hub, authors), strict=True):
        source.pop("sha256", None)
        source["sha256_prefix"] = None
        if "repo" in source:
            repository = f"/{source['repo']}/resolve/main/"
            server.files[repository + source["file"]] = content
            server.files[repository + "config.json"] = config
        else:
            file = source["url"].rpartition("/")[2]
            server.files[f"/release/{file}"] = content
            source["url"] = f"{server.url}/release/{file}"
    return preset


def main():
    """Serve, verify, and return the command's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="+", choices=FILES, metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("build/verification"))
    parser.add_argument("--port", type=int, default=8719)
    args = parser.parse_args()
    place = args.out.absolute()
    for folder in ("keras_dpt", "tests/parity"):
        shutil.copytree(ROOT / folder, place / folder, dirs_exist_ok=True)
    (place / "presets").mkdir(exist_ok=True)
    shutil.copy(ROOT / "presets" / "dpt_large.json", place / "presets")
    with Server(args.port).running() as server:  # addresses are part of what is verified
        for name in args.presets:
            preset = serve(name, server, place / "files")
            (place / "presets" / f"{name}.json").write_text(json.dumps(preset, indent=2))
        environment = os.environ | {
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(place / "hub"),
            "KERAS_DPT_CACHE": str(place / "cache"),
            "PYTHONPATH": str(place),
        }
        command = [sys.executable, "-m", "keras_dpt", "verify", *args.presets, "--out", "results"]
        return subprocess.run(command, cwd=place, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
