"""DPTs on BEiT with and without the index that some files store, and DeiT's encoder files."""

import keras
import numpy as np
import pytest
from parity import midas as reference
from safetensors.numpy import save_file

import keras_dpt
from keras_dpt.errors import WeightsError

from .checkpoints import small_tensors

INDEX = "pretrained.model.blocks.{}.attn.relative_position_index"


def index(side):
    """As the authors' code makes it, pair by pair."""
    rows = (2 * side - 1) ** 2
    found = np.empty((side * side + 1,) * 2, "int64")
    found[0], found[:, 0], found[0, 0] = rows, rows + 1, rows + 2
    for i in range(side * side):
        for j in range(side * side):
            y, x = i // side - j // side, i % side - j % side
            found[1 + i, 1 + j] = (y + side - 1) * (2 * side - 1) + x + side - 1
    return found


@pytest.fixture(scope="module")
def tensors():
    return reference.tensors(reference.shapes("beit"))


@pytest.mark.slow
def test_stored_indices_make_no_difference(tensors, tmp_path):
    stored = {INDEX.format(i): index(reference.GRID) for i in range(reference.BLOCKS)}
    x = reference.picture(48, 64)
    outputs = []
    for name, more in (("without", {}), ("with", stored)):
        save_file(tensors | more, tmp_path / f"{name}.safetensors")
        keras_dpt.convert(tmp_path / f"{name}.safetensors", tmp_path / name, progress=False)
        model = keras_dpt.DPTDepth.from_preset(str(tmp_path / name))
        outputs.append(model.backbone.image_encoder.predict(x, verbose=0)["stage4"])
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize(
    "wrong", [index(reference.GRID).T.copy(), index(3)], ids=["key minus query", "other grid"]
)
def test_a_stored_index_of_another_network_is_named(tensors, wrong, tmp_path):
    save_file(tensors | {INDEX.format(2): wrong}, tmp_path / "x.safetensors")
    with pytest.raises(
        WeightsError, match=r"blocks\.2\.attn\.relative_position_index .* other values"
    ):
        keras_dpt.convert(tmp_path / "x.safetensors", tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("keys", ["isl_base", "isl_deit_base_distilled"])
def test_deit_encoders_come_under_the_key_model(keys, tmp_path):
    torch = pytest.importorskip("torch")
    prefix = "pretrained.model."
    found = {
        name.removeprefix(prefix): x
        for name, x in small_tensors(keys).items()
        if name.startswith(prefix)
    }
    torch.save({"model": {n: torch.from_numpy(x) for n, x in found.items()}}, tmp_path / "x.pth")
    keras_dpt.convert(tmp_path / "x.pth", tmp_path / "out", progress=False)
    encoder = keras_dpt.DPTDepth.from_preset(str(tmp_path / "out")).backbone.image_encoder
    distilled = keys == "isl_deit_base_distilled"
    assert encoder.distilled == distilled
    assert [tap.num_prefix_tokens for tap in encoder.taps] == [1 + distilled] * 4
    positions = encoder.get_layer("position_embedding")
    if distilled:
        token = keras.ops.convert_to_numpy(positions.distillation_token)
        np.testing.assert_array_equal(token, found["dist_token"])
        found.pop("dist_token")
        torch.save({n: torch.from_numpy(x) for n, x in found.items()}, tmp_path / "y.pth")
        with pytest.raises(WeightsError, match="another shape than pos_embed|pos_embed"):
            keras_dpt.convert(tmp_path / "y.pth", tmp_path / "out2", progress=False)
