"""What the references answer, computed in a process of their own and kept on disk.

torch and TensorFlow or JAX in one process cost memory, and a float64 DPT-Large takes its time. The
folder in `KERAS_DPT_PARITY_CACHE` is shared between backends; without it a temporary one serves.
"""

import dataclasses
import functools
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

from . import reference


@dataclasses.dataclass(frozen=True)
class Model:
    """A reference model: `options` are fields of `reference.Architecture`, as pairs."""

    kind: str
    options: tuple = ()
    seed: int = 0

    def __str__(self):
        return "-".join([self.kind, *(f"{name}={value}" for name, value in self.options)])

    @property
    def architecture(self):
        return reference.architecture(self.kind, **dict(self.options))

    def tensors(self, answer):
        """The model's state dict, Hugging Face names; `answer` is any of its answers."""
        tensors = reference.random_tensors(json.loads(str(answer["shapes"])), self.seed)
        return tensors | {name: answer[name] for name in reference.LAST_LAYER if name in answer}


def answer(model, size, batch=1, pyramid=False, together=()):
    """Return what a reference makes of `picture(model, size, batch)`.

    Args:
        model: a `Model`. size: (height, width).
        pyramid: include the fused maps "P1" to "P4" and the "auxiliary" logits, float64.
        together: more (model, size) pairs to compute in the same process if this one is missing.

    Returns: dict of arrays: "float32" and "float64" `(B, H, W)` or logits of
        `reference.some_classes`, and what `Model.tensors` needs.
    """
    path = _path(model, size, batch, pyramid)
    if not path.exists():
        _compute({(model, size), *together}, batch, pyramid)
    with np.load(path) as arrays:
        return dict(arrays)


def picture(model, size, batch=1):
    """Return the picture of `answer`: `(batch, *size, 3)` float32 in [-1, 1]."""
    return reference.random_picture(*size, batch, model.seed)


def _compute(pairs, batch, pyramid):
    jobs = []
    for model in sorted({model for model, _ in pairs}, key=str):
        sizes = []
        for size in sorted(size for other, size in pairs if other == model):
            path = _path(model, size, batch, pyramid)
            if not path.exists():
                sizes.append({"height": size[0], "width": size[1], "path": str(path)})
        job = {"kind": model.kind, "options": dict(model.options), "seed": model.seed}
        jobs.append(job | {"batch": batch, "pyramid": pyramid, "sizes": sizes})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "jobs.json"
        file.write_text(json.dumps(jobs))
        subprocess.run([sys.executable, reference.__file__, str(file)], check=True)


def _path(model, size, batch, pyramid):
    """File of one answer; its name changes with everything that the answer depends on."""
    key = f"{_code()} {model!r} {batch} {pyramid}"
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return _folder() / f"{model.kind}-{size[0]}x{size[1]}-{digest}.npz"


@functools.cache
def _code():
    packages = [f"{name} {version(name)}" for name in ("torch", "transformers", "numpy")]
    return Path(reference.__file__).read_text(encoding="utf-8") + str(packages)


@functools.cache
def _folder():
    given = os.environ.get("KERAS_DPT_PARITY_CACHE")
    if given:
        folder = Path(given)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    _folder.temporary = tempfile.TemporaryDirectory(prefix="keras-dpt-parity-")
    return Path(_folder.temporary.name)
