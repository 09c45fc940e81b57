import numpy as np
import pytest
import tiny

from keras_dpt.models.windows import blend, windows


def landscape(height, width):
    rows, columns = np.mgrid[:height, :width]
    return 2 + np.sin(rows / 17) + np.cos(columns / 23) + 0.01 * columns


def test_windows_by_hand():
    assert windows(100, None) == windows(100, 200) == windows(100, 100)
    assert windows(100, None) == [(slice(0, 100), slice(0, 100))]
    assert windows(150, 100) == [
        (slice(0, 100), slice(0, 75)),
        (slice(50, 150), slice(75, 150)),
    ]


@pytest.mark.parametrize("length, side", [(101, 100), (1000, 96), (4000, 480), (97, 32), (64, 33)])
def test_windows_cover_overlap_and_own(length, side):
    found = windows(length, side)
    assert found[0][0].start == 0 and found[-1][0].stop == length
    owned = [i for _, part in found for i in range(part.start, part.stop)]
    assert owned == list(range(length))
    for (window, part), (following, _) in zip(found, found[1:], strict=False):
        assert window.stop - window.start == side
        assert window.stop - following.start >= side // 3
        margin = window.stop - part.stop  # nobody answers for pixels at a window's inner border
        assert margin >= side // 6 - 1


def test_windows_of_any_scale_and_shift_become_the_map_that_they_were_cut_from():
    truth = landscape(100, 140)
    rng = np.random.default_rng(0)

    def predict(places):
        return [rng.uniform(0.5, 2) * truth[place] + rng.uniform(-1, 1) for place in places]

    # The coarse look is right but for a detail that only windows see.
    whole = truth.copy()
    whole[20:24, 30:34] += 0.5
    result = blend(whole, 48, predict)
    assert np.abs(result - truth)[:, 80:].max() < 1e-4  # no window there has seen the detail
    assert np.abs(result - truth).max() < 0.1


def test_a_window_without_depth_leaves_the_whole_as_it_is():
    truth = landscape(64, 64)
    for nothing in (lambda shape: np.ones(shape), lambda shape: -landscape(*shape)):
        result = blend(truth, 64, lambda places, f=nothing: [f((64, 64)) for _ in places])
        np.testing.assert_allclose(result, truth, rtol=1e-6)


@pytest.mark.parametrize("kind", ["relative_inverse_depth", "metric_depth"])
def test_depth_of_a_large_photo(kind):
    metric = {"kind": kind, "scale": 0.1, "shift": 0.2} if kind == "metric_depth" else {}
    model = tiny.depth(preprocessor=tiny.preprocessor((32, 64)), **metric)
    (photo,) = tiny.photos(1, 60, 110)
    whole = model.predict_image(photo)
    result = model.predict_image(photo, sliding_window=48)
    assert (result.kind, result.values.shape) == (whole.kind, whole.values.shape)
    assert np.isfinite(result.values).all() and (result.values >= 0).all()
    assert not np.allclose(result.values, whole.values)
    # One window that is the photo itself changes nothing.
    same = model.predict_image(photo, sliding_window=200)
    np.testing.assert_allclose(same.values, whole.values, rtol=1e-4)


def test_sizes_that_make_no_sense():
    with pytest.raises(ValueError, match="one number, at least 32. Received: 31"):
        tiny.depth().predict_image(np.zeros((64, 64, 3), "uint8"), sliding_window=31)


def test_windows_fade_into_each_other():
    """Each window has details of its own that no scale and shift remove: no seam shows where."""
    whole = landscape(96, 240)
    rng = np.random.default_rng(0)

    def predict(places):
        waves = [np.cos(np.arange(96) / 9 + rng.uniform(0, 6))[:, None] for _ in places]
        return [whole[p] + 0.5 * wave for p, wave in zip(places, waves, strict=True)]

    result = blend(whole, 96, predict)
    steps = np.abs(np.diff(result - whole, axis=1)).max(axis=0)
    assert len(windows(240, 96)) == 4
    # Half of a window's own detail would appear at once at the border of the next.
    assert steps.max() < 0.08
