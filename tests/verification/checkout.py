"""Presets that are tiny networks on a server on loopback, for `keras-dpt verify`."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
from parity import isl_org, reference

ROOT = Path(__file__).parent.parent.parent
HUB, RELEASE = "/user/tiny/resolve/main/", "/1_0/"
# `keras_dpt.presets` knows its folder by this preset.
NAME = "dpt_large"


class Place:
    """A folder of presets and the server with their files.

    Attributes: folder: above `presets/` and `out/`. server. tensors: as on the hub.
    """

    def __init__(self, folder, server, network):
        self.folder, self.server = folder, server
        self.tensors = reference.state_dict(network)
        saved = folder / "saved"
        network.save_pretrained(saved)
        for name in ("config.json", "model.safetensors"):
            server.files[HUB + name] = (saved / name).read_bytes()
        self.release(self.tensors)

    def release(self, tensors):
        """Put tensors of the hub's names on the release page, and write the preset."""
        content = torch_file(isl_org.isl_state_dict(tensors))
        digest = hashlib.sha256(content).hexdigest()
        self.file = f"tiny-{digest[:8]}.pt"
        self.server.files[RELEASE + self.file] = content
        hub = {"format": "hf_dpt", "repo": "user/tiny", "file": "model.safetensors"}
        url = {"format": "isl_org", "url": self.server.url + RELEASE + self.file}
        sources = [hub | {"sha256_prefix": None}, url | {"sha256_prefix": digest[:8]}]
        self.write(sources=sources)

    def write(self, name=NAME, **changes):
        """Write a preset; returns its dict."""
        preset = json.loads((ROOT / "presets" / f"{NAME}.json").read_text())
        arch = reference.KINDS["tiny"]
        preset["architecture"]["encoder_config"] |= {
            "num_layers": arch.num_layers,
            "hidden_dim": arch.hidden_dim,
            "num_heads": arch.num_heads,
            "mlp_dim": arch.mlp_dim,
            "position_grid": list(arch.position_grid),
            "out_indices": list(arch.out_indices),
        }
        preset["architecture"]["backbone_config"] |= {
            "reassemble_channels": list(arch.reassemble_channels),
            "fusion_channels": arch.fusion_channels,
        }
        preset["architecture"]["task_config"]["head_channels"] = list(arch.head_channels)
        preset |= {"name": name, "parameters": 200_000} | changes
        folder = self.folder / "presets"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(preset, indent=2) + "\n")
        return preset

    @property
    def results(self):
        """`verification.json` of the last run."""
        return json.loads((self.folder / "out" / "verification.json").read_text())["results"]


class Checkout(Place):
    """A copy of the package and the references beside the presets, which runs as a user's would."""

    def __init__(self, folder, server, network):
        super().__init__(folder, server, network)
        ignore = shutil.ignore_patterns("__pycache__")
        for name in ("keras_dpt", "tests/parity"):
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)

    def environment(self):
        kept = {k: v for k, v in os.environ.items() if "OFFLINE" not in k}
        return kept | {
            "KERAS_BACKEND": keras.config.backend(),
            "KERAS_DPT_CACHE": str(self.folder / "cache"),
            "HF_ENDPOINT": self.server.url,
            "HF_HOME": str(self.folder / "hub"),
            "PYTHONPATH": str(self.folder),
        }

    def start(self, *arguments):
        """`keras-dpt verify` in a process, as a user would."""
        command = [sys.executable, "-m", "keras_dpt", "verify", *arguments, "--out", "out"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=self.environment(), **pipes)

    def verify(self, *arguments):
        """Exit code, standard output and standard error of `keras-dpt verify`."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=300)
        assert "Traceback" not in err, err
        return process.returncode, out, err


def torch_file(tensors):
    """The bytes of a PyTorch file of these arrays."""
    import torch

    buffer = io.BytesIO()
    torch.save({name: torch.from_numpy(np.array(x)) for name, x in tensors.items()}, buffer)
    return buffer.getvalue()
