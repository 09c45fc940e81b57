from collections import Counter

import keras
import numpy as np
import pytest
import tiny
from files import photo

from keras_dpt.datasets import Augmentation, Batches, DataWarning, Source, default_augmentation
from keras_dpt.datasets.batches import _Ahead
from keras_dpt.errors import DataError

STILL = Augmentation(flip=0, gamma=(1, 1), brightness=(1, 1), color=(1, 1), gray=0)


def depths(count=5, name="set", first=1, bad=(), **options):
    """A source whose samples are constant maps of `first`, `first + 1`, ... metres."""

    def read(index):
        if index in bad:
            raise DataError("the file is damaged.")
        depth = np.full((12, 16), first + index, "float32")
        depth[0] = np.nan
        return photo(seed=index), depth

    options = {"kind": "metric_depth"} | options
    return Source(name, [f"{i}" for i in range(count)], read, **options)


def batches(sources=None, batch_size=2, **options):
    options = {"size": (12, 16), "target": "depth", "threads": 0} | options
    return Batches(depths() if sources is None else sources, batch_size=batch_size, **options)


def drawn(batch):
    """The depths of a batch, by which samples are known."""
    return [float(y.max()) for y in batch[1]]


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_what_a_batch_is():
    image, target, weight = batches()[0]
    assert image.shape == (2, 12, 16, 3) and image.dtype == np.float32
    assert image.min() >= 0 and 200 < image.max() <= 255
    assert target.shape == (2, 12, 16, 1) and target.dtype == np.float32
    assert weight.shape == (2, 12, 16) and weight.dtype == np.float32
    assert (weight[:, 0] == 0).all() and (weight[:, 1:] == 1).all()
    assert (target[:, 0] == 0).all() and (target[:, 1:] >= 1).all()


def test_inverse_depth():
    metric = batches(target="inverse_depth", augment=False)
    np.testing.assert_allclose(metric[1][1][:, 1:, 0, 0], [[1 / 3] * 11, [1 / 4] * 11])
    assert np.isfinite(metric[1][1]).all() and (metric[1][1][:, 0] == 0).all()
    disparity = depths(kind="relative_inverse_depth")
    assert drawn(batches(disparity, target="inverse_depth", augment=False)[1]) == [3, 4]


def test_labels():
    ids = np.resize(np.array([0, 1, 9], "uint8"), (12, 16))
    source = Source("set", ["a"], lambda i: (photo(), ids), "labels", ["x", "y"], ignore_index=9)
    _, target, weight = batches(source, 1, target="labels", augment=False)[0]
    assert target.dtype == np.int32 and target.shape == (1, 12, 16)
    np.testing.assert_array_equal(target[0], ids)
    np.testing.assert_array_equal(weight[0], ids != 9)
    beyond = Augmentation(longer_side=8)
    _, target, weight = batches(source, 1, target="labels", augment=beyond)[0]
    assert weight.mean() < 0.3 and (target[weight == 0] == 9).all()


def test_sources_may_ignore_different_ids():
    def source(ignore_index):
        ids = np.resize(np.array([0, 1, 200], "uint8"), (12, 16)).astype("int16")
        ids[ids == 200] = ignore_index
        dtype = "uint8" if ignore_index > 0 else "int16"
        names = ["x", "y"]
        return Source(
            f"{ignore_index}",
            ["a"],
            lambda i: (photo(), ids.astype(dtype)),
            "labels",
            names,
            ignore_index,
        )

    _, target, weight = batches([source(-1), source(200)], target="labels", augment=False)[0]
    assert (target[weight == 0] == -1).all() and set(np.unique(target[weight == 1])) == {0, 1}


def test_max_depth():
    depth = np.arange(1, 17, dtype="float32") * np.ones((12, 1), "float32")
    source = Source("set", ["a"], lambda i: (photo(), depth), "metric_depth")
    _, target, weight = batches(source, 1, augment=False, max_depth=10)[0]
    np.testing.assert_array_equal(weight[0], depth <= 10)
    assert target.max() == 10


def test_each_sample_once_before_any_comes_again():
    data = batches(depths(5), 2)
    assert len(data) == 2
    seen = sum((drawn(data.batch(e, i)) for e in range(5) for i in range(2)), [])
    for lap in range(4):
        assert sorted(seen[5 * lap : 5 * lap + 5]) == [1, 2, 3, 4, 5]
    assert seen[:5] != seen[5:10]


@pytest.mark.parametrize(("count", "batch_size"), [(1, 3), (2, 3), (3, 2), (3, 6), (4, 1)])
def test_sources_have_equal_shares(count, batch_size):
    sizes = (1, 3, 50, 7)[:count]
    sources = [depths(n, f"s{i}", 1000 * (i + 1)) for i, n in enumerate(sizes)]
    sources = [s.changed(lambda image, depth: (image, depth / 100)) for s in sources]
    data = batches(sources, batch_size, steps_per_epoch=12)
    shares = Counter()
    for i in range(12):
        batch = Counter(int(d // 10) for d in drawn(data[i]))
        assert max(batch.values()) - min(batch[k + 1] for k in range(count)) <= 2
        shares += batch
    draws = 12 * batch_size
    assert all(abs(shares[k + 1] - draws / count) < 1 for k in range(count))
    # Every sample comes as often as any other of its source.
    first = [d for i in range(12) for d in drawn(data[i]) if d < 20]
    assert len(set(first)) == 1


def test_a_batch_depends_on_seed_epoch_and_index_only():
    data, again = batches(threads=2), batches()
    assert same(data[1], again.batch(0, 1))
    np.random.seed(1)
    keras.utils.set_random_seed(2)
    assert same(data.batch(3, 1), again.batch(3, 1))
    resumed = batches(initial_epoch=3)
    assert same(resumed[1], again.batch(3, 1))
    data.epoch = 3
    assert same(data[1], resumed[1])
    images = [
        batches(depths(1), 1, seed=s).batch(e, i)[0]
        for s, e, i in [(0, 0, 0), (1, 0, 0), (0, 1, 0)]
    ]
    assert not any(np.array_equal(images[0], image) for image in images[1:])


def test_global_chance_is_left_alone():
    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)
    batches()[0]
    assert np.random.random() == expected


def test_in_order_and_unchanged():
    data = batches([depths(3), depths(2, "other", first=10)], 2, augment=False)
    assert [drawn(data[i]) for i in range(len(data))] == [[1, 2], [3, 10], [11]]
    np.testing.assert_array_equal(data[0][0][1], photo(seed=1))
    data.epoch = 1
    assert drawn(data[0]) == [1, 2]
    assert len(batches(depths(5), 2, augment=False, steps_per_epoch=2)) == 2
    with pytest.raises(IndexError):
        data[3]


def test_changes_differ_between_epochs_even_in_order():
    data = batches(augment=True, shuffle=False)
    assert drawn(data.batch(0, 0)) == drawn(data.batch(1, 0)) == [1, 2]
    assert not np.array_equal(data.batch(0, 0)[0], data.batch(1, 0)[0])


def test_shards_make_up_a_batch():
    whole = batches(batch_size=4, steps_per_epoch=3)
    parts = [batches(batch_size=4, steps_per_epoch=3, shard=(k, 2)) for k in range(2)]
    for i in range(3):
        joined = [np.concatenate(arrays) for arrays in zip(parts[0][i], parts[1][i], strict=True)]
        assert same(joined, whole[i])


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing(threads):
    data, plain = batches(threads=threads), batches()
    for epoch in range(3):
        data.epoch = plain.epoch = epoch
        for i in (0, 0, 1, 0, 1):  # Keras looks at the first ones twice
            assert same(data[i], plain[i])


def test_work_is_done_ahead_of_time():
    reads = []

    def read(index):
        reads.append(index)
        return photo(), np.ones((12, 16))

    data = batches(Source("set", list("abcdefgh"), read, "metric_depth"), 1, threads=2)
    data[0]
    data._ahead._pool.shutdown()
    assert 2 <= len(reads) <= 4


def test_what_cannot_be_used_raises():
    data = batches(depths(3, bad=[1]), 1, augment=False, threads=2)
    data[0]
    with pytest.raises(DataError, match=r"set, sample 1: the file is damaged.*on_error"):
        data[1]
    empty = Source("set", ["a"], lambda i: (photo(), np.zeros((12, 16))), "metric_depth")
    with pytest.raises(DataError, match="set, sample a: no pixel"):
        batches(empty, 1)[0]
    with pytest.raises(DataError, match="no pixel"):
        batches(depths(), 1, max_depth=0.5)[0]


def test_what_cannot_be_used_is_skipped_and_counted():
    data = batches(depths(3, bad=[1]), 3, augment=False, on_error="skip")
    with pytest.warns(DataWarning, match="Skipped: set, sample 1"):
        assert drawn(data[0]) == [1, 3, 3]
    data[0]  # a second warning would be an error
    assert list(data.skipped) == ["set/1"] and "damaged" in data.skipped["set/1"]


def test_skipping_has_an_end():
    data = batches(depths(3, bad=[0, 1, 2]), 3, on_error="skip")
    with pytest.warns(DataWarning), pytest.raises(DataError, match="16 samples in a row"):
        data[0]


def test_contradictions():
    labels = Source("ids", ["a"], lambda i: (photo(), photo()[..., 0]), "labels", ["x", "y"])
    others = Source("more", ["a"], lambda i: (photo(), photo()[..., 0]), "labels", ["x", "z"])
    for options, message in [
        ({"target": "disparity"}, "target must be one of"),
        ({"sources": []}, "no sources"),
        ({"sources": labels}, "ids holds labels"),
        ({"target": "labels"}, "set holds metric_depth"),
        (
            {"sources": depths(kind="relative_inverse_depth")},
            "cannot be converted to target=",
        ),
        ({"sources": [labels, others], "target": "labels"}, "more has other classes than ids"),
        ({"size": 12}, "size must be"),
        ({"size": (12, 0)}, "size must be"),
        ({"on_error": "ignore"}, "on_error must be"),
        ({"batch_size": 0}, "batch of 0"),
        ({"shard": (0, 3)}, "0 of 3"),
        ({"shard": (0, 2), "augment": False}, "in order"),
        ({"steps_per_epoch": 0}, "steps_per_epoch"),
    ]:
        with pytest.raises(DataError, match=message):
            batches(**options)


def test_defaults_of_augmentation():
    assert default_augmentation("labels", (480, 480)).longer_side == 520
    assert default_augmentation("labels", (480, 480)).rescale == (0.5, 2.0)
    assert default_augmentation("inverse_depth", (384, 384)).rescale == (1.0, 2.0)
    assert default_augmentation("depth", (384, 384)).rescale == (1.0, 1.0)
    assert not batches(augment=False).shuffle and batches(augment=STILL).shuffle
    assert drawn(batches(augment=STILL, shuffle=False)[0]) == [1, 2]


class Spy(Batches):
    """Remembers which batches were asked for."""

    def __getitem__(self, index):
        self.asked = [*getattr(self, "asked", []), (self.epoch, index)]
        return super().__getitem__(index)


@pytest.fixture(scope="module")
def model():
    """One convolution, compiled."""
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(1, 1)(inputs / 255))
    model.compile("sgd", "mse")
    return model


def test_fit_follows_the_epochs(model):
    data = Spy(depths(6), (12, 16), 2, target="depth")
    model.fit(data, epochs=2, shuffle=False, verbose=0, validation_data=batches(augment=False))
    assert data.epoch == 2
    # Keras looks at one or two batches before it begins; what it trains on comes last.
    assert data.asked[-6:] == [(e, i) for e in range(2) for i in range(3)]
    resumed = Spy(depths(6), (12, 16), 2, target="depth", initial_epoch=2)
    model.fit(resumed, epochs=3, initial_epoch=2, shuffle=False, verbose=0)
    model.fit(data, epochs=3, initial_epoch=2, shuffle=False, verbose=0)
    assert data.asked[-3:] == resumed.asked[-3:] == [(2, i) for i in range(3)]


def test_a_damaged_file_stops_fit_with_its_name(model):
    data = batches(depths(6, bad=[5]), 2, augment=False, threads=2)
    with pytest.raises(Exception, match="set, sample 5: the file is damaged"):
        model.fit(data, shuffle=False, verbose=0)


def test_models_refuse_what_they_do_not_learn():
    model = tiny.depth(preprocessor=tiny.preprocessor())
    model.compile()
    with pytest.raises(DataError, match='target="inverse_depth".*Received: target="depth"'):
        model.fit(batches(depths(6), 2, target="depth"), verbose=0)


@pytest.mark.slow
def test_models_of_the_package_keep_the_order():
    """And count the epochs, which on several devices Keras does not: see `test_devices.py`."""
    model = tiny.depth(preprocessor=tiny.preprocessor())
    model.compile()
    data = Spy(depths(6), (64, 64), 2, threads=2)
    model.fit(data, epochs=2, verbose=0)
    assert data.asked[-6:] == [(e, i) for e in range(2) for i in range(3)]
    assert data.epoch == 2
    resumed = Spy(depths(6), (64, 64), 2, threads=2)
    for again in (data, resumed):
        model.fit(again, initial_epoch=2, epochs=3, verbose=0)
        assert again.asked[-3:] == [(2, i) for i in range(3)] and again.epoch == 3


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="slow to import elsewhere")
def test_tf_dataset():
    data = batches(initial_epoch=1)
    for number, batch in zip(range(4), data.to_tf_dataset().as_numpy_iterator(), strict=False):
        assert same(batch, data.batch(1 + number // 2, number % 2))
    assert data.to_tf_dataset().element_spec[1].shape.as_list() == [None, 12, 16, 1]


def test_batches_made_ahead_are_kept_where_one_is_asked_for_again():
    """As Keras does with the first one."""
    made = []
    ahead = _Ahead(lambda position: made.append(position) or position, threads=1)
    for position, kept in ((3, {3, 4, 5}), (3, {3, 4, 5}), (4, {4, 5, 6})):
        assert ahead.get(position) == position and set(ahead._futures) == kept
    ahead._pool.shutdown()
    assert made == [3, 4, 5, 6]
    assert _Ahead(lambda position: -position, threads=0).get(3) == -3


def test_what_is_asked_for_out_of_order_is_made_alone():
    made = []
    ahead = _Ahead(lambda position: made.append(position) or position, threads=1)
    assert ahead.get(9) == 9
    assert ahead.get(2) == 2 and set(ahead._futures) == {2}
    assert ahead.get(3) == 3 and set(ahead._futures) == {3, 4, 5}
    ahead._pool.shutdown()
