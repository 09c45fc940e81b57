"""Reading checkpoints: every format that is accepted, every kind of damage."""

import hashlib
import json
import sys
import warnings
import zipfile

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_dpt.errors import WeightsError
from keras_dpt.weights.download import sha256_of
from keras_dpt.weights.readers import Checkpoint, Spec, shards_of, weight_files

torch = pytest.importorskip("torch")

TENSORS = {
    "full": np.arange(6, dtype="float32").reshape(2, 3),
    "half": np.array([1.5, -2], "float16"),
    "brain": np.array([3, -0.25], ml_dtypes.bfloat16),
    "count": np.array(7, "int64"),
}


def torch_tensors():
    tensors = {name: torch.tensor(TENSORS[name]) for name in ("full", "half", "count")}
    return tensors | {"brain": torch.tensor([3, -0.25], dtype=torch.bfloat16)}


def save_old_format(tensors, file):
    torch.save(tensors, file, _use_new_zipfile_serialization=False)


def write(kind, file):
    if kind == "safetensors":
        save_file(TENSORS, file)
    elif kind == "torch":
        torch.save(torch_tensors(), file)
    elif kind == "old torch":
        save_old_format(torch_tensors(), file)
    elif kind == "training checkpoint":
        torch.save({"optimizer": {"lr": 1.0}, "model": torch_tensors()}, file)
    elif kind == "state dict":
        torch.save({"epoch": 3, "state_dict": torch_tensors()}, file)
    return file


KINDS = ["safetensors", "torch", "old torch", "training checkpoint", "state dict"]


@pytest.mark.parametrize("kind", KINDS)
def test_names_shapes_dtypes_and_data(kind, tmp_path):
    # Content decides, not the name.
    checkpoint = Checkpoint(write(kind, tmp_path / "weights.any"))
    assert checkpoint.specs["full"] == Spec((2, 3), "float32")
    assert checkpoint.specs["half"] == Spec((2,), "float16")
    assert checkpoint.specs["brain"] == Spec((2,), "bfloat16")
    dtype = "I64" if kind == "safetensors" else "int64"
    assert checkpoint.specs["count"] == Spec((), dtype) and len(checkpoint.specs) == 4
    for name in ("full", "half", "brain"):
        data = checkpoint.read(name)
        assert data.dtype == "float32"
        np.testing.assert_array_equal(data, TENSORS[name].astype("float32"))
    assert checkpoint.sha256() == sha256_of(tmp_path / "weights.any")
    assert checkpoint.hf_config is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [0.3, 0.95])
def test_truncated_files(kind, kept, tmp_path):
    file = write(kind, tmp_path / "weights.any")
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(WeightsError, match="weights.any is damaged"):
        Checkpoint(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"\n<!DOCTYPE html><html>Sign in", "it is a web page"),
        (b"<HTML><body>Sign in", "it is a web page"),
        (b'<?xml version="1.0"?><Error>', "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "it is a Git LFS pointer"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "it is an HDF5 file"),
        (b"just text", "neither a safetensors nor a PyTorch file"),
        ((10**15).to_bytes(8, "little") + b'{"a": 1}', "is damaged"),
    ],
)
def test_files_that_are_no_weights(content, message, tmp_path):
    file = tmp_path / "weights.pt"
    file.write_bytes(content)
    with pytest.raises(WeightsError, match=f"weights.pt.*{message}"):
        Checkpoint(file)


@pytest.mark.parametrize("kind", ["torch", "old torch"])
def test_a_file_of_torch_is_never_run_and_is_mapped_where_possible(kind, tmp_path, monkeypatch):
    options, load = [], torch.load

    def noted(file, **given):
        options.append(given)
        return load(file, **given)

    monkeypatch.setattr(torch, "load", noted)
    Checkpoint(write(kind, tmp_path / "weights.pt"))
    expected = {"map_location": "cpu", "weights_only": True, "mmap": kind == "torch"}
    assert options == [expected]


@pytest.mark.parametrize(
    ("error", "reason"),
    [(RuntimeError("Too short. Perhaps.\nMore."), "Too short"), (EOFError(), "EOFError")],
)
def test_the_reason_why_torch_cannot_read_a_file(error, reason, tmp_path, monkeypatch):
    def load(*_, **__):
        raise error

    file = write("torch", tmp_path / "weights.pt")
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(WeightsError, match=rf"weights.pt is damaged or cut short \({reason}\)\. "):
        Checkpoint(file)


def test_archives_of_something_else(tmp_path):
    file = tmp_path / "weights.pt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(WeightsError, match="weights.pt is damaged"):
        Checkpoint(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "state_dict": {}}, r"it holds \['epoch', 'state_dict'\]"),
        ({"optimizer": {}, "epoch": 3}, "isn't a dictionary of tensors"),
        (torch.zeros(3), "it holds Tensor"),
        (torch.nn.Linear(2, 2), "could run code"),
    ],
)
def test_other_things_that_torch_saves(content, message, tmp_path):
    file = tmp_path / "weights.pt"
    torch.save(content, file)
    with pytest.raises(WeightsError, match=message):
        Checkpoint(file)


def quantized():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about quantization and its storage
        return torch.quantize_per_tensor(torch.zeros(3), 0.5, 0, torch.qint8)


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of its old storage classes
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (quantized, "the tensor a is quantized; save it dense, on the CPU"),
        (lambda: torch.zeros(3, 3).to_sparse(), "the tensor a is sparse_coo"),
        (lambda: torch.zeros(3, device="meta"), "the tensor a is meta"),
        (lambda: torch.zeros(1).expand(9), r"the tensor a \(9,\) has 4 bytes in the file, fewer"),
    ],
)
def test_tensors_that_are_not_plain_numbers(make, message, tmp_path):
    torch.save({"plain": torch.zeros(3), "a": make()}, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match=f"weights.pt: {message}"):
        Checkpoint(tmp_path / "weights.pt")


def test_parameters_and_tied_tensors_are_fine(tmp_path):
    shared = torch.arange(6.0)
    tensors = {"a": torch.nn.Parameter(shared), "b": shared.view(2, 3), "c": shared[2:4]}
    torch.save(tensors, tmp_path / "tied.pt")
    checkpoint = Checkpoint(tmp_path / "tied.pt")
    np.testing.assert_array_equal(checkpoint.read("a"), np.arange(6))
    np.testing.assert_array_equal(checkpoint.read("c"), [2, 3])


def test_names_of_tensors_are_strings(tmp_path):
    torch.save({1: torch.zeros(3)}, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match=r"names of tensors must be strings\. Received: 1"):
        Checkpoint(tmp_path / "weights.pt")


def test_without_torch(tmp_path, monkeypatch):
    write("torch", tmp_path / "weights.pt")
    write("safetensors", tmp_path / "weights.safetensors")
    monkeypatch.setitem(sys.modules, "torch", None)  # makes its import fail
    with pytest.raises(WeightsError, match=r"pip install torch.*\.safetensors"):
        Checkpoint(tmp_path / "weights.pt")
    assert len(Checkpoint(tmp_path / "weights.safetensors").specs) == 4


def test_hugging_face_directory(tmp_path):
    write("safetensors", tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "dpt"}')
    for path in (tmp_path, tmp_path / "model.safetensors"):
        checkpoint = Checkpoint(path)
        assert checkpoint.hf_config == {"model_type": "dpt"} and checkpoint.hf_image is None
        np.testing.assert_array_equal(checkpoint.read("full"), TENSORS["full"])
    (tmp_path / "preprocessor_config.json").write_text('{"size": 384}')
    assert Checkpoint(tmp_path).hf_image == {"size": 384}
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="config.json is damaged"):
        Checkpoint(tmp_path)


def test_a_file_on_its_own_has_no_config(tmp_path):
    write("safetensors", tmp_path / "mine.safetensors")
    (tmp_path / "config.json").write_text("of something else in the same folder")
    assert Checkpoint(tmp_path / "mine.safetensors").hf_config is None


def test_older_hugging_face_directory(tmp_path):
    write("torch", tmp_path / "pytorch_model.bin")
    assert Checkpoint(tmp_path).specs["full"] == Spec((2, 3), "float32")


def test_shards(tmp_path):
    shards = {"a.safetensors": ["full", "half"], "b.safetensors": ["brain"]}
    for file, names in shards.items():
        save_file({name: TENSORS[name] for name in names}, tmp_path / file)
    weight_map = {name: file for file, names in shards.items() for name in names}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    checkpoint = Checkpoint(tmp_path)
    assert sorted(checkpoint.specs) == ["brain", "full", "half"]
    for name in checkpoint.specs:
        np.testing.assert_array_equal(checkpoint.read(name), TENSORS[name].astype("float32"))
    before = checkpoint.sha256()
    digests = "".join(sha256_of(tmp_path / file) for file in shards)
    assert before == hashlib.sha256(digests.encode()).hexdigest()
    save_file({"brain": TENSORS["brain"] + 1}, tmp_path / "b.safetensors")
    assert Checkpoint(tmp_path).sha256() != before
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"names b\.safetensors, which is missing"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("text", ["{}", '{"weight_map": {"full": "../a.safetensors"}}'])
def test_an_index_that_is_none(text, tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(WeightsError, match="index.json.*weight_map"):
        shards_of(index)


def test_the_weights_of_a_keras_preset(tmp_path):
    (tmp_path / "model.weights.h5").touch()
    assert weight_files(tmp_path) == [tmp_path / "model.weights.h5"]


def test_missing(tmp_path):
    with pytest.raises(WeightsError, match="no file or directory .*nowhere.pt"):
        Checkpoint(tmp_path / "nowhere.pt")
    with pytest.raises(WeightsError, match=r"holds no weights.*model\.safetensors"):
        Checkpoint(tmp_path)


def test_the_name_of_a_repository_without_its_scheme():
    with pytest.raises(WeightsError, match=r"pass 'hf://Intel/dpt-large'"):
        Checkpoint("Intel/dpt-large")
    for other in ("weights/nowhere.pt", "../nowhere", "gs://bucket", "nowhere"):
        with pytest.raises(WeightsError) as error:
            Checkpoint(other)
        assert "hf://" not in str(error.value)
