"""Trainings by the recipe, as `examples/train_depth.py` does; also of a smaller network."""

import keras
import numpy as np
import tiny

from keras_dpt import losses, training
from keras_dpt.datasets import Batches, Source

SIZE = (32, 32)


def source():
    photos = tiny.photos(4, *SIZE)
    depths = 1 + tiny.photos(4, *SIZE, seed=1)[..., 0] / 50
    return Source(
        "made", list("abcd"), lambda i: (photos[i], depths[i].astype("float32")), "metric_depth"
    )


def train(folder, epochs):
    """Go on with the training of `folder` until so many epochs are done."""
    keras.utils.set_random_seed(0)
    model = tiny.depth(preprocessor=tiny.preprocessor(SIZE))
    optimizer = training.optimizer_with_rates(
        training.warmup_cosine(1e-3, 2 * epochs),
        keras.optimizers.AdamW,
        model.trainable_variables,
        use_ema=True,
        ema_momentum=0.5,
    )
    model.compile(optimizer, losses.ScaleShiftInvariantLoss())
    training.fit_in_stages(
        model,
        lambda size: Batches(source(), size, 2, seed=0),
        [(SIZE, 1.0)],
        epochs,
        training.recipe_callbacks(
            folder, "val_abs_rel", source=source(), every=epochs, averaged=True
        ),
        lambda size: Batches(source(), size, 2, augment=False),
        verbose=0,
    )


class Numbers(keras.utils.PyDataset):
    """Batches that depend on nothing but epoch and index, as `Batches` are."""

    def __init__(self):
        super().__init__(workers=1)
        self.epoch = 0

    def __len__(self):
        return 2

    def __getitem__(self, index):
        rng = np.random.default_rng((self.epoch, index))
        return rng.normal(size=(4, 3)).astype("float32"), rng.normal(size=(4, 1)).astype("float32")


class Epochs(keras.callbacks.Callback):
    """Gives each epoch its own batches."""

    def __init__(self, data):
        super().__init__()
        self.data = data

    def on_epoch_begin(self, epoch, logs=None):
        self.data.epoch = epoch


def train_small(folder, epochs):
    """As `train`, of three layers with dropout: quick."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(8), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(keras.optimizers.AdamW(0.05, use_ema=True, ema_momentum=0.5), "mse")
    data = Numbers()
    callbacks = [*training.recipe_callbacks(folder, "loss", averaged=True), Epochs(data)]
    data.epoch = first = callbacks[0].restore(model)
    options = {"initial_epoch": first, "callbacks": callbacks, "shuffle": False, "verbose": 0}
    model.fit(data, epochs=epochs, **options)
