import cv2
import numpy as np
import pytest
from chance import Chance

from keras_dpt.datasets import PAPER_DEPTH, PAPER_SEGMENTATION, Augmentation, Sample
from keras_dpt.datasets.augmentation import centered
from keras_dpt.datasets.kinds import KINDS, resize_points

AS_IT_IS = Augmentation(flip=0, gamma=(1, 1), brightness=(1, 1), color=(1, 1), gray=0)


def sample(height=60, width=80):
    """A picture whose red and green say where a pixel is, and a target that says it too."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([2 * y, 2 * x, 0 * x], axis=-1).astype("uint8")
    target = (1000 * y + x + 1).astype("float32")
    valid = (x + y) % 7 > 0
    return Sample(image, np.where(valid, target, 0), valid)


def rng(seed=0):
    return np.random.default_rng(seed)


def check_aligned(image, target, valid, atol):
    """Red and green are twice the row and column that the target tells."""
    assert image.dtype == np.float32 and valid.dtype == bool
    rows, columns = np.divmod(target[valid] - 1, 1000)
    np.testing.assert_allclose(image[valid][:, 0], 2 * rows, atol=atol)
    np.testing.assert_allclose(image[valid][:, 1], 2 * columns, atol=atol)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("change", "size"),
    [
        (AS_IT_IS, (30, 40)),
        (Augmentation(**vars(AS_IT_IS) | {"rescale": (0.5, 2.0), "flip": 0.5}), (48, 48)),
        (Augmentation(**vars(AS_IT_IS) | {"longer_side": 52, "stretch": (0.8, 1.25)}), (48, 48)),
    ],
)
def test_image_and_target_stay_together(change, size, seed):
    given = sample()
    image, target, valid = change(given, size, rng(seed))
    assert image.shape == (*size, 3) and target.shape == valid.shape == size
    # The nearest pixel is half of one away at most, more where several became one.
    check_aligned(image, target, valid, atol=4)
    assert set(target[valid]) <= set(given.target[given.valid])  # no value in between
    assert (target[~valid] == 0).all()


def test_flip_is_exact():
    given = sample()
    change = Augmentation(**vars(AS_IT_IS) | {"flip": 1.0})
    image, target, valid = change(given, (60, 80), rng())
    np.testing.assert_array_equal(image, given.image[:, ::-1])
    np.testing.assert_array_equal(target, given.target[:, ::-1])
    np.testing.assert_array_equal(valid, given.valid[:, ::-1])


def test_what_the_window_shows_beyond_the_picture():
    change = Augmentation(**vars(AS_IT_IS) | {"longer_side": 40})
    given = Sample(*sample()[:2], np.ones((60, 80), bool))
    image, target, valid = change(given, (48, 48), rng(), fill=9)
    assert valid.sum() == 30 * 40
    assert (image[~valid] == 127.5).all() and (target[~valid] == 9).all()
    rows, columns = valid.any(1).nonzero()[0], valid.any(0).nonzero()[0]
    assert (np.ptp(rows), np.ptp(columns)) == (29, 39)
    tops = {change(given, (48, 48), rng(i))[2].any(1).argmax() for i in range(30)}
    assert min(tops) < 4 and max(tops) > 14  # anywhere


def test_windows_are_everywhere_and_of_every_scale():
    change = Augmentation(**vars(AS_IT_IS) | {"rescale": (1.0, 2.0)})
    corners, heights = [], []
    for i in range(60):
        _, target, valid = change(sample(), (30, 40), rng(i))
        rows = (target[valid] - 1) // 1000
        corners.append(rows.min())
        heights.append(np.ptp(rows) + 1)
    assert min(corners) == 0 and max(corners) > 20
    assert 28 <= min(heights) < 34 and 55 < max(heights) <= 60


def test_windows_are_covered_however_stretched():
    change = Augmentation(**vars(AS_IT_IS) | {"stretch": (0.5, 2.0)})
    full = Sample(*sample()[:2], np.ones((60, 80), bool))
    assert all(change(full, (48, 40), rng(i))[2].all() for i in range(20))


def test_light_changes_only_the_image():
    given = sample()
    image, target, valid = Augmentation(flip=0, gray=0)(given, (60, 80), rng(1))
    assert image.min() >= 0 and image.max() <= 255
    assert np.abs(image - given.image).max() > 5
    np.testing.assert_array_equal(target, given.target)
    gray = Augmentation(flip=0, gray=1)(given, (60, 80), rng(1))[0]
    assert (np.ptp(gray, axis=-1) == 0).all() and gray.std() > 5


def test_same_chance_same_result():
    first, again, other = (PAPER_SEGMENTATION(sample(), (48, 48), rng(i)) for i in (5, 5, 6))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_the_papers_sizes():
    picture = Sample(
        np.zeros((480, 640, 3), "uint8"), np.ones((480, 640)), np.ones((480, 640), bool)
    )
    _, _, valid = PAPER_DEPTH(picture, (384, 384), rng())
    assert valid.sum() == 288 * 384  # the longer side is 384, the rest of the window is empty
    shares = [PAPER_SEGMENTATION(picture, (480, 480), rng(i))[2].mean() for i in range(12)]
    assert max(shares) == 1 and 0.22 < min(shares) < 0.5  # 195 x 260 at the least


def test_center():
    given = sample(60, 80)
    image, target, valid = centered(given, (30, 40))
    assert target.shape == (30, 40)
    check_aligned(image, target, valid, atol=3)
    square = centered(given, (60, 60))
    np.testing.assert_array_equal(square[0], given.image[:, 10:70])
    np.testing.assert_array_equal(square[1], given.target[:, 10:70])


def test_points_move_and_none_is_invented():
    depth = np.zeros((4, 6), "float32")
    depth[0, 0], depth[1, 1], depth[3, 5] = 9, 3, 5
    small, valid = resize_points(depth, depth > 0, (2, 3))
    np.testing.assert_array_equal(small, [[3, 0, 0], [0, 0, 5]])  # the nearer one hides the other
    np.testing.assert_array_equal(valid, small > 0)
    large, valid = resize_points(depth, depth > 0, (8, 12))
    assert valid.sum() == 3 and large[1, 1] == 9 and large[3, 3] == 3 and large[7, 11] == 5
    np.testing.assert_array_equal(resize_points(depth, depth > 0, (4, 6))[0], depth)


def test_sparse_targets_keep_their_points():
    depth = np.zeros((60, 80), "float32")
    depth[::6, ::6] = 7
    given = Sample(np.zeros((60, 80, 3), "uint8"), depth, depth > 0)
    nearest, points = (AS_IT_IS(given, (15, 20), rng(), sparse)[2] for sparse in (False, True))
    assert points.sum() == (depth > 0).sum() > 2 * nearest.sum()


# ---- by hand: every number of chance is at the same place of its range -------------------------


PICTURE = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype("uint8")


@pytest.mark.parametrize("at", [0.0, 0.25, 1.0])
def test_light_by_hand(at):
    change = Augmentation(gamma=(0.5, 1.5), brightness=(0.6, 1.4), color=(0.9, 1.3), gray=0)
    gamma, brightness, color = (
        low + at * (high - low) for low, high in ((0.5, 1.5), (0.6, 1.4), (0.9, 1.3))
    )
    expected = 255 * (PICTURE / 255) ** gamma * brightness * color
    found = change._relight(PICTURE, Chance(at))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.minimum(expected, 255), rtol=1e-5)


@pytest.mark.parametrize(("chance", "is_gray"), [(0.29, True), (0.3, False)])
def test_gray_by_hand(chance, is_gray):
    change = Augmentation(gamma=(1, 1), brightness=(1, 1), color=(1, 1), gray=0.3)
    found = change._relight(PICTURE, Chance(0.5, [chance]))
    mean = np.repeat(PICTURE.mean(-1, keepdims=True), 3, axis=-1)
    np.testing.assert_allclose(found, mean if is_gray else PICTURE, rtol=1e-5)


def test_each_channel_has_a_factor_of_its_own():
    change = Augmentation(gamma=(1, 1), brightness=(1, 1), color=(0.2, 0.9), gray=0)
    found = change._relight(PICTURE, np.random.default_rng(0)) / np.maximum(PICTURE, 1)
    factors = np.median(found.reshape(-1, 3), axis=0)
    assert np.ptp(factors) > 0.05 and 0.2 < factors.min() < factors.max() < 0.9


@pytest.mark.parametrize("at", [0.0, 0.5])
def test_blur_and_noise_by_hand(at):
    image = PICTURE.astype("float32")
    soft = Augmentation(blur=(0.0, 2.0))._degraded(image, Chance(at))
    expected = cv2.GaussianBlur(image, (0, 0), 2 * at) if at else image
    np.testing.assert_array_equal(soft, expected)
    noisy = Augmentation(noise=(0.0, 6.0))._degraded(image, Chance(at))
    added = 6 * at * np.arange(1, image.size + 1).reshape(image.shape)
    np.testing.assert_allclose(noisy, np.clip(image + added, 0, 255), rtol=1e-6)
    assert noisy.dtype == np.float32
    np.testing.assert_array_equal(Augmentation()._degraded(image, Chance(at)), image)


@pytest.mark.parametrize(("chance", "flips"), [(0.24, True), (0.25, False)])
def test_how_often_pictures_are_mirrored(chance, flips):
    given = sample()
    change = Augmentation(**vars(AS_IT_IS) | {"flip": 0.25})
    image, target, valid = change(given, (60, 80), Chance(0, [1, chance]))  # the first: of grey
    step = -1 if flips else 1
    np.testing.assert_array_equal(image, given.image[:, ::step])
    np.testing.assert_array_equal(target, given.target[:, ::step])
    np.testing.assert_array_equal(valid, given.valid[:, ::step])


@pytest.mark.parametrize(("at", "first"), [(0.0, 0), (0.5, 10), (0.999, 20)])
def test_the_window_goes_from_border_to_border(at, first):
    image, _, _ = AS_IT_IS(sample(), (60, 60), Chance(at, [1, 1]))
    np.testing.assert_array_equal(image, sample().image[:, first : first + 60])


@pytest.mark.parametrize(
    ("change", "known"),
    [
        ({"longer_side": 40}, (30, 40)),
        ({"longer_side": 40, "rescale": (0.5, 0.9)}, (21, 28)),  # a factor of 0.7
        # A square root of a factor of 4 in width, and as much less in height.
        ({"longer_side": 32, "stretch": (4, 4)}, (6, 32)),
        ({"longer_side": 32, "stretch": (0.25, 0.25)}, (32, 11)),
    ],
)
def test_sizes_by_hand(change, known):
    change = Augmentation(**vars(AS_IT_IS) | change)
    full = Sample(*sample()[:2], np.ones((60, 80), bool))
    _, _, valid = change(full, (48, 48), Chance(0.5, [1, 1]))
    assert (valid.any(1).sum(), valid.any(0).sum()) == known


def test_a_sparse_target_is_that_of_its_kind():
    """Points are moved where they are depth; other kinds take the nearest."""
    depth = np.zeros((60, 80), "float32")
    depth[::6, ::6] = 7
    given = Sample(np.zeros((60, 80, 3), "uint8"), depth, depth > 0)
    for kind in KINDS.values():
        if kind.kind not in ("metric_depth", "relative_inverse_depth"):
            continue
        for sparse in (False, True):
            found = AS_IT_IS(given, (15, 20), Chance(0, [1, 1]), sparse, kind=kind)
            middle = centered(given, (15, 20), sparse, kind=kind)
            expected = kind.resized(depth, depth > 0, (15, 20), sparse)
            for result in (found, middle):
                np.testing.assert_array_equal(result[1], expected[0])
                np.testing.assert_array_equal(result[2], expected[1])
