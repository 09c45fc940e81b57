"""What targets look like: metres, inverse depth, masks that are no labels."""

import numpy as np
import pytest

from keras_dpt.models.targets import DepthsSeen, LabelsSeen

NAMES = ("sky", "road", "car")


def labels_seen(*batches, **options):
    seen = LabelsSeen(options.get("names", NAMES), 255)
    for batch in batches:
        seen.add(np.array(batch))
    return seen


def test_all_classes_were_seen():
    assert labels_seen([[[0, 1, 2]]]).message() is None
    assert labels_seen([[[0, 1]]], [[[2, 255]]]).message() is None
    assert labels_seen(np.eye(3)[None, None]).message() is None
    assert labels_seen().message() is None
    assert labels_seen([[[0]]], names=("sky",)).message() is None


def test_classes_that_no_pixel_has_are_named():
    seen = labels_seen([[[0, 2, 255, -1]]])
    assert seen.message().startswith("no pixel is labelled 1 (road), so")
    assert seen.message(whole=False) is None and seen.early_message() is None
    assert "labelled 1 (road), 2 (car), so" in labels_seen(np.eye(3)[None, None, :1]).message()
    # One-hot labels of other classes are refused elsewhere.
    assert "0 (sky), 1 (road), 2 (car)" in labels_seen(np.ones((1, 1, 1, 2))).message()
    many = labels_seen([[[1]]], names=[str(i) for i in range(9)]).message()
    assert "0 (0), 2 (2), 3 (3), 4 (4), 5 (5) and 3 more, so" in many
    six = labels_seen([[[1]]], names=[str(i) for i in range(6)]).message()
    assert "5 (5), so" in six


def test_masks_of_0_and_255_are_no_labels():
    masks = [[[[0, 255]]]] * 20
    assert labels_seen(*masks[:19]).early_message() is None
    for message in (labels_seen(*masks).early_message(), labels_seen(*masks[:1]).message()):
        assert "labels hold only 0 and 255" in message and "predict 'sky' everywhere" in message
    late = labels_seen([[[0, 255]]], [[[0]]]), labels_seen([[[0]]], [[[0, 255]]])
    assert all("labels hold only 0 and 255" in seen.message() for seen in late)
    assert "no pixel" in labels_seen([[[0]]]).message()
    assert "no pixel" in labels_seen([[[1, 255]]]).message()


def depth(low, high, rises=False):
    """A batch whose lower rows are the larger ones, or the other way round."""
    rows = np.linspace(low, high, 12)
    return np.broadcast_to((rows if rises else rows[::-1])[None, :, None], (2, 12, 8))


def said(values, is_metric):
    seen = DepthsSeen(is_metric)
    seen.add(np.asarray(values))
    assert seen.early_message() == seen.message()
    return seen.message()


def test_metres_and_inverse_depth_are_what_they_should_be():
    assert said(depth(1, 10), True) is None
    assert said(1 / depth(1, 10), False) is None
    assert said(depth(1, 10)[..., None], True) is None
    assert DepthsSeen(True).message() is None


def test_millimetres_for_metres():
    message = said(depth(1000, 10_000), True)
    assert message.startswith("the targets' median is 5500, but") and "by 1000" in message
    assert said(depth(250, 350), True) is None  # half of it is no farther than that
    assert said(depth(260, 360), True) is not None


def test_inverse_depth_for_metres():
    inverse = 1 / depth(2.5, 10)
    assert "look like inverse depth" in said(inverse, True)
    # Something very near, such as a hand: nearer at the bottom, as metres are.
    assert said(depth(0.1, 0.4), True) is None
    assert "look like inverse depth" in said(np.full((1, 12, 8), 0.3), True)


def test_metres_for_inverse_depth():
    assert "they look like metres" in said(depth(1.5, 10), False)
    assert said(depth(1.5, 10, rises=True), False) is None  # disparities
    assert said(depth(0.1, 0.9), False) is None
    assert said(depth(2, 400), False) is None
    assert "they look like metres" in said(depth(2, 300), False)


def test_unknown_pixels_do_not_count():
    values = depth(1, 10).copy()
    values[:, ::2] = 0
    values[:, 1, 0] = np.nan, np.inf
    assert said(values, True) is None
    assert said(np.zeros((1, 12, 8)), True) is said(np.zeros((1, 12, 8)), False) is None
    values = 1000 * depth(1, 10)
    values[:, ::2] = np.nan
    assert "by 1000" in said(values, True)


@pytest.mark.parametrize("shape", [(12, 8), (2, 12, 8, 3), (2, 2, 12, 8, 1)])
def test_other_shapes_are_refused_elsewhere(shape):
    assert said(np.full(shape, 5000.0), True) is None


def test_the_first_batch_is_judged():
    seen = DepthsSeen(True)
    seen.add(depth(1, 10))
    seen.add(depth(1000, 10_000))
    assert seen.message() is None
    seen = DepthsSeen(True)
    seen.add(np.concatenate([depth(1, 10)] * 8 + [depth(1000, 10_000)] * 20))
    assert seen.message() is None  # of it the first sixteen


def test_images_of_two_rows_have_no_slope():
    assert "look like inverse depth" in said(np.array([[[0.1], [0.2]]]), True)
