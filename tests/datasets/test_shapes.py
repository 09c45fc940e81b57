"""Shapes in front of training pictures: their depth is that of real solids."""

import cv2
import numpy as np
import pytest

from keras_dpt.datasets import Augmentation, Sample, Shapes
from keras_dpt.datasets.kinds import KINDS
from keras_dpt.datasets.shapes import _Camera, _mixed
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
