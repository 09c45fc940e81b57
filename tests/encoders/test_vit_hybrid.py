import keras
import pytest
import tiny


def hybrid(**overrides):
    return tiny.encoder("ViTHybridEncoder", **overrides)


@pytest.mark.parametrize(
    "out_stages, out_indices, channels, sizes",
    [
        ((0, 1), (1, 3), (16, 24, 32, 32), (16, 8, 4, 4)),
        ((), (0, 1, 2, 3), (32, 32, 32, 32), (4, 4, 4, 4)),
        ((0,), (0, 1, 3), (16, 32, 32, 32), (16, 4, 4, 4)),
        ((0, 1, 2), (3,), (16, 24, 32, 32), (16, 8, 4, 4)),
    ],
)
def test_stages_and_blocks_are_tapped(out_stages, out_indices, channels, sizes):
    encoder = hybrid(out_stages=out_stages, out_indices=out_indices)
    outputs = encoder(keras.Input((64, 64, 3)))
    assert tuple(tap.channels for tap in encoder.taps) == channels
    assert [tap.reassemble for tap in encoder.taps] == [n >= len(out_stages) for n in range(4)]
    for n, (width, size) in enumerate(zip(channels, sizes, strict=True), 1):
        assert outputs[f"stage{n}"].shape == (None, size, size, width)


@pytest.mark.parametrize("out_stages", [(1,), (1, 0), (0, 2), (0, 0), (0, 1, 2, 3)])
def test_stages_that_make_no_pyramid_are_refused(out_stages):
    indices = tuple(range(4 - len(out_stages)))
    with pytest.raises(ValueError, match="`out_stages` must be"):
        hybrid(out_stages=out_stages, out_indices=indices)


@pytest.mark.parametrize("out_stages, out_indices", [((0, 1), (0, 1, 2, 3)), ((), (1, 3))])
def test_four_taps_in_all(out_stages, out_indices):
    count = 4 - len(out_stages)
    with pytest.raises(ValueError, match=f"{count} of the blocks 0 to 3 in ascending order"):
        hybrid(out_stages=out_stages, out_indices=out_indices)


def test_every_stage_has_its_depth():
    names = [layer.name for layer in hybrid(stage_depths=(2, 1, 3)).layers]
    assert [name for name in names if name.startswith("stage_")] == [
        "stage_0_block_0",
        "stage_0_block_1",
        "stage_1_block_0",
        "stage_2_block_0",
        "stage_2_block_1",
        "stage_2_block_2",
    ]


def test_widths_and_depths_have_to_pair_up():
    with pytest.raises(ValueError, match="shorter|longer"):
        hybrid(stage_depths=(2, 1))


def test_only_first_blocks_project_their_shortcut():
    paths = [v.path for v in hybrid().variables]
    assert "stage_1_block_0/downsample_conv/kernel" in paths
    assert not [p for p in paths if p.startswith("stage_1_block_1/downsample")]


@pytest.mark.parametrize("formula", ["std", "variance"])
def test_formula_reaches_every_convolution(formula):
    encoder = hybrid(weight_standardization=formula)
    found = [
        layer.standardization
        for layer in encoder._flatten_layers()
        if hasattr(layer, "standardize")
    ]
    assert found == [formula] * (1 + 4 * 3 + 3)  # stem, four bottlenecks, three projections


def test_unknown_formula():
    with pytest.raises(ValueError, match="Received: 'timm'"):
        hybrid(weight_standardization="timm")
