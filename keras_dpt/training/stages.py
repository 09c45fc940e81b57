"""Training at growing sizes: most can be learned from small images, several times faster."""

import re
import sys

from keras_dpt.errors import TrainingError
from keras_dpt.training.distribution import is_main_process
from keras_dpt.training.scratch import forget_compiled


def parse_stages(text):
    """Read stages such as "96x128:0.7,192x256:1": sizes, and until which share of the epochs.

    Returns: list of `((height, width), share)`, as `fit_in_stages` takes them.
    Raises: TrainingError: (a ValueError) anything else, or shares that do not rise to 1.
    """
    pattern = r"(\d+)x(\d+)(?::([\d.]+))?"
    parts = [re.fullmatch(pattern, part.strip()) for part in text.split(",")]
    if not all(parts):
        raise TrainingError(f"Sizes look like 384x384 or 96x128:0.7,192x256. Received: {text!r}.")
    stages = [((int(h), int(w)), float(share or 1)) for h, w, share in (x.groups() for x in parts)]
    shares = [share for _, share in stages]
    if shares != sorted(set(shares)) or shares[-1] != 1:
        raise TrainingError(f"Shares of the epochs must rise to 1. Received: {text!r}.")
    return stages


def fit_in_stages(model, data, stages, epochs, callbacks, validation=None, **kwargs):
    """`model.fit` once per size, as one training: epochs, optimizer and logs continue.

    Args:
        model: a compiled task model.
        data: function from a size `(height, width)` to training data of this size.
        stages: list of `((height, width), share)`: the size until that share of the epochs.
        epochs: of all stages.
        callbacks: the first is a `Resume`; training starts from the state it finds.
        validation: the same for validation data; `None` for none.
        **kwargs: as in `keras.Model.fit`. Where there is no terminal, `verbose` is 2 by default,
            a line per epoch, and 0 in all processes but the main one. Whatever `validation_freq`,
            the last epoch is validated, because `KeepBest` would have nothing to keep in a short
            training.

    Raises: TrainingError: (a ValueError) a side that the network cannot take, before any training.
    """
    multiple = model.backbone.image_encoder.required_multiple
    if any(side % multiple for size, _ in stages for side in size):
        sizes = ", ".join(f"{height}x{width}" for (height, width), _ in stages)
        raise TrainingError(f"Sides must be multiples of {multiple}. Received: {sizes}.")
    verbose = 1 if sys.stdout.isatty() else 2
    kwargs.setdefault("verbose", verbose if is_main_process() else 0)
    every = kwargs.pop("validation_freq", 1)
    if isinstance(every, int):
        every = [n for n in range(1, epochs + 1) if n % every == 0 or n == epochs]
    first = callbacks[0].restore(model)
    for size, share in stages:
        last = round(epochs * share)
        if first >= last:
            continue
        model.preprocessor.image_size = size
        # Anew for each size: TensorFlow then knows it in full, which is faster.
        forget_compiled(model)
        batches = data(size)
        batches.epoch = first
        model.fit(
            batches,
            validation_data=validation and validation(size),
            initial_epoch=first,
            epochs=last,
            callbacks=callbacks,
            validation_freq=every,
            **kwargs,
        )
        first = last


def size_of_epoch(stages, epochs, epoch):
    """The size that `fit_in_stages` trains with in `epoch`, counted from 1."""
    return next(size for size, share in stages if epoch <= round(epochs * share))
