"""DPTs on Swin and Swin V2 with and without the constants of windows that some files store."""

import numpy as np
import pytest
from parity import midas as reference
from safetensors.numpy import save_file

import keras_dpt
from keras_dpt.conversion.engine import check_constants
from keras_dpt.conversion.formats import format_of, swin
from keras_dpt.errors import WeightsError
from keras_dpt.presets import read_preset
from keras_dpt.weights.readers import Spec

from .checkpoints import key_list

BLOCK = "pretrained.model.layers.{}.blocks.{}."
SIZES = {"image_size": reference.SWIN["side"], "window_size": reference.WINDOWS[0]}
GRIDS = (32, 16, 8, 4)
PRESETS = {
    "isl_swin2_tiny_256": "dpt_swin2_tiny_256",
    "isl_swin2_base_384": "dpt_swin2_base_384",
    "isl_swin2_large_384": "dpt_swin2_large_384",
    "isl_swin_large_384": "dpt_swin_large_384",
}


def index(side):
    """Pair by pair, query less key."""
    cells = [(y, x) for y in range(side) for x in range(side)]
    return np.array(
        [
            [(y - v + side - 1) * (2 * side - 1) + x - u + side - 1 for v, u in cells]
            for y, x in cells
        ]
    )


def mask(grid, side, shift):
    """Cells of one window see each other if, in each axis, both or neither went over the edge."""
    windows = []
    for top in range(0, grid, side):
        for left in range(0, grid, side):
            cells = [
                (y + shift >= grid, x + shift >= grid)
                for y in range(top, top + side)
                for x in range(left, left + side)
            ]
            windows.append([[0 if a == b else -100 for b in cells] for a in cells])
    return np.array(windows, "float32")


def stored_constants():
    """What an older timm stores for the small networks of the references."""
    found = {}
    for s, (grid, side, shift) in enumerate(
        zip(GRIDS, reference.WINDOWS, reference.SHIFTS, strict=True)
    ):
        for j in range(reference.SWIN["depths"][s]):
            found[BLOCK.format(s, j) + "attn.relative_position_index"] = index(side)
        if shift:
            found[BLOCK.format(s, 1) + "attn_mask"] = mask(grid, side, shift)
    return found


@pytest.fixture(scope="module")
def tensors():
    return reference.tensors(reference.shapes("swin2"))


@pytest.fixture
def _published(monkeypatch):
    """A file does not tell its windows: as if the small network were a published one."""
    sizes = SIZES | {"pretrained_window_sizes": list(reference.PRETRAINED)}
    monkeypatch.setitem(swin.PUBLISHED, reference.SWIN["dim"], sizes)


@pytest.mark.parametrize("layout", [swin.SWIN, swin.SWIN2], ids=lambda layout: layout.name)
def test_constants_of_the_same_network_pass(layout):
    stored = stored_constants()
    specs = {name: Spec(x.shape, str(x.dtype)) for name, x in stored.items()}
    check_constants(layout.constants, specs, stored.__getitem__, SIZES)
    assert sum("attn_mask" in name for name in stored) == 2


@pytest.mark.parametrize("keys", PRESETS)
def test_constants_of_the_public_files_have_our_shapes(keys):
    specs, read = key_list(keys), []
    config = read_preset(PRESETS[keys])["architecture"]["encoder_config"]

    class AnyValues:
        def __init__(self, name):
            read.append(name)

        def __ne__(self, expected):
            return np.array(False)

    # What differs in shape raises before its values are read.
    check_constants(format_of(specs).constants, specs, AnyValues, config)
    assert read == [name for name in specs if name.endswith(("_mask", "_position_index"))]
    assert any(name.endswith("attn_mask") for name in read)


WRONG = {
    "index: key less query": (BLOCK.format(1, 0) + "attn.relative_position_index", index(8).T),
    "index: other window": (BLOCK.format(3, 1) + "attn.relative_position_index", index(8)),
    "mask: other shift": (BLOCK.format(0, 1) + "attn_mask", mask(32, 8, 3)),
    "mask: other grid": (BLOCK.format(1, 1) + "attn_mask", mask(32, 8, 4)),
    "mask: in a block without": (BLOCK.format(0, 0) + "attn_mask", mask(32, 8, 4)),
    "mask: in a stage without": (BLOCK.format(2, 1) + "attn_mask", mask(8, 8, 4)),
}


def named(name):
    """A pattern of the message about a constant."""
    return name.replace(".", r"\.") + " .*: other values"


@pytest.mark.parametrize("case", WRONG)
def test_a_constant_of_another_network_is_named(case):
    name, value = WRONG[case]
    stored = stored_constants() | {name: value}
    specs = {name: Spec(x.shape, str(x.dtype)) for name, x in stored.items()}
    with pytest.raises(WeightsError, match=named(name)):
        check_constants(swin.SWIN2.constants, specs, stored.__getitem__, SIZES)


@pytest.mark.usefixtures("_published")
@pytest.mark.compiles_long
def test_a_file_with_a_wrong_constant_leaves_nothing(tensors, tmp_path):
    name, value = WRONG["mask: other shift"]
    save_file(tensors | {name: value}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=named(name)):
        keras_dpt.convert(tmp_path / "x.safetensors", tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("_published")
@pytest.mark.slow
def test_stored_constants_make_no_difference(tensors, tmp_path):
    x = reference.picture(*(reference.SWIN["side"],) * 2)
    outputs = []
    for name, more in (("without", {}), ("with", stored_constants())):
        save_file(tensors | more, tmp_path / f"{name}.safetensors")
        keras_dpt.convert(tmp_path / f"{name}.safetensors", tmp_path / name, progress=False)
        model = keras_dpt.DPTDepth.from_preset(str(tmp_path / name))
        outputs.append(model.backbone.image_encoder.predict(x, verbose=0)["stage4"])
    np.testing.assert_array_equal(*outputs)
