"""What is said of data, labels, sizes and arguments before any work: no network is needed."""

import keras
import numpy as np
import pytest

import keras_dpt
from keras_dpt.errors import LabelError, TrainingError, WeightsError
from keras_dpt.models.arguments import own_arguments, passes_on
from keras_dpt.models.checks import (
    check_alone,
    check_arrays,
    check_batch,
    check_depth_sizes,
    split_at,
)
from keras_dpt.models.data import Arrays, is_arrays, only_value, over_elements, steps_of
from keras_dpt.models.finite import all_finite, check_finite
from keras_dpt.models.label_checks import check_labels, checked_labels, class_table
from keras_dpt.models.samples import _per_image, _with_channel
from keras_dpt.models.sizes import checked_size
from keras_dpt.models.windows import check_side, windows

X = np.zeros((4, 6, 8, 3), "float32")


# --- images and what comes with them ---


@pytest.mark.parametrize("x", [X, list(X), tuple(X)])
def test_images_are_batches_of_one_shape(x):
    check_batch(x, "predict")


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (None, "`predict` was given no images"),
        (X[:0], "`predict` was given no images"),
        ([], "`predict` was given no images"),
        ("photo.jpg", "Received: str"),
        (X[0], r"Received: 6 of shape \(8, 3\)"),
        ([X[0], X[0, 0]], r"Received: 2 of shape \(8, 3\)"),
        ([X[0], X[0, 1:]], r"images of one shape. Received: \(6, 8, 3\) and \(5, 8, 3\)"),
    ],
)
def test_what_are_no_images(x, words):
    with pytest.raises(TrainingError, match=words):
        check_batch(x, "predict")


@pytest.mark.parametrize(
    ("y", "weight", "words"),
    [
        (None, None, "one target `y` for each of the 4 images `x`. Received: none"),
        (X[:3], None, "one target `y` .* Received: 3"),
        (5.0, None, "one target `y` .* Received: 5.0"),
        ("abcd", None, "one target `y` .* Received: 'abcd'"),
        (X, np.ones(5), "one `sample_weight` .* Received: 5"),
    ],
)
def test_one_target_and_one_weight_per_image(y, weight, words):
    check_arrays(X, X, np.ones(4), "fit")
    check_arrays(X, X, None, "fit")
    with pytest.raises(TrainingError, match=words):
        check_arrays(X, y, weight, "fit")


def test_data_with_targets_of_their_own_take_no_others():
    check_alone(None, None, "DataLoader", "fit")
    for y, weight in ((X, None), (None, X)):
        with pytest.raises(TrainingError, match="A `DataLoader` gives its own .* `fit` was given"):
            check_alone(y, weight, "DataLoader", "fit")


def test_where_a_training_set_is_split():
    assert split_at(10, 0.2) == 8 and split_at(10, 0.25) == 7 and split_at(2, 0.5) == 1
    for share in (0, 1, -0.5, 1.5):
        with pytest.raises(TrainingError, match="must be above 0 and below 1"):
            split_at(10, share)
    with pytest.raises(TrainingError, match="of 4 images leaves none to train with"):
        split_at(4, 0.9)
    with pytest.raises(TrainingError, match="of 1 images leaves none to train with"):
        split_at(1, 0.1)


SIZED = keras_dpt.DPTImageConverter((64, 96), multiple_of=32)


@pytest.mark.parametrize(
    ("targets", "converter", "words"),
    [
        ((4,), None, "must be .batch, height, width. or"),
        ((4, 6, 8, 2), None, r"Received: \(4, 6, 8, 2\)"),
        ((4, 6, 8, 1, 1), None, "Depth targets must be"),
        ((4, 6, 9), None, r"Targets are 6 x 9 .*, but images are 6 x 8 .* to 6 x 8\.$"),
        ((4, 64, 32, 1), SIZED, r"or set `model.preprocessor.image_size = \(64, 32\)`"),
        ((4, 64, 33, 1), SIZED, r"Resize the targets to 6 x 8\.$"),
    ],
)
def test_depth_has_the_size_of_images(targets, converter, words):
    for fine in ((4, 6, 8), (4, 6, 8, 1), (None, None, 8, None), (4, 6, None)):
        check_depth_sizes(X.shape, fine, converter)
    check_depth_sizes((None, None, None, 3), (4, 6, 9), converter)
    with pytest.raises(TrainingError, match=words):
        check_depth_sizes(X.shape, targets, converter)


def test_a_dictionary_of_one():
    assert only_value(X, "Images", ("images",)) is X
    assert only_value({"images": X}, "Images", ("image", "images")) is X
    for wrong in ({"pictures": X}, {"images": X, "labels": X}, {}):
        with pytest.raises(TrainingError, match="must be an array or a dictionary such as"):
            only_value(wrong, "Images", ("image", "images"))


# --- batches ---


def test_arrays_in_batches():
    x, y = np.arange(7), 10 * np.arange(7)
    batches = Arrays((x, y, None), 3)
    assert len(batches) == 3 and len(Arrays((x, y, None), None)) == 1
    found = [batches[i] for i in range(3)]
    assert [len(batch[0]) for batch in found] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([batch[0] for batch in found]), x)
    assert all((10 * a == b).all() and c is None for a, b, c in found)
    with pytest.raises(TrainingError, match="`batch_size` must be at least 1. Received: 0"):
        Arrays((x, y, None), 0)
    assert len(Arrays((x, y, None), 1)) == 7
    assert len(Arrays((np.arange(65), None), None)) == 3  # 32 at once, as in Keras


def test_shuffled_arrays_come_in_another_order_every_epoch():
    x = np.arange(50)
    batches = Arrays((x, 10 * x), 50, shuffle=True)
    first, targets = batches[0]
    np.testing.assert_array_equal(targets, 10 * first)
    batches.on_epoch_end()
    second, _ = batches[0]
    assert not np.array_equal(first, x) and not np.array_equal(first, second)
    np.testing.assert_array_equal(np.sort(second), x)
    plain = Arrays((x,), 50)
    plain.on_epoch_end()
    np.testing.assert_array_equal(plain[0][0], x)


def test_elements_of_streams():
    seen = []
    mapped = over_elements(lambda x, y=None, weight=None: seen.append((x, y, weight)))
    mapped(1)
    mapped((1, 2))
    mapped(1, 2)
    mapped(1, 2, 3)
    assert seen == [(1, None, None), (1, 2, None), (1, 2, None), (1, 2, 3)]


def test_kinds_of_data():
    assert is_arrays(X) and is_arrays(None) and not is_arrays(Arrays((X,), 2))
    assert not is_arrays(iter_of([X])) and steps_of(iter_of([X]), None, "steps") is None
    assert steps_of(X, 5, "steps") == 5


def iter_of(values):
    yield from values


def test_weights_of_images_lose_axes_of_one():
    weights = np.array([1.0, 2.0])
    for shape in ((2,), (2, 1), (2, 1, 1)):
        np.testing.assert_array_equal(_per_image(weights.reshape(shape)), weights)
    per_pixel = np.ones((2, 1, 4))
    assert _per_image(per_pixel) is per_pixel and _per_image(None) is None


def test_targets_of_unknown_rank_get_a_channel():
    assert _with_channel(X[..., 0]).shape == (4, 6, 8, 1)
    assert _with_channel(X[..., :1]).shape == (4, 6, 8, 1)
    with pytest.raises(TrainingError, match=r"maps of one channel. Received: \(4, 6, 8, 3\)"):
        _with_channel(X)


# --- labels ---


def test_labels_are_classes_or_unknown():
    check_labels(np.array([[[0, 2], [255, 1]]]), 3, 255)
    check_labels(np.array([[[0, 2], [255, 1]]])[..., None], 3, 255)
    check_labels(np.eye(3)[None, None], 3, 255)
    check_labels(np.zeros((1, 1, 3, 3)), 3, 255)  # no class anywhere: unknown


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array([[[3]]]), "from 0 to 2, or 255 where unknown. Received: 3"),
        (np.array([[[-1]]]), "Received: -1"),
        (np.array([[[np.nan]]]), "Received: nan"),
        (np.zeros((4, 4)), r"Received: \(4, 4\)"),
        (np.zeros((1, 2, 3, 4, 1)), "Labels must be"),
        (np.zeros((1, 4, 4, 2)), r"of the 3 classes; .* Received: \(1, 4, 4, 2\)\.$"),
        (np.zeros((1, 3, 4, 4)), "Move the channels last"),
        (np.zeros((1, 1, 4, 4)), "Move the channels last"),
        (np.full((1, 2, 2, 3), 0.5), "hold other numbers"),
        (np.ones((1, 2, 2, 3)), "hold other numbers"),
    ],
)
def test_labels_that_are_none(labels, words):
    with pytest.raises(LabelError, match=words):
        check_labels(labels, 3, 255)


def test_only_our_loss_wants_one_hot_labels():
    seen = []
    soft = np.full((1, 2, 2, 3), 1 / 3)
    assert checked_labels(soft, seen.append, is_ours=False) is soft and not seen
    for y, is_ours in ((soft, True), (soft[..., :1], False), (soft[..., 0], False)):
        assert checked_labels(y, seen.append, is_ours) is y
    assert [y.shape for y in seen] == [(1, 2, 2, 3), (1, 2, 2, 1), (1, 2, 2)]


def test_weights_of_classes():
    np.testing.assert_array_equal(class_table({0: 2, 2: 0.5}, 3), np.float32([2, 1, 0.5]))
    assert class_table({}, 2).dtype == np.float32
    np.testing.assert_array_equal(class_table({1: 0}, 2), [1, 0])
    for wrong in ({3: 1}, {-1: 1}, {"1": 1}, {0.5: 1}, {0: -1}, {0: float("inf")}, {0: None}, 5):
        with pytest.raises(LabelError, match="ids from 0 to 2 and weights from 0 on"):
            class_table(wrong, 3)


# --- sizes, arguments, weights ---


def test_sizes_are_whole_numbers_above_0():
    assert checked_size(None) is None
    assert checked_size(64) == checked_size([64]) == checked_size((64, 64)) == (64, 64)
    found = checked_size(np.array([64, 96]))
    assert found == (64, 96) and all(type(side) is int for side in found)
    assert checked_size((1, 1)) == (1, 1)
    for wrong in (0, -1, (64, 0), 64.0, True, (1, 2, 4), (), "64", (None, 64)):
        with pytest.raises(ValueError, match=r"above 0. Received: .*\.$"):
            checked_size(wrong)
    with pytest.raises(ValueError, match="Leave out the channels"):
        checked_size((64, 96, 3))


def test_sides_of_windows():
    for fine in (None, 32, 33):
        check_side(fine, 32)
    for wrong in (31, 32.0, "32", (32, 32)):
        with pytest.raises(ValueError, match="one number, at least 32"):
            check_side(wrong, 32)


def test_three_windows_by_hand():
    # 240 pixels, windows of 96: as many as two thirds of a window apart, spread evenly.
    starts = [window.start for window, _ in windows(240, 96)]
    assert starts == [0, 48, 96, 144]
    parts = [(part.start, part.stop) for _, part in windows(240, 96)]
    assert parts == [(0, 72), (72, 120), (120, 168), (168, 240)]
    assert len(windows(10, 1)) == 10


def test_what_a_constructor_takes():
    names = own_arguments(keras_dpt.DPTDepth)
    assert {"backbone", "head_channels", "preprocessor", "kind"} <= names
    assert "self" not in names and "kwargs" not in names
    assert passes_on(keras_dpt.DPTDepth)

    class Own(keras_dpt.DPTDepth):
        def __init__(self, backbone, *, color="red", **kwargs):
            super().__init__(backbone, **kwargs)

    class Closed(keras_dpt.DPTDepth):
        def __init__(self, backbone, color="red"):
            super().__init__(backbone)

    assert own_arguments(Own) == names | {"color"}
    assert own_arguments(Closed) == {"backbone", "color"} and not passes_on(Closed)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_numbers_are_finite(dtype):
    values = np.full((3, 4), 3, dtype)
    assert all_finite(values) and all_finite(values.T)
    assert all_finite(np.full(4, np.finfo(dtype).max, dtype))  # whose product overflows
    for wrong in (np.nan, np.inf, -np.inf):
        values[1, 2] = wrong
        assert not all_finite(values)


def test_the_variable_that_is_not_finite_is_named():
    fine, counter = (
        keras.Variable([1.0], name="fine"),
        keras.Variable([1], dtype="int32", trainable=False),
    )
    bad = [keras.Variable([1.0, value], name=f"bad{value}") for value in (np.nan, np.inf)]
    check_finite([fine, counter], "a.h5")
    with pytest.raises(WeightsError, match=r"^a.h5 holds .* in badnan\. Fetch"):
        check_finite([fine, bad[0], counter], "a.h5")
    with pytest.raises(WeightsError, match="in badnan and 1 more variables"):
        check_finite([fine, *bad], "a.h5")
