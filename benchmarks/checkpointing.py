"""Peak memory of a forward and backward pass on PyTorch, with gradient checkpointing or without.

    python benchmarks/checkpointing.py --batch 2
    python benchmarks/checkpointing.py --batch 2 --gradient-checkpointing

Random weights, 384 x 384 pixels, no optimizer: Adam's update of a large network may hold more than
the passes do, so that its peak hides theirs.
"""

import argparse
import os
import resource
import time

os.environ["KERAS_BACKEND"] = "torch"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="dpt_base")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", nargs=2, type=int, default=[384, 384], metavar=("H", "W"))
    parser.add_argument("--gradient-checkpointing", action="store_true")
    return parser.parse_args()


def main():
    args = parse_arguments()
    import numpy as np
    import torch

    import keras_dpt
    from keras_dpt.presets import read_preset

    model = keras_dpt.DPTDepth.from_architecture(read_preset(args.preset))
    if args.gradient_checkpointing:
        model.backbone.enable_gradient_checkpointing()
    shape = (args.batch, *args.size, 3)
    images = np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")
    print(f"before: peak {peak():.0f} MB", flush=True)
    started = time.process_time()
    loss = (model(torch.from_numpy(images), training=True) - 1).abs().mean()
    print(f"forward: peak {peak():.0f} MB, held {held():.0f} MB", flush=True)
    loss.backward()
    seconds = time.process_time() - started
    print(f"backward: peak {peak():.0f} MB, {seconds:.1f} s of CPU time for both", flush=True)


def peak():
    """Most megabytes that this process has ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def held():
    """Megabytes that it holds now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


if __name__ == "__main__":
    main()
