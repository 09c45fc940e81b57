"""Train relative depth on one or several data sets, mixed evenly, as the DPT paper does.

    python examples/train_depth.py nyuv2:DATA/nyuv2 kitti:DATA/kitti --out runs/depth

Data sets are named as in `keras_dpt.datasets`, each with its folder; the first one's split "val"
chooses the best epoch. With --new-decoder only the preset's encoder knows something, ImageNet, as
in the paper; --from-scratch takes the architecture alone. The bundled `dpt_mini_nyuv2`, on the
stages of a classifier that `keras-dpt convert` made a preset of (see presets/README.md):

    KERAS_BACKEND=tensorflow python examples/train_depth.py nyuv2:DATA/nyuv2 --new-decoder \\
        --preset start --sizes 128x160:0.667,192x256 --epochs 18 --learning-rate 1e-3 \\
        --half --out runs/mini

That took 63 minutes on two shared CPU cores and gave val AbsRel 0.126, delta < 1.25 0.835, both
after alignment. The paper's own training (384 x 384, dpt_hybrid) wants a GPU and was not repeated.

Several devices: --distribute; on PyTorch start `torchrun --nproc-per-node N examples/...` with it.
Several hosts: docs/guides/several_machines.md.

A run that was cut off goes on with the same command. The result is OUT/preset, for `from_preset`.
"""

import argparse
import contextlib
import dataclasses
import re
from functools import partial
from pathlib import Path

import keras

from keras_dpt import DPTDepth, datasets, losses, training
from keras_dpt.presets import read_preset
from keras_dpt.weights.half_precision import store_in_half_precision

# Two thirds of a picture's sides or more. The paper's own is `datasets.PAPER_DEPTH`.
WINDOWS = datasets.Augmentation(rescale=(1.0, 1.5), stretch=(0.8, 1.25), color=(0.85, 1.15))

# The stages of a classifier; a transformer on top of them is as new as the decoder.
PRETRAINED = r"^(stem|stage_\d|mbconv_\d+)"


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", metavar="NAME:FOLDER", help="data sets to train on")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--preset", default="dpt_hybrid")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--from-scratch", action="store_true", help="begin with random weights")
    start.add_argument(
        "--new-decoder", action="store_true", help="the preset's encoder knows ImageNet only"
    )
    parser.add_argument("--sizes", default="384x384", help="HxW, or HxW:SHARE,... to grow")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, help="of all new weights, at its peak")
    parser.add_argument(
        "--encoder-rate", type=float, default=0.3, help="share of it, --new-decoder"
    )
    parser.add_argument(
        "--frozen", metavar="REGEX", help="layers of the encoder that keep their weights: faster"
    )
    parser.add_argument(
        "--shapes", type=float, default=0.0, help="share of pictures with boxes put in: sharp edges"
    )
    parser.add_argument(
        "--blur", type=float, default=0.0, help="strongest blur of pictures, in pixels"
    )
    parser.add_argument("--noise", type=float, default=0.0, help="strongest noise, of 255 levels")
    parser.add_argument("--trim", type=float, help="share of largest errors that do not count")
    parser.add_argument("--gradient-weight", type=float, default=0.5, help="0 for sparse truth")
    parser.add_argument("--mixed-precision", choices=("mixed_bfloat16", "mixed_float16"))
    parser.add_argument("--distribute", action="store_true", help="use all devices, of all hosts")
    parser.add_argument("--half", action="store_true", help="store the preset's weights as float16")
    parser.add_argument("--validate-every", type=int, default=3, metavar="EPOCHS")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def read_sources(data, split):
    """The `keras_dpt.datasets.Source` of each NAME:FOLDER."""
    return [datasets.named(text, split) for text in data]


def make_model(args, dtype=None):
    """The preset's network, with its weights or with random ones."""
    if args.from_scratch:
        model = DPTDepth.from_architecture(read_preset(args.preset), dtype=dtype)
    else:
        model = DPTDepth.from_preset(args.preset, dtype=dtype)
    for layer in model.backbone.image_encoder.layers:
        if args.frozen and re.match(args.frozen, layer.name):
            layer.trainable = False
    return model


def windows(args):
    """How training pictures are changed, with what the arguments add."""
    return dataclasses.replace(
        WINDOWS,
        shapes=datasets.Shapes(args.shapes) if args.shapes else None,
        blur=(0.0, args.blur),
        noise=(0.0, args.noise),
    )


def compile_model(model, args, steps):
    """The paper's Adam with two rates; with new weights they fall, and weights are averaged."""
    # Trimming is against wrong truth: the paper, whose data sets have much of it, takes 0.2.
    loss = losses.ScaleShiftInvariantLoss(args.trim or 0.0, args.gradient_weight)
    if not is_new(args):
        model.compile(loss=loss, learning_rate=args.learning_rate)
        return
    peak = args.learning_rate or 7e-4
    rates = training.warmup_cosine(peak, steps)
    if args.new_decoder:
        model.backbone.image_encoder.freeze_norms()
        rates = {
            PRETRAINED: training.warmup_cosine(peak * args.encoder_rate, steps),
            ".": rates,
        }
    optimizer = training.optimizer_with_rates(
        rates,
        keras.optimizers.AdamW,
        model.trainable_variables,
        weight_decay=0.05,
        clipnorm=1.0,
        use_ema=True,
        ema_momentum=0.998,
    )
    model.compile(optimizer, loss)


def is_new(args):
    """Whether much of the network begins with random weights."""
    return args.from_scratch or args.new_decoder


def run(args):
    """Train; returns what makes the preset, for the main process."""
    keras.utils.set_random_seed(args.seed)
    train, validation = read_sources(args.data, "train"), read_sources(args.data[:1], "val")
    stages = training.parse_stages(args.sizes)

    def batches(size):
        return datasets.Batches(
            train,
            size,
            args.batch_size,
            augment=windows(args),
            seed=args.seed,
            shard=training.shard(),
        )

    def validation_batches(size):
        part = args.batch_size // training.shard()[1]  # each process sees all of them
        whole = len(validation[0]) // part if args.distribute else None
        return datasets.Batches(validation, size, part, augment=False, steps_per_epoch=whole)

    model = make_model(args, args.mixed_precision)
    compile_model(model, args, args.epochs * len(batches(stages[0][0])))
    callbacks = training.recipe_callbacks(
        args.out, "val_abs_rel", source=validation[0], averaged=is_new(args)
    )
    with training.linear_head(model) if is_new(args) else contextlib.nullcontext():
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
    model = make_model(args)
    best = training.KeepBest(args.out, "val_abs_rel").restore(model)
    size = training.size_of_epoch(stages, args.epochs, best["epoch"])
    model.preprocessor.image_size = size
    if is_new(args):
        with training.linear_head(model):
            training.lift_outputs(model, (sample.image for sample in train[0]))
    model.save_to_preset(str(args.out / "preset"))
    if args.half:
        store_in_half_precision(args.out / "preset")
    model = DPTDepth.from_preset(str(args.out / "preset"))
    model.compile()
    batches = datasets.Batches(validation, size, args.batch_size, augment=False)
    print(model.evaluate(batches, return_dict=True, verbose=0))


if __name__ == "__main__":
    arguments = parse_arguments()
    with training.distributed(arguments.distribute):
        make_preset = run(arguments)
    if training.is_main_process():
        make_preset()
