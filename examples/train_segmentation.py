"""Train semantic segmentation, from a pretrained backbone as in the DPT paper or from scratch.

    python examples/train_segmentation.py ade20k:DATA/ade20k --preset dpt_hybrid --out runs/ade

Data sets are named as in `keras_dpt.datasets`; the split "val" chooses the best epoch. Classes are
the data set's. With --from-scratch the preset gives the architecture only, which is how the
bundled `dpt_mini_camvid` is made:

    KERAS_BACKEND=tensorflow python examples/train_segmentation.py camvid:DATA/camvid \\
        --from-scratch --preset dpt_mini_camvid --sizes 128x160:0.5,192x256 --epochs 120 \\
        --rarity 0.35 --half --out runs/camvid

83 of those epochs took 44 minutes on two shared CPU cores and gave mean IoU 0.606 on val. ADE20K
with dpt_hybrid at 480 x 480 wants a GPU and was not repeated.

Several devices or hosts: --distribute, see docs/guides/several_machines.md.

A run that was cut off goes on with the same command. The result is OUT/preset, for `from_preset`.
"""

import argparse
from functools import partial
from pathlib import Path

import keras
import numpy as np

from keras_dpt import datasets, training
from keras_dpt.models.segmentation import DPTSegmentation
from keras_dpt.presets import read_preset
from keras_dpt.weights.half_precision import store_in_half_precision


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", metavar="NAME:FOLDER", help="data set with class labels")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--preset", default="dpt_hybrid", help="of any task")
    parser.add_argument("--from-scratch", action="store_true", help="begin with random weights")
    parser.add_argument("--sizes", default="480x480", help="HxW, or HxW:SHARE,... to grow")
    parser.add_argument("--epochs", type=int, default=240)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=None, help="at its peak")
    parser.add_argument(
        "--rarity", type=float, default=0.0, help="rare classes weigh more, by this power"
    )
    parser.add_argument("--mixed-precision", choices=("mixed_bfloat16", "mixed_float16"))
    parser.add_argument("--distribute", action="store_true", help="use all devices, of all hosts")
    parser.add_argument("--half", action="store_true", help="store the preset's weights as float16")
    parser.add_argument("--validate-every", type=int, default=5, metavar="EPOCHS")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


class Weighed(datasets.Batches):
    """Batches whose pixels weigh by their class."""

    class_weights = None  # `(classes + 1,)`, the last one for unknown pixels

    def batch(self, epoch, index):
        image, labels, known = super().batch(epoch, index)
        labels_or_last = np.where(known > 0, labels, -1)
        return image, labels, self.class_weights[labels_or_last]


def weights_of_classes(source, rarity):
    """Weight of each class, about 1 on average over pixels, and 0 for unknown ones."""
    classes = len(source.class_names)
    counts = sum(np.bincount(sample.target[sample.valid], minlength=classes) for sample in source)
    share = np.maximum(counts, 1) / counts.sum()
    weights = share**-rarity / np.sum(share ** (1 - rarity))
    return np.append(weights, 0).astype("float32")


def make_model(args, classes, dtype=None):
    """The preset's network for the data set's classes, with its weights or with random ones."""
    options = {"num_classes": len(classes), "class_names": classes, "dtype": dtype}
    if args.from_scratch:
        return DPTSegmentation.from_architecture(read_preset(args.preset), **options)
    return DPTSegmentation.from_preset(args.preset, **options)


def compile_model(model, args, steps):
    """The paper's SGD; from scratch AdamW, and averaged weights."""
    if args.from_scratch:
        rate = training.warmup_cosine(args.learning_rate or 1e-3, steps)
        optimizer = keras.optimizers.AdamW(
            rate, weight_decay=0.05, clipnorm=1.0, use_ema=True, ema_momentum=0.99
        )
        model.compile(optimizer)
    else:
        model.compile(learning_rate=args.learning_rate, steps=steps)


def run(args):
    """Train; returns what makes the preset, for the main process."""
    keras.utils.set_random_seed(args.seed)
    train, validation = (datasets.named(args.data, split) for split in ("train", "val"))
    stages = training.parse_stages(args.sizes)
    class_weights = weights_of_classes(train, args.rarity)

    def batches(size):
        batches = Weighed(
            train, size, args.batch_size, "labels", seed=args.seed, shard=training.shard()
        )
        batches.class_weights = class_weights
        return batches

    def validation_batches(size):
        part = args.batch_size // training.shard()[1]  # each process sees all of them
        whole = len(validation) // part if args.distribute else None
        return datasets.Batches(
            validation, size, part, "labels", augment=False, steps_per_epoch=whole
        )

    model = make_model(args, train.class_names, args.mixed_precision)
    compile_model(model, args, args.epochs * len(batches(stages[0][0])))
    callbacks = training.recipe_callbacks(
        args.out, "val_mean_iou", "max", source=validation, averaged=args.from_scratch
    )
    training.fit_in_stages(
        model,
        batches,
        stages,
        args.epochs,
        callbacks,
        validation_batches,
        validation_freq=args.validate_every,
    )
    return partial(finish, args, stages, train, validation)


def finish(args, stages, train, validation):
    """Make the preset of the best weights, in float32 whatever they were trained in."""
    model = make_model(args, train.class_names)
    best = training.KeepBest(args.out, "val_mean_iou", "max").restore(model)
    size = training.size_of_epoch(stages, args.epochs, best["epoch"])
    model.preprocessor.image_size = size
    model.save_to_preset(str(args.out / "preset"))
    if args.half:
        store_in_half_precision(args.out / "preset")
    model = DPTSegmentation.from_preset(str(args.out / "preset"))
    model.compile()
    batches = datasets.Batches(validation, size, args.batch_size, "labels", augment=False)
    print(model.evaluate(batches, return_dict=True, verbose=0))


if __name__ == "__main__":
    arguments = parse_arguments()
    with training.distributed(arguments.distribute):
        make_preset = run(arguments)
    if training.is_main_process():
        make_preset()
