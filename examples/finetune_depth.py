"""Fine-tune a relative preset to metric depth, as the DPT paper does on NYUv2 and KITTI.

    python examples/finetune_depth.py nyuv2:DATA/nyuv2 --preset dpt_hybrid --out runs/metric

Data sets are named as in `keras_dpt.datasets`; the split "val" chooses the best epoch. The relative
network is aligned to the training set, then trained with the scale-invariant log loss. A run that
was cut off goes on with the same command. The result is OUT/preset, for `from_preset`.

    KERAS_BACKEND=torch python examples/finetune_depth.py nyuv2:DATA/nyuv2 \\
        --preset dpt_mini_nyuv2 --size 192x256 --epochs 5 --learning-rate 1e-4 --half \\
        --out runs/metric

That took 34 minutes on two busy CPU cores; val AbsRel went from 0.273, aligned only, to 0.194,
delta < 1.25 from 0.54 to 0.69, in metres without alignment: `dpt_mini_nyuv2_metric`. dpt_hybrid
wants a GPU.

Several devices or hosts: --distribute, see docs/guides/several_machines.md.
"""

import argparse
from functools import partial
from pathlib import Path

import keras

from keras_dpt import DPTDepth, datasets, losses, training
from keras_dpt.weights.half_precision import store_in_half_precision


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", metavar="NAME:FOLDER", help="data set with depth in metres")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--preset", default="dpt_hybrid", help="a relative one")
    parser.add_argument("--size", default="384x384", help="HxW, see the preset's sides")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, help="of all weights; default: the paper's")
    parser.add_argument("--lora", type=int, metavar="RANK", help="adapters in a frozen backbone")
    parser.add_argument("--max-depth", type=float, help="metres beyond which truth does not count")
    parser.add_argument("--mixed-precision", choices=("mixed_bfloat16", "mixed_float16"))
    parser.add_argument("--gradient-checkpointing", action="store_true", help="save memory")
    parser.add_argument("--distribute", action="store_true", help="use all devices, of all hosts")
    parser.add_argument("--half", action="store_true", help="store the preset's weights as float16")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def run(args):
    """Train; returns what makes the preset, for the main process."""
    keras.utils.set_random_seed(args.seed)
    train, validation = (datasets.named(args.data, split) for split in ("train", "val"))
    stages = training.parse_stages(args.size)
    size = stages[0][0]

    def batches(source, **options):
        return datasets.Batches(
            source, size, args.batch_size, "depth", max_depth=args.max_depth, **options
        )

    def training_batches(size):
        return batches(train, seed=args.seed, shard=training.shard())

    def validation_batches(size):
        part = args.batch_size // training.shard()[1]  # each process sees all of them
        whole = len(validation) // part if args.distribute else None
        return datasets.Batches(
            validation,
            size,
            part,
            "depth",
            max_depth=args.max_depth,
            augment=False,
            steps_per_epoch=whole,
        )

    model = DPTDepth.from_preset(args.preset, dtype=args.mixed_precision)
    model.preprocessor.image_size = size
    model = training.to_metric(model, batches(train, augment=False))
    if args.gradient_checkpointing:
        model.backbone.enable_gradient_checkpointing()
    print(f"depth = 1 / ({model.scale:.6g} x + {model.shift:.6g})")
    config = model.get_config()
    if args.lora:
        model.backbone.enable_lora(args.lora)
    model.compile(
        loss=losses.ScaleInvariantLogLoss(0.85, root=True), learning_rate=args.learning_rate
    )
    print("aligned only:", evaluate(model, validation_batches(size)))
    callbacks = training.recipe_callbacks(args.out, "val_abs_rel", source=validation)
    training.fit_in_stages(
        model, training_batches, stages, args.epochs, callbacks, validation_batches
    )
    return partial(finish, args, config, batches(validation, augment=False))


def finish(args, config, validation):
    """Make the preset of the best weights, into which LoRA's are folded."""
    model = DPTDepth.from_config(config)
    training.KeepBest(args.out, "val_abs_rel").restore(model)
    model.save_to_preset(str(args.out / "preset"))
    if args.half:
        store_in_half_precision(args.out / "preset")
    model = DPTDepth.from_preset(str(args.out / "preset"), dtype="float32")
    model.compile()
    print("fine-tuned:", evaluate(model, validation))


def evaluate(model, batches):
    """Metrics in metres, at the size of training; `keras-dpt evaluate` gives the protocols'."""
    scores = model.evaluate(batches, return_dict=True, verbose=0)
    return {name: round(float(value), 4) for name, value in scores.items()}


if __name__ == "__main__":
    arguments = parse_arguments()
    with training.distributed(arguments.distribute):
        make_preset = run(arguments)
    if training.is_main_process():
        make_preset()
