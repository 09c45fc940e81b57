import re
import threading

import numpy as np
import pytest
from files import photo, save

from keras_dpt.datasets import (
    Augmentation,
    Batches,
    DataWarning,
    Source,
    TargetKind,
    check,
    folder,
)
from keras_dpt.datasets.kinds import KINDS
from keras_dpt.errors import DataError, KerasDPTError


def source(target, image=None, kind="metric_depth", ids=("a",), **options):
    image = photo() if image is None else image
    return Source("set", list(ids), lambda i: (image, target), kind, **options)


def labels(target, **options):
    names = ("sky", "road", "car")
    return source(np.resize(target, (12, 16)), kind="labels", class_names=names, **options)


def test_validity_of_depth():
    depth = np.full((12, 16), 2.0)
    depth[0, :4] = 0, -1, np.nan, np.inf
    image, target, valid = source(depth)[0]
    assert image.dtype == np.uint8 and target.dtype == np.float32 and valid.dtype == bool
    np.testing.assert_array_equal(valid[0], [False] * 4 + [True] * 12)
    np.testing.assert_array_equal(target, np.where(valid, 2, 0))


def test_validity_of_labels():
    sample = labels(np.array([0, 1, 2, 255], "uint8"))[0]
    assert sample.target.dtype == np.uint8
    np.testing.assert_array_equal(sample.valid, sample.target != 255)


def test_16_bit_pictures_become_8_bit():
    image = source(np.ones((12, 16)), image=np.full((12, 16, 3), 99.6, "float32"))[0].image
    assert image.dtype == np.uint8 and (image == 100).all()


@pytest.mark.parametrize("shape", [(12, 15), (16, 12), (12, 16, 1), (12,)])
def test_target_of_another_size(shape):
    with pytest.raises(DataError, match=r"set, sample a: .*the image 12 x 16.*resize"):
        source(np.ones(shape))[0]


@pytest.mark.parametrize(("wrong", "named"), [(3, "3"), (254, "254"), (-1, "-1")])
def test_ids_that_are_no_class(wrong, named):
    with pytest.raises(DataError, match=rf"no class \({named}\).* 0 to 2, or are 255"):
        labels(np.array([0, wrong]))[0]


def test_ids_that_are_no_numbers():
    with pytest.raises(DataError, match="float64"):
        labels(np.array([0.0, 1.0]))[0]


@pytest.mark.parametrize(
    ("depth", "guess"), [(2570, "millimetres taken"), (0.0026, "metres taken")]
)
def test_wrong_unit_is_warned_of_once(depth, guess):
    depths = source(np.full((12, 16), depth), ids=("a", "b"))
    with pytest.warns(DataWarning, match=rf"set, sample a: .*{depth:g} m.*{guess}"):
        depths[0]
    depths[1]  # a second warning would be an error


@pytest.mark.parametrize("depth", [0.02, 80, 299])
def test_right_units_pass(depth):
    assert source(np.full((12, 16), depth))[0].valid.all()


def test_errors_of_reading_are_named():
    def read(index):
        raise KerasDPTError("bad file")

    with pytest.raises(DataError, match="set, sample b: bad file"):
        Source("set", ["a", "b"], read, "metric_depth")[1]


def broken(index):
    return {}["depth"]


@pytest.mark.parametrize(
    "use",
    [
        lambda source: source[1],
        lambda source: list(source),
        lambda source: source.subset([1])[0],
        lambda source: source.changed(lambda image, target: (image, target))[1],
        lambda source: Batches(source, (8, 8), 1, augment=False)[1],
        lambda source: list(Batches(source, (8, 8), 1, augment=False).to_tf_dataset()),
    ],
)
def test_errors_of_a_users_reader_are_named(use):
    """With source and sample, and the error itself as the cause."""

    def read(index):
        return broken(index) if index else (photo(), np.ones((12, 16)))

    with pytest.raises(Exception, match=r"set, sample b: 'depth' \(KeyError\)") as caught:
        use(Source("set", ["a", "b"], read, "metric_depth"))
    if isinstance(caught.value, DataError):  # not inside `tf.data`
        assert isinstance(caught.value.__cause__, KeyError)


def test_errors_of_a_users_reader_can_be_listed_and_skipped():
    def read(index):
        return broken(index) if index else (photo(), np.ones((12, 16)))

    pairs = Source("set", ["a", "b"], read, "metric_depth")
    assert check(pairs) == {"b": "set, sample b: 'depth' (KeyError)"}
    batches = Batches(pairs, (8, 8), 1, augment=False, on_error="skip")
    with pytest.warns(DataWarning, match="Skipped: set, sample b: 'depth'"):
        assert batches[1][0].shape == (1, 8, 8, 3)
    always = Source("set", ["a", "b"], broken, "metric_depth")
    batches = Batches(always, (8, 8), 1, on_error="skip")
    with (
        pytest.warns(DataWarning),
        pytest.raises(DataError, match="in a row cannot be used. .*KeyError") as caught,
    ):
        batches[0]
    assert isinstance(caught.value.__cause__, KeyError)


def test_errors_of_a_users_kind_are_named(tmp_path):
    """Of its reader with the file, of what it does with a sample with the sample's name."""

    class Odd(TargetKind):
        kind = "odd"

        def reader(self, unit=None):
            return lambda path: np.array(float(path.read_text()))

        def mirrored(self, values):
            raise ZeroDivisionError("no mirror")

    try:
        (tmp_path / "targets").mkdir()
        save(tmp_path / "photos" / "a.jpg", photo())
        file = tmp_path / "targets" / "a.npy"
        file.write_text("one")
        pairs = folder(tmp_path / "photos", tmp_path / "targets", "odd", name="set")
        with pytest.raises(DataError, match=f"set, sample a: {re.escape(str(file))}: could not"):
            pairs[0]
        flipped = Batches(
            source(np.ones((12, 16)), kind="odd"), (8, 8), 1, "odd", Augmentation(flip=1.0)
        )
        with pytest.raises(DataError, match="set, sample a: no mirror") as caught:
            flipped[0]
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
    finally:
        del KINDS["odd"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "depth"}, "kind must be one of"),
        ({"ids": ()}, "no samples"),
        ({"kind": "labels"}, "class_names are required"),
        ({"class_names": ["a"]}, "must be None otherwise"),
        ({"kind": "relative_inverse_depth", "sparse": True}, "only metric depth can be sparse"),
    ],
)
def test_contradictions(options, message):
    with pytest.raises(DataError, match=message):
        source(np.ones((12, 16)), **options)


def test_is_a_sequence():
    many = Source(
        "set", list("abcd"), lambda i: (photo(), np.full((12, 16), i + 1)), "metric_depth"
    )
    assert len(many) == 4 and [s.target[0, 0] for s in many] == [1, 2, 3, 4]
    assert many[-1].target[0, 0] == 4
    with pytest.raises(IndexError):
        many[4]
    part = many.subset(slice(1, None, 2))
    assert part.ids == ["b", "d"] and [s.target[0, 0] for s in part] == [2, 4]
    assert part.subset([1])[0].target[0, 0] == 4
    cut = many.changed(lambda image, target: (image[:5], target[:5]))
    assert cut[0].image.shape == (5, 16, 3) and cut[3].target[0, 0] == 4


def test_changes_get_equal_sizes():
    changed = source(np.ones((13, 16))).changed(lambda image, target: (image[:5], target[:5]))
    with pytest.raises(DataError, match="13 x 16"):
        changed[0]


def test_check_lists_what_is_wrong():
    depths = [np.ones((12, 16)), np.zeros((12, 16)), np.ones((5, 5))]
    problems = check(Source("set", list("abc"), lambda i: (photo(), depths[i]), "metric_depth"))
    assert list(problems) == ["b", "c"]
    assert "no pixel" in problems["b"] and "5 x 5" in problems["c"]


def test_check_warns_of_masks_of_0_and_255():
    def masks(values):
        return Source(
            "cracks",
            ["a", "b"],
            lambda i: (photo(), np.full((12, 16), values[i], "uint8")),
            "labels",
            class_names=("wall", "crack"),
        )

    with pytest.warns(DataWarning, match="cracks: the labels hold only 0 and 255.*mask == 255"):
        check(masks((0, 255)))
    with pytest.warns(DataWarning, match=r"no pixel is labelled 1 \(crack\)"):
        check(masks((0, 0)))
    assert check(masks((0, 1))) == {}


def test_threads_may_share_a_source():
    shared = Source(
        "set", list("abcd"), lambda i: (photo(), np.full((12, 16), i + 1)), "metric_depth"
    )
    seen = []
    threads = [
        threading.Thread(target=lambda: seen.append([s.target[0, 0] for s in shared]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [[1, 2, 3, 4]] * 4


@pytest.mark.parametrize(
    "pair, message",
    [
        (None, r"must return \(image, target\). Received: NoneType"),
        ({"image": 0, "target": 1}, "Received: dict"),
        ((np.full((4, 6, 3), 0.5), np.ones((4, 6))), "the image: "),  # not a black image
    ],
)
def test_what_a_reader_returns_by_mistake(pair, message):
    source = Source("mine", ["a"], lambda i: pair, "metric_depth")
    with pytest.raises(DataError, match=f"mine, sample a: .*{message}"):
        source[0]


def test_the_target_of_a_kind_is_called_like_it_by_default():
    class Mine(TargetKind):
        kind = "test_source_mine"

    try:
        assert Mine.target == "test_source_mine"
    finally:
        del KINDS["test_source_mine"]


def test_names_of_kinds_are_taken_once():
    for names in ({"kind": "labels", "target": "mine"}, {"kind": "mine", "target": "depth"}):
        with pytest.raises(ValueError, match="which are taken by keras_dpt.datasets.kinds"):
            type("Mine", (TargetKind,), names)


def test_how_a_source_looks():
    assert repr(source(np.ones((12, 16)))) == "Source('set', 1 samples of metric_depth)"
    assert repr(labels(np.array([0]))) == "Source('set', 1 samples of labels, 3 classes)"


def test_a_part_is_like_the_whole():
    """Its name, classes and unknown id; or whether its depth is of single points."""
    ids = np.array([0, 1, 2, 9], "uint8")
    whole = labels(ids, ignore_index=9)
    sparse = source(np.ones((12, 16)), sparse=True)
    for part in (whole.subset([0]), whole.changed(lambda image, target: (image, target))):
        found = part.name, part.kind, part.class_names, part.ignore_index, part.sparse
        assert found == ("set", "labels", ("sky", "road", "car"), 9, False)
        np.testing.assert_array_equal(part[0].valid, whole[0].valid)
    assert sparse.subset([0]).sparse and sparse.changed(lambda *pair: pair).sparse


def test_levels_beyond_8_bits_are_cut_off():
    levels = np.resize(np.array([-3.0, 0.4, 0.6, 254.4, 254.6, 300.0], "float32"), (12, 16, 3))
    image = source(np.ones((12, 16)), image=levels)[0].image
    np.testing.assert_array_equal(image, np.clip(np.rint(levels), 0, 255))


@pytest.mark.parametrize(
    ("depth", "unit"), [(301.0, "mm"), (299.0, None), (0.0099, "m"), (0.011, None)]
)
def test_units_that_are_doubted(depth, unit):
    """Where more than half of what is known is too far or too near."""
    kind, other = KINDS["metric_depth"], 5.0
    for share, is_doubted in ((0.5, False), (0.6, True)):
        values = np.where(np.arange(10) < 10 * share, depth, other)[None]
        doubt = kind.doubt(values, np.ones((1, 10), bool))
        assert (doubt is not None) == (is_doubted and unit is not None)
        if doubt:
            guess = "millimetres taken for metres" if unit == "mm" else "metres taken for milli"
            assert f"is {depth:g} m" in doubt and guess in doubt
            assert doubt.endswith(f'such as unit="{unit}".')
    valid = np.arange(10)[None] < 5  # nothing else counts
    values = np.where(valid, depth, 0)
    assert (kind.doubt(values, valid) is not None) == (unit is not None)


@pytest.mark.parametrize("shape", [(12, 16, 2), (12, 16, 3), (12, 16), (12, 15, 2)])
def test_targets_of_several_numbers_per_pixel(shape):
    class Pairs(TargetKind):
        kind = "test_source_pairs"
        channels = 2

    try:
        pairs = source(np.ones(shape), kind="test_source_pairs")
        if shape == (12, 16, 2):
            assert pairs[0].target.shape == shape and pairs[0].valid.all()
        else:
            message = r"12 x 15 but" if shape[1] == 15 else r"\(H, W, 2\)\. Received"
            with pytest.raises(DataError, match=message):
                pairs[0]
    finally:
        del KINDS["test_source_pairs"]
