"""Training batches from one or several sources, for every backend."""

import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import lru_cache

import keras
import numpy as np

from keras_dpt.datasets.augmentation import Augmentation, centered
from keras_dpt.datasets.kinds import kind_named, target_named
from keras_dpt.datasets.source import (
    DataWarning,
    Sample,
    Source,
    all_invalid,
    label_of,
    named_errors,
)
from keras_dpt.errors import DataError
from keras_dpt.late_tensorflow import import_tensorflow

# So many unusable samples in a row are no accident.
_MOST_SKIPPED = 16

# What a random number is for, so that no two uses share a stream.
_ORDER, _MIX, _CHANGE = range(3)


class Batches(keras.utils.PyDataset):
    """Batches `(image, target, sample_weight)` for `fit`.

    Samples are drawn from the sources in turn, in random order, so that each source contributes the
    same number of samples whatever its size; within a source, each sample is used once before any
    is repeated. A batch depends only on the arguments, the epoch and its index: a run resumed with
    `initial_epoch` sees the same batches as an uninterrupted one.

    Args:
        sources: a `Source` or a list of them.
        size: `(height, width)` of the batches; the paper's are 384 x 384 for depth and 480 x 480
            for classes. `model.preprocessor.image_size` must be the same.
        batch_size: samples in a batch.
        target: "inverse_depth": 1 / metres for metric sources, disparity unchanged for others.
            "depth": metres. "labels": class ids. Or the `target` of another `TargetKind`.
        augment: an `Augmentation`; `True` for the target's default, see `default_augmentation`;
            `False` for the centre of each image.
        shuffle: draw samples at random as described above; `None` does so if samples are augmented.
            Otherwise every sample comes once, in order, and the last batch may be smaller.
        seed: seed of all random choices.
        steps_per_epoch: batches in an epoch; by default, as many as use each sample once on average
            (for sources of equal size).
        initial_epoch: number of the first epoch; `epoch` can also be set later. `fit` of this
            package's models uses its own `initial_epoch`.
        on_error: "raise", or "skip" to use the source's next sample in place of one that cannot be
            used; `skipped` then lists which and why.
        max_depth: metres; pixels farther away are not valid. For metric sources.
        shard: `(index, count)`: this process's part of every batch, where several train together.
        threads: number of threads that prepare batches ahead of time, 0 for none.

    Gives: image `(B, h, w, 3)` float32, 0 to 255; target `(B, h, w, 1)` float32 depth, 0 where not
        valid, or `(B, h, w)` int32 class ids, the first source's `ignore_index` where not valid;
        sample_weight `(B, h, w)` float32, 1 where valid, else 0.
    Raises:
        DataError: arguments that do not fit together. When a batch is made: any error of a source,
            and a sample without any valid pixel, unless `on_error="skip"`; more than 16 of them in
            a row in any case. On TensorFlow, `fit` wraps it in one of TensorFlow's errors.
    Warns: DataWarning: a sample was skipped.
    Source: Ranftl et al. 2020 (arXiv 1907.01341), section 5, for the equal shares.

    Keras's own `workers` stay at 1, and `threads` prepare batches instead: with more workers, Keras
    3.15 starts in the middle of the first epoch, so that no two runs are equal. For the same reason
    pass `shuffle=False` to a plain `keras.Model.fit`; this package's models do it.
    """

    # `DPTTask.fit` then leaves the order alone.
    shuffles_itself = True

    def __init__(
        self,
        sources: Source | Sequence[Source],
        size: tuple[int, int],
        batch_size: int,
        target: str = "inverse_depth",
        augment: "bool | Augmentation" = True,
        shuffle: bool | None = None,
        seed: int = 0,
        steps_per_epoch: int | None = None,
        initial_epoch: int = 0,
        on_error: str = "raise",
        max_depth: float | None = None,
        shard: tuple[int, int] = (0, 1),
        threads: int = 2,
    ):
        super().__init__(workers=1)
        self.sources = [sources] if isinstance(sources, Source) else list(sources)
        self.size = tuple(np.atleast_1d(size).tolist())
        self.batch_size = batch_size
        self.target = target
        self.kind = target_named(target)
        self._makers = self.kind.makers()
        self.on_error = on_error
        self.max_depth = max_depth
        self.shard = tuple(shard)
        self._check()
        self.augmentation = default_augmentation(target, self.size) if augment is True else augment
        self.shuffle = bool(augment) if shuffle is None else shuffle
        self.seed = seed
        self.steps_per_epoch = self._steps(steps_per_epoch)
        self.epoch = initial_epoch
        self.skipped: dict[str, str] = {}
        self._ahead = _Ahead(self._batch_at, threads)
        self._begun = self._gave_last = False

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} batches in an epoch; asked for {index}.")
        batch = self._ahead.get(self.epoch * len(self) + index)
        self._gave_last |= index == len(self) - 1
        return batch

    def batch(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A batch of any epoch; safe to call from several threads at once."""
        part, parts = self.shard
        share = self.batch_size // parts
        first = index * self.batch_size + part * share
        last = first + share
        if not self.shuffle:
            last = min(last, sum(map(len, self.sources)))
        samples = [self._sample(epoch, slot) for slot in range(first, last)]
        images, targets, weights = zip(*samples, strict=True)
        targets = self.kind.batched(targets)
        return np.stack(images), targets, np.stack(weights).astype(np.float32)

    def on_epoch_begin(self):
        self._begun = True

    def on_epoch_end(self):
        # Keras also calls this when nothing has ended: before it starts, and after a first look.
        if self._begun and self._gave_last:
            self.epoch += 1
        self._begun = self._gave_last = False

    def to_tf_dataset(self):
        """The same batches as an endless `tf.data.Dataset`, epoch after epoch.

        For code that needs a `tf.data.Dataset`. Pass `steps_per_epoch=len(batches)` to `fit`. With
        a backend other than TensorFlow, TensorFlow is told not to use GPUs.
        """
        tf = import_tensorflow()
        if keras.backend.backend() != "tensorflow":
            tf.config.set_visible_devices([], "GPU")
        first = self.epoch * len(self)
        example = self.batch(self.epoch, 0)
        signature = [tf.as_dtype(array.dtype) for array in example]
        shapes = [(None, *array.shape[1:]) for array in example]

        def load(position):
            batch = tf.numpy_function(self._batch_at, [position], signature)
            for array, shape in zip(batch, shapes, strict=True):
                array.set_shape(shape)
            return tuple(batch)

        numbers = tf.data.Dataset.counter(first)
        return numbers.map(load, num_parallel_calls=2, deterministic=True).prefetch(2)

    def _steps(self, wanted: int | None) -> int:
        if wanted is not None and wanted < 1:
            raise DataError(f"steps_per_epoch must be at least 1. Received: {wanted}.")
        samples = sum(map(len, self.sources))
        if self.shuffle:  # whole batches: the rest of an epoch is not lost but begins the next
            return wanted or max(1, samples // self.batch_size)
        if self.shard[1] > 1:
            raise DataError("Batches in order cannot be shared out: the last one may be smaller.")
        return min(wanted or samples, -(-samples // self.batch_size))

    def _batch_at(self, position: int):
        return self.batch(*divmod(int(position), len(self)))

    def _sample(self, epoch: int, slot: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image, target and valid of the `slot`-th sample of an epoch."""
        since_start = epoch * len(self) * self.batch_size + slot
        source, index = self._drawn(since_start) if self.shuffle else self._in_order(slot)
        sample, index = self._usable(source, index)
        rng = np.random.default_rng((self.seed, _CHANGE, since_start))
        with named_errors(label_of(source, index)):  # kinds and augmentations may be a user's
            return self._cut(source, sample, rng)

    def _cut(self, source: Source, sample: Sample, rng: np.random.Generator):
        """Image, target and valid of a sample at the size of the batches."""
        sample = sample._replace(target=sample.target.astype(self.kind.dtype, copy=False))
        # What is resized and cut is the source's; all of a batch have one value for the unknown.
        options = source.sparse, self.kind.unknown_of(self.sources[0]), kind_named(source.kind)
        if self.augmentation:
            cut = self.augmentation(sample, self.size, rng, *options)
        else:
            cut = centered(sample, self.size, *options)
        image, target, valid = cut
        return image, self._makers[source.kind](target, valid), valid

    def _drawn(self, count: int) -> tuple[Source, int]:
        """Of each round over the sources every one gives a sample, in an order drawn again."""
        lap, place = divmod(count, len(self.sources))
        rng = np.random.default_rng((self.seed, _MIX, lap))
        number = int(rng.permutation(len(self.sources))[place])
        source = self.sources[number]
        lap, place = divmod(lap, len(source))
        return source, int(_order(self.seed, number, lap, len(source))[place])

    def _in_order(self, slot: int) -> tuple[Source, int]:
        for source in self.sources:
            if slot < len(source):
                return source, slot
            slot -= len(source)
        raise IndexError(slot)

    def _usable(self, source: Source, index: int) -> tuple[Sample, int]:
        """The source's sample at `index`, or the next one that can be used, and where it is."""
        for _ in range(_MOST_SKIPPED):
            try:
                return self._with_valid_pixels(source, index), index
            except DataError as error:
                wrong = error
            if self.on_error == "raise":
                raise DataError(
                    f'{wrong} (on_error="skip" goes on without such samples.)'
                ) from wrong.__cause__
            self._skip(f"{source.name}/{source.ids[index]}", str(wrong))
            index = (index + 1) % len(source)
        raise DataError(
            f"{_MOST_SKIPPED} samples in a row cannot be used. The last one: {wrong}"
        ) from wrong.__cause__

    def _with_valid_pixels(self, source: Source, index: int) -> Sample:
        sample = source[index]
        if self.max_depth is not None and kind_named(source.kind).is_metric:
            sample = sample._replace(valid=sample.valid & (sample.target <= self.max_depth))
        if not sample.valid.any():
            raise DataError(all_invalid(source, index))
        return sample

    def _skip(self, name: str, message: str) -> None:
        if name not in self.skipped:
            self.skipped[name] = message
            warnings.warn(f"Skipped: {message}", DataWarning, stacklevel=2)

    def _check(self) -> None:
        if not self.sources:
            raise DataError("There are no sources. Give at least one.")
        for source in self.sources:
            if source.kind not in self._makers:
                raise DataError(
                    f"{source.name} holds {source.kind}, which cannot be converted to "
                    f'target="{self.target}".'
                )
            if source.class_names != self.sources[0].class_names:
                raise DataError(
                    f"{source.name} has other classes than {self.sources[0].name}. Sources of one "
                    "training must have the same class_names."
                )
        if len(self.size) != 2 or min(self.size) < 1:
            raise DataError(f"size must be (height, width). Received: {self.size}.")
        if self.on_error not in ("raise", "skip"):
            raise DataError(f'on_error must be "raise" or "skip". Received: {self.on_error!r}.')
        part, parts = self.shard
        if self.batch_size < 1 or not 0 <= part < parts or self.batch_size % parts:
            raise DataError(
                f"A batch of {self.batch_size} cannot be shared out as {part} of {parts}: it has "
                "to be a multiple of the number of processes."
            )


def default_augmentation(target: str, size: tuple[int, int]) -> Augmentation:
    """The `Augmentation` of `Batches(augment=True)` for a target at this size.

    - "labels": as in the paper, the longer side 520 for a window of 480 and in proportion for
      other windows, rescaled by 0.5 to 2.
    - "inverse_depth": rescaled by 1 to 2 from the size that covers the window, so that no part of
      it is empty (`PAPER_DEPTH` leaves a part of it empty).
    - "depth": never rescaled: an enlarged image looks nearer than its depth in metres.
    """
    return Augmentation(**target_named(target).augmentation(size))


class _Ahead:
    """Makes batches before they are asked for, as long as they are asked for in order."""

    def __init__(self, make: Callable[[int], tuple], threads: int):
        self._make, self._threads = make, threads
        self._pool = None
        self._lock = threading.Lock()
        self._futures: dict[int, Future] = {}
        self._last = None

    def get(self, position: int) -> tuple:
        if not self._threads:
            return self._make(position)
        with self._lock:
            in_order = self._last is None or position - self._last in (0, 1)
            self._last = position
            wanted = range(position, position + (self._threads + 2 if in_order else 1))
            self._submit(wanted)
            future = self._futures[position]
        try:
            return future.result()
        except CancelledError:  # another thread meanwhile asked for another part of the epoch
            return self._make(position)

    def _submit(self, wanted: range) -> None:
        self._pool = self._pool or ThreadPoolExecutor(self._threads, "keras_dpt_batches")
        for position in [p for p in self._futures if p not in wanted]:
            self._futures.pop(position).cancel()
        for position in wanted:
            if position not in self._futures:
                self._futures[position] = self._pool.submit(self._make, position)


@lru_cache(maxsize=64)
def _order(seed: int, source: int, lap: int, length: int) -> np.ndarray:
    """In which order the samples of a source come the `lap`-th time; long, so it is kept."""
    return np.random.default_rng((seed, _ORDER, source, lap)).permutation(length)
