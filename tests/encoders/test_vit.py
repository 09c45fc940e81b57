import numpy as np
import pytest
import tiny
from contracts import predict


@pytest.mark.parametrize(
    "indices",
    [(0, 1, 2), (0, 1, 2, 3, 4), (0, 1, 2, 4), (-1, 0, 1, 2), (0, 2, 1, 3), (0, 1, 1, 2), ()],
)
def test_taps_that_do_not_exist_are_refused(indices):
    with pytest.raises(ValueError, match="4 of the blocks 0 to 3 in ascending order. Received:"):
        tiny.encoder("ViTEncoder", out_indices=indices)


def test_grid_is_folded_row_by_row():
    """A patch of its own shows up at its own place: in the tap, only there is it far off."""
    encoder = tiny.randomize(tiny.encoder())
    plain = np.zeros((1, 48, 80, 3), "float32")
    spotted = plain.copy()
    spotted[:, 16:32, 48:64] = 1
    before, after = (predict(encoder, (x,))["stage1"] for x in (plain, spotted))
    change = np.abs(after - before).sum(-1)[0]
    assert change.shape == (3, 5)
    assert np.unravel_index(change.argmax(), change.shape) == (1, 3)


def test_tapped_blocks_are_an_argument():
    deep = tiny.randomize(tiny.encoder(num_layers=6, out_indices=(0, 2, 3, 5)))
    taps = [layer.name for layer in deep.layers if layer.name.startswith("tap_")]
    assert taps == ["tap_0", "tap_2", "tap_3", "tap_5"]
    shallow = tiny.encoder(num_layers=6, out_indices=(0, 1, 2, 3))
    shallow.set_weights([v.numpy() for v in deep.variables[: len(shallow.variables)]])
    x = (tiny.images(1, 32, 32),)
    ours, theirs = predict(deep, x), predict(shallow, x)
    for tap, block in ((1, 0), (2, 2), (3, 3)):
        np.testing.assert_allclose(ours[f"stage{tap}"], theirs[f"stage{block + 1}"], atol=1e-6)


@pytest.mark.parametrize("patch_size", [8, 14])
def test_other_patches(patch_size):
    encoder = tiny.encoder(patch_size=patch_size)
    x = tiny.images(1, 3 * patch_size, 5 * patch_size)
    assert encoder(x)["stage4"].shape == (1, 3, 5, 32)
    with pytest.raises(ValueError, match=f"multiples of {patch_size}"):
        encoder(tiny.images(1, 3 * patch_size, 5 * patch_size + 2))


def test_heads_have_to_share_the_width():
    with pytest.raises(ValueError, match="Received: 32 and 5"):
        tiny.encoder(num_heads=5)
