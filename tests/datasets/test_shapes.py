"""Shapes in front of training pictures: their depth is that of real solids."""

import cv2
import numpy as np
import pytest
from chance import Chance

from keras_dpt.datasets import Augmentation, Sample, Shapes
from keras_dpt.datasets.kinds import KINDS
from keras_dpt.datasets.shapes import _Camera, _mixed, _textured
from keras_dpt.errors import DataError

DEPTH, INVERSE = KINDS["metric_depth"], KINDS["relative_inverse_depth"]
LIGHT = np.array([0.0, 0.0, -1.0])


def room(seed=0, known=0.9):
    """A sloping wall from 2 to 4 metres, of which some is unknown."""
    rng = np.random.default_rng(seed)
    depth = np.broadcast_to(np.linspace(2, 4, 64, dtype="float32"), (48, 64)).copy()
    valid = rng.random(depth.shape) < known
    image = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    return Sample(image, np.where(valid, depth, 0), valid)


def put(sample, kind=DEPTH, seed=0, **options):
    return Shapes(share=1.0, count=(3, 3), **options)(sample, np.random.default_rng(seed), kind)


def test_an_ellipsoid_lies_on_its_surface():
    camera = _Camera((48, 64), 1.0)
    rng = np.random.default_rng(1)
    centre, axes = np.array([0.2, -0.1, 3.0]), np.linalg.qr(rng.normal(size=(3, 3)))[0]
    half = np.array([0.5, 0.3, 0.7])
    inverse = camera.see(centre, axes, half, True, LIGHT).inverse.astype("float64")
    hit = inverse > 0
    assert 50 < hit.sum() < hit.size / 2
    points = camera.rays[hit] / inverse[hit][:, None]
    from_centre = (points - centre) @ axes / half
    np.testing.assert_allclose((from_centre**2).sum(-1), 1, atol=1e-5)
    # The near side, of the two where a ray meets the surface.
    assert ((points - centre) @ (axes / half**2 @ axes.T) * points).sum(-1).max() < 1e-5


def test_a_box_has_faces_whose_inverse_depth_is_affine_in_the_pixels():
    camera = _Camera((48, 64), 1.0)
    axes = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    centre, half = np.array([0.1, 0.1, 2.5]), np.array([0.4, 0.5, 0.3])
    inverse = camera.see(centre, axes, half, False, LIGHT).inverse.astype("float64")
    hit = inverse > 0
    points = camera.rays[hit] / inverse[hit][:, None]
    at = (points - centre) @ axes / half
    np.testing.assert_allclose(np.abs(at).max(axis=-1), 1, atol=1e-5)
    face = np.abs(at).argmax(axis=-1) * 2 + (
        np.take_along_axis(at, np.abs(at).argmax(axis=-1)[:, None], -1)[:, 0] > 0
    )
    rows, columns = np.nonzero(hit)
    assert 2 <= len(set(face)) <= 3
    for number in set(face):
        on = face == number
        if on.sum() < 4:
            continue
        pixels = np.stack([rows[on], columns[on], np.ones(on.sum())], axis=1)
        fitted = pixels @ np.linalg.lstsq(pixels, inverse[hit][on], rcond=None)[0]
        np.testing.assert_allclose(fitted, inverse[hit][on], atol=1e-6)


def test_they_only_come_in_front_and_leave_the_rest_alone():
    sample = room()
    changed = put(sample)
    nearer = changed.valid & (changed.target != sample.target)
    assert 20 < nearer.sum() < 0.9 * nearer.size
    assert (changed.target[nearer & sample.valid] < sample.target[nearer & sample.valid]).all()
    np.testing.assert_array_equal(changed.image[~nearer], sample.image[~nearer])
    assert changed.image.dtype == np.uint8
    # What was unknown is known where a shape stands, and nowhere else.
    np.testing.assert_array_equal(changed.valid, sample.valid | nearer)
    assert (changed.target[~changed.valid] == 0).all()
    assert np.isfinite(changed.target).all()


def test_what_is_nearer_hides_a_part_of_them():
    sample = room(known=1.0)
    for seed in range(5):  # their middles lie in the scene, so that a part would be behind it
        changed = put(sample, seed=seed, nearer=(0, 0))
        assert (changed.target <= sample.target).all()


def test_how_far_in_front_they_stand():
    sample = room()
    in_front = [put(sample, seed=3, nearer=(by, by)).target for by in (0, 0.5, 2)]
    nearest = [target[target > 0].min() for target in in_front]
    assert nearest[0] > 1.1 * nearest[1] > 1.2 * nearest[2]


def test_light_falls_on_them_and_rims_are_mixed():
    grey = room(known=1.0)._replace(image=np.full((48, 64, 3), 100, np.uint8))
    shades = 0
    for seed in range(10):
        shapes = Shapes(share=1.0, count=(1, 1), size=(0.5, 0.6))
        changed = shapes(grey, np.random.default_rng(seed), DEPTH)
        covered = (changed.target != grey.target).astype(np.uint8)
        inside = cv2.erode(covered, np.ones((7, 7), np.uint8)) > 0
        shades = max(shades, len(np.unique(changed.image[inside], axis=0)))
    assert shades > 10  # an ellipsoid's; all of the texture is one colour

    front = np.zeros((9, 9), bool)
    front[2:7, 2:7] = True
    mixed = _mixed(np.zeros((9, 9, 3), np.float32), np.full((9, 9, 3), 200.0), front)[..., 0]
    assert (mixed[~front] == 0).all() and mixed[4, 4] > 195
    assert 50 < mixed[2, 4] < 190


def test_depth_and_inverse_depth_get_the_same_shapes():
    sample = room()
    inverse = sample._replace(target=INVERSE.filled(1 / np.maximum(sample.target, 1), sample.valid))
    one, other = put(sample), put(inverse, INVERSE)
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_allclose(DEPTH.inverted(one.target, one.valid), other.target, rtol=1e-5)


def test_chance_decides_and_can_be_repeated():
    sample = room()
    np.testing.assert_array_equal(put(sample).target, put(sample).target)
    assert (put(sample).target != put(sample, seed=1).target).any()
    rng = np.random.default_rng(0)
    changed = [Shapes(share=0.5)(sample, rng, DEPTH) is not sample for _ in range(100)]
    assert 30 < sum(changed) < 70
    assert Shapes(share=0.0)(sample, rng, DEPTH) is sample


def test_unknown_pictures_stay_as_they_are():
    sample = room(known=0.0)
    assert put(sample) is sample


def test_in_an_augmentation_with_blur_and_noise():
    sample = room(known=1.0)
    plain = Augmentation(flip=0, gray=0, gamma=(1, 1), brightness=(1, 1), color=(1, 1))
    rng = np.random.default_rng
    same, _, _ = plain(sample, (48, 64), rng(0))
    noisy, target, _ = Augmentation(**vars(plain) | {"noise": (8, 8)})(sample, (48, 64), rng(0))
    inside = (same > 40) & (same < 215)
    assert 0 == noisy.min() < noisy.max() == 255
    assert np.std((noisy - same)[inside]) == pytest.approx(8, rel=0.05)
    np.testing.assert_array_equal(target, sample.target)
    soft, _, _ = Augmentation(**vars(plain) | {"blur": (1, 1)})(sample, (48, 64), rng(0))
    assert np.std(soft) < 0.5 * np.std(same)
    _, near, _ = Augmentation(**vars(plain) | {"shapes": Shapes(1.0)})(sample, (48, 64), rng(0))
    assert (near < sample.target).any()


def test_labels_are_refused_and_so_are_ranges_that_fall():
    labels = Sample(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), "int32"), np.ones((8, 8), bool))
    with pytest.raises(DataError, match="labels"):
        put(labels, KINDS["labels"])
    for wrong in ({"share": 1.5}, {"count": (3, 1)}, {"size": (-1, 1)}, {"nearer": (1, 0)}):
        with pytest.raises(DataError, match="Received"):
            Shapes(**wrong)


# ---- by hand: every number of chance is at the same place of its range -------------------------


@pytest.mark.parametrize("at", [0.0, 0.25, 0.9])
def test_where_a_shape_stands(at):
    camera = _Camera((48, 64), 1.0)
    inverse = np.random.default_rng(0).uniform(0.2, 0.5, (48, 64))
    shapes = Shapes(size=(0.2, 0.6), nearer=(0.1, 0.5))
    centre, axes, half, is_round, light = shapes._placed(inverse, 2.0, camera, Chance(at, [1, 1]))
    row, column, diameter = 48 * at, 64 * at, 48 * (0.2 + 0.4 * at)
    rows = slice(max(0, int(row - diameter / 2)), int(row + diameter / 2) + 1)
    columns = slice(max(0, int(column - diameter / 2)), int(column + diameter / 2) + 1)
    behind = np.percentile(inverse[rows, columns], 90)
    depth = 1 / (behind + 2.0 * (0.1 + 0.4 * at))
    x, y = (column + 0.5 - 32) / 64, (row + 0.5 - 24) / 64
    np.testing.assert_allclose(centre, depth * np.array([x, y, 1]))
    # Of its diameter in pixels the half in units of depth, and of that at least the half.
    np.testing.assert_allclose(half, [diameter / 64 * depth / 2 * (0.5 + 0.5 * at)] * 3)
    assert not is_round
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(light, np.array([1, 2, 3]) / np.sqrt(14))


@pytest.mark.parametrize(
    ("randoms", "is_round", "is_board"),
    [([0.29], True, False), ([0.3, 0.39], False, True), ([0.3, 0.4], False, False)],
)
def test_the_kinds_of_shapes(randoms, is_round, is_board):
    chance = Chance(0.5, randoms)
    camera = _Camera((48, 64), 1.0)
    _, _, half, found, _ = Shapes()._placed(np.full((48, 64), 0.5), 0.2, camera, chance)
    assert found == is_round and chance.randoms == []
    np.testing.assert_allclose(half, half[0] * np.array([1, 1, 0.02 if is_board else 1]))


def test_a_texture_by_hand():
    """A crop of 0.1 to 0.5 of each side to both sides of its middle, tinted.

    Beyond the picture it goes on with the colours of the border.
    """
    y, x = np.mgrid[:40, :60].astype("float32")
    image = np.stack([y, x, x + y], axis=-1).astype("uint8")
    at = np.stack(np.meshgrid([-1.5, 0.5, 1.0], [-1.5, 1.5], indexing="ij"), axis=-1)
    for place in (0.0, 0.5, 1.0):
        scale = (0.1 + 0.4 * place) * np.array([40, 60])
        middle = scale + place * (np.array([40, 60]) - 2 * scale)
        rows, columns = (
            np.clip(middle[n] + scale[n] * at[..., n], 0, side - 1)
            for n, side in enumerate((40, 60))
        )
        expected = np.stack([rows, columns, rows + columns], axis=-1) * (0.7 + 0.6 * place)
        found = _textured(image, at, Chance(place))
        np.testing.assert_allclose(found, expected, rtol=2e-2, atol=0.1)


@pytest.mark.parametrize("is_round", [True, False])
def test_light_by_hand(is_round):
    """Straight ahead, at the front of a shape that is not turned."""
    camera = _Camera((49, 65), 1.0)
    half = np.array([0.5, 0.3, 0.7])
    view = camera.see(np.array([0, 0, 3.0]), np.eye(3), half, is_round, LIGHT)
    assert view.inverse[24, 32] == pytest.approx(1 / 2.3, rel=1e-5)
    assert view.light[24, 32] == pytest.approx(0.9 + 0.35, rel=1e-5)
    from_behind = camera.see(np.array([0, 0, 3.0]), np.eye(3), half, is_round, -LIGHT)
    assert from_behind.light[24, 32] == pytest.approx(0.9 - 0.35, rel=1e-5)
    np.testing.assert_allclose(view.texture_at[24, 32], [0, 0], atol=1e-6)
    if is_round:
        # Where the ray meets it: the normal is that of an ellipsoid, not of a sphere.
        row, column = 28, 38
        point = camera.ray(row, column) / view.inverse[row, column]
        normal = (point - [0, 0, 3.0]) / half**2
        shade = 0.9 - 0.35 * normal[2] / np.linalg.norm(normal)
        assert view.light[row, column] == pytest.approx(shade, rel=1e-4)
        at = ((point - [0, 0, 3.0]) / half)[:2]
        np.testing.assert_allclose(view.texture_at[row, column], at, atol=1e-4)
    else:
        row, column = 28, 38
        point = camera.ray(row, column) / view.inverse[row, column]
        np.testing.assert_allclose(view.texture_at[row, column], point[:2] / half[:2], atol=1e-5)


@pytest.mark.parametrize(("direction", "axes"), [(0, (1, 2)), (1, (2, 0))])
def test_the_texture_of_a_boxs_other_faces(direction, axes):
    camera = _Camera((49, 65), 1.0)
    half, centre = np.array([0.2, 0.2, 0.2]), np.zeros(3)
    centre[[direction, 2]] = 0.6, 1.0  # its nearer side is seen
    view = camera.see(centre, np.eye(3), half, False, LIGHT)
    hit = view.inverse > 0
    at = (camera.rays / np.where(hit, view.inverse, 1)[..., None] - centre) / half
    others = np.delete(np.abs(at), direction, axis=-1).max(axis=-1)
    on = hit & (np.abs(at[..., direction]) > 0.999) & (others < 0.99)  # not at an edge
    assert on.sum() > 5
    np.testing.assert_allclose(view.texture_at[on], at[on][:, list(axes)], atol=1e-4)
    np.testing.assert_allclose(view.light[on], 0.9, atol=1e-6)  # beside the light


def test_behind_the_camera_there_is_nothing():
    camera = _Camera((9, 9), 1.0)
    for is_round in (True, False):
        view = camera.see(np.array([0, 0, -3.0]), np.eye(3), np.ones(3), is_round, LIGHT)
        assert not view.inverse.any()


def test_how_many_shapes(monkeypatch):
    placed = []

    def place(self, *arguments):
        placed.append(arguments)
        return np.array([0, 0, -1.0]), np.eye(3), np.ones(3), True, LIGHT

    monkeypatch.setattr(Shapes, "_placed", place)
    sample = room(known=1.0)
    for at, count in ((0.0, 2), (0.5, 4), (0.999, 5)):
        placed.clear()
        same = Shapes(share=1.0, count=(2, 5))(sample, Chance(at), DEPTH)
        assert len(placed) == count
        inverse, scene_range, camera, _ = placed[0]
        low, high = np.percentile(1 / sample.target, (5, 95))
        assert scene_range == pytest.approx(high - low, rel=1e-5)
        assert camera.focal == pytest.approx(64 * (0.8 + 0.6 * at))
        np.testing.assert_allclose(inverse, 1 / sample.target, rtol=1e-6)
        np.testing.assert_array_equal(same.target, sample.target)
    wall = sample._replace(target=np.full((48, 64), 4.0, "float32"))
    Shapes(share=1.0)(wall, Chance(), DEPTH)
    assert placed[-1][1] == pytest.approx(0.1 / 4)


def test_the_share_is_of_all_pictures():
    sample = room()
    for first, is_changed in ((0.49, True), (0.5, False)):
        changed = Shapes(share=0.5)(sample, Chance(0.5, [first]), DEPTH)
        assert (changed is not sample) == is_changed


def test_ranges_may_be_a_single_number():
    Shapes(share=0.0, count=(0, 0), size=(0.0, 0.0), nearer=(1, 1))
    Shapes(share=1.0)
    for wrong in ({"share": -0.1}, {"share": 1.1}):
        with pytest.raises(DataError, match="share goes from 0 to 1"):
            Shapes(**wrong)
