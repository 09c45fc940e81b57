"""Open checkpoints of any format: names and shapes first, data one tensor at a time.

torch is imported here, and only for files written by torch.
"""

import hashlib
import pickle
from pathlib import Path
from typing import NamedTuple

from keras_dpt import schema
from keras_dpt.errors import WeightsError
from keras_dpt.weights.descriptions import BESIDE_WEIGHTS, INDEX
from keras_dpt.weights.download import sha256_of

# Weight files of a Hugging Face directory, in order of preference.
HF_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")

# Weights of a keras-hub preset.
KERAS_FILE = "model.weights.h5"

_SAFETENSORS_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
}


class Spec(NamedTuple):
    """Shape and dtype name ("float32") of one tensor of a checkpoint."""

    shape: tuple
    dtype: str


class Checkpoint:
    """An open checkpoint.

    Attributes:
        path: of the file or Hugging Face directory that was opened.
        files: paths of the weight files in it.
        specs: `{tensor name: Spec}`.
        hf_config, hf_image: `config.json` and `preprocessor_config.json` next to the weights, as
            dicts, or `None`.
    """

    def __init__(self, path):
        """Open `path`. Raises: WeightsError: it is missing, damaged, or not a checkpoint."""
        self.path = Path(path)
        self.files = weight_files(self.path)
        described = {
            file.name: read_json(file, BESIDE_WEIGHTS[file.name])
            for file in description_files(self.path)
        }
        self.hf_config = described.get("config.json")
        self.hf_image = described.get("preprocessor_config.json")
        self.specs, self._readers = {}, {}
        for file in self.files:
            specs, read = _open(file)
            self.specs |= specs
            self._readers |= dict.fromkeys(specs, read)

    def read(self, name):
        """The tensor `name` as a float32 array, whatever its precision."""
        return self._readers[name](name)

    def sha256(self):
        """Hex digest of the weight file; if there are several, of their concatenated digests."""
        digests = [sha256_of(file) for file in self.files]
        if len(digests) == 1:
            return digests[0]
        return hashlib.sha256("".join(digests).encode()).hexdigest()


def _hub_hint(path):
    """What was meant by a path with one slash that is not there."""
    if path.is_absolute() or len(path.parts) != 2 or path.suffix:
        return ""
    if path.parts[0] == ".." or path.parts[0].endswith(":"):  # of an address two slashes became one
        return ""
    return f" For a Hugging Face repository, pass 'hf://{path.as_posix()}'."


def weight_files(path):
    """The files that hold the weights of a file or a Hugging Face directory.

    Raises: WeightsError: there are none, or one is missing.
    """
    if not path.exists():
        raise WeightsError(f"There is no file or directory {path}.{_hub_hint(path)}")
    candidates = [path / name for name in HF_FILES] if path.is_dir() else [path]
    file = next(filter(Path.is_file, candidates), None)
    if file is None and path.is_dir() and (pair := _encoder_and_head(path)):
        return pair
    if file is None and (path / KERAS_FILE).is_file():
        return [path / KERAS_FILE]
    if file is None:
        raise WeightsError(f"{path} holds no weights: it has none of {', '.join(HF_FILES)}.")
    if not file.name.endswith(".index.json"):
        return [file]
    shards = shards_of(file)
    for shard in shards:
        if not (file.parent / shard).is_file():
            raise WeightsError(f"{file} names {shard}, which is missing; put it next to the index.")
    return [file.parent / shard for shard in shards]


def shards_of(index):
    """Names of the files next to an index of shards. Raises: WeightsError: they are elsewhere."""
    return sorted(set(read_json(index, INDEX)["weight_map"].values()))


def _encoder_and_head(folder):
    """The two files of a network of DINOv2's authors, if a folder has only these; else `None`."""
    pair = [list(folder.glob(pattern)) for pattern in ("*_pretrain.pth", "*_head.pth")]
    return [files[0] for files in pair] if all(len(files) == 1 for files in pair) else None


def description_files(path):
    """Hugging Face's `config.json` and `preprocessor_config.json`, if they exist."""
    if path.is_file() and path.name not in HF_FILES:
        return []  # a file on its own: what lies beside it needn't belong to it
    folder = path if path.is_dir() else path.parent
    files = (folder / name for name in ("config.json", "preprocessor_config.json"))
    return [file for file in files if file.is_file()]


def read_json(file, expected=None):
    """Content of a JSON file, by default any object. Raises: WeightsError: it is not valid."""
    return schema.read_json(file, expected or schema.Record(), WeightsError)


def _open(file):
    """Specs of a weight file, by its content, and a function that reads a tensor by name."""
    with open(file, "rb") as stream:
        start = stream.read(512)
    if start[8:9] == b"{":
        return _open_safetensors(file)
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return _open_torch(file)
    raise WeightsError(f"{file} holds no weights: {_what_it_is(start)}")


def _what_it_is(start):
    text = start.lstrip().lower()
    if not start:
        return "it is empty. Fetch it again."
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page, as saved when a download needs a login. Fetch the file itself."
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer. Run `git lfs pull`, or fetch the file itself."
    if start.startswith(b"\x89HDF"):
        return "it is an HDF5 file. Load a Keras preset by its directory."
    return "it is neither a safetensors nor a PyTorch file."


def _open_safetensors(file):
    from safetensors import SafetensorError, safe_open

    try:
        archive = safe_open(file, framework="numpy")
        slices = {name: archive.get_slice(name) for name in archive.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise _damaged(file, error) from error

    def read(name):
        return archive.get_tensor(name).astype("float32", copy=False)

    dtypes = {name: tensor.get_dtype() for name, tensor in slices.items()}
    return {
        name: Spec(tuple(tensor.get_shape()), _SAFETENSORS_DTYPES.get(dtypes[name], dtypes[name]))
        for name, tensor in slices.items()
    }, read


def require_torch(file):
    """Import torch to read `file`. Raises: WeightsError: it is not installed."""
    try:
        import torch
    except ImportError as error:
        raise WeightsError(
            f"{file} was made by PyTorch and needs it to be read: `pip install torch`, or use a "
            "preset or file with .safetensors weights."
        ) from error
    return torch


def _open_torch(file):
    torch = require_torch(file)
    # Mapped, a zip archive takes no memory until it is read; older files cannot be mapped.
    with open(file, "rb") as stream:
        is_zip = stream.read(2) == b"PK"
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{file} is damaged, or holds more than tensors, such as a whole model. Other objects "
            "are not loaded because they could run code; save the state dict instead."
        ) from error
    except Exception as error:  # RuntimeError, EOFError, KeyError...
        raise _damaged(file, error) from error
    for key in ("model", "state_dict"):  # of training checkpoints
        inner = tensors.get(key) if isinstance(tensors, dict) else None
        tensors = inner if inner and isinstance(inner, dict) else tensors
    if not isinstance(tensors, dict) or not all(map(torch.is_tensor, tensors.values())):
        keys = list(tensors)[:5] if isinstance(tensors, dict) else type(tensors).__name__
        raise WeightsError(
            f"{file} isn't a dictionary of tensors, nor a training checkpoint with those under "
            f'"model" or "state_dict"; it holds {keys}.'
        )

    for name, tensor in tensors.items():
        _check_tensor(file, name, tensor)

    def read(name):
        return tensors[name].detach().float().numpy()

    return {
        name: Spec(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in tensors.items()
    }, read


def _check_tensor(file, name, tensor):
    """Raise a WeightsError unless a tensor is plain numbers, all of them in the file."""
    if not isinstance(name, str):
        raise WeightsError(f"{file}: names of tensors must be strings. Received: {name!r}.")
    layout = str(tensor.layout).removeprefix("torch.")
    if layout != "strided" or tensor.device.type != "cpu" or tensor.is_quantized:
        kind = "quantized" if tensor.is_quantized else layout
        kind = tensor.device.type if tensor.device.type != "cpu" else kind
        raise WeightsError(f"{file}: the tensor {name} is {kind}; save it dense, on the CPU.")
    held = tensor.untyped_storage().nbytes()
    if tensor.numel() * tensor.element_size() > held:
        raise WeightsError(
            f"{file}: the tensor {name} {tuple(tensor.shape)} has {held} bytes in the file, fewer "
            "than its shape needs (it may be expanded). Save it with `.contiguous()`."
        )


def _damaged(file, error):
    reason = (str(error) or type(error).__name__).splitlines()[0].partition(". ")[0]
    return WeightsError(f"{file} is damaged or cut short ({reason}). Fetch it again.")
