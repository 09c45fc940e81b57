"""Trains a tiny network for some steps and writes its losses.

`train_tiny.py OUT [--distribute] [--resume FOLDER] [--epochs N]`

Started by tests as a process of its own, for another backend or for several devices.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1]))

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tiny  # noqa: E402
from keras import ops  # noqa: E402

from keras_dpt import losses, training  # noqa: E402
from keras_dpt.datasets import Batches, Source  # noqa: E402

SIZE, BATCH = (32, 64), 4


class Losses(keras.callbacks.Callback):
    """The loss of each step, not their mean so far."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_epoch_begin(self, epoch, logs=None):
        self.total = 0.0

    def on_train_batch_end(self, batch, logs=None):
        total = float(logs["loss"]) * (batch + 1)
        self.values.append(total - self.total)
        self.total = total


def source():
    photos = tiny.photos(8, *SIZE)
    depths = 1 + tiny.photos(8, *SIZE, seed=1)[..., 0] / 50
    names = list("abcdefgh")
    return Source("made", names, lambda i: (photos[i], depths[i].astype("float32")), "metric_depth")


def run(args):
    with training.distributed(args.distribute):
        model = tiny.depth(preprocessor=tiny.preprocessor(SIZE))
        # The default loss hangs on the median pixel: where two are as good, the least difference in
        # rounding chooses, and the curves part. This one is smooth.
        smooth = losses.ScaleShiftInvariantLoss(trim=0, alignment="least_squares")
        model.compile(metrics=None, loss=smooth)
        batches = Batches(
            source(), SIZE, BATCH, augment=False, shuffle=True, shard=training.shard()
        )
        curve = Losses()
        callbacks, done = [training.AverageGradients(), curve], 0
        if args.resume:
            callbacks.append(training.Resume(args.resume))
            done = callbacks[-1].restore(model)
        model.fit(batches, epochs=args.epochs, initial_epoch=done, verbose=0, callbacks=callbacks)
        weights = [np.abs(ops.convert_to_numpy(w)).sum() for w in model.trainable_variables]
        return {
            "losses": curve.values,
            "weights": [float(w) for w in weights],
            "shard": training.shard(),
        }


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--distribute", action="store_true")
    parser.add_argument("--resume")
    parser.add_argument("--epochs", type=int, default=10)
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse_arguments()
    if keras.config.backend() == "tensorflow" and "TF_CONFIG" not in os.environ:
        import tensorflow as tf

        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], 2 * [tf.config.LogicalDeviceConfiguration()]
        )
    place = os.environ.get("RANK") or os.environ.get("PROCESS") or "0"
    out = Path(arguments.out + place)
    out.write_text(json.dumps(run(arguments)))
