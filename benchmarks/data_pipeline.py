"""Does the network wait for its data? Speed of `keras_dpt.datasets.Batches` beside a training step.

    KERAS_BACKEND=tensorflow python benchmarks/data_pipeline.py DATA/nyuv2

Times, on batches of the same size:

- the pipeline alone: read, augment, batch;
- training on one batch that stays in memory, and on the pipeline, in turn, the best of each;
- in the latter, how long a batch that was asked for was not there yet. On TensorFlow the network
  waits less than that, since `tf.data` asks ahead of time.

It prints one line of JSON.
"""

import argparse
import json
import time

import keras

import keras_dpt
from keras_dpt.datasets import Batches, nyuv2


class Repeated(keras.utils.PyDataset):
    """The same batch again and again."""

    def __init__(self, batch, steps):
        super().__init__()
        self.batch, self.steps = batch, steps

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        return self.batch


class Timed(Batches):
    """Batches that know how long others waited for them."""

    waited = 0.0

    def __getitem__(self, index):
        started = time.perf_counter()
        batch = super().__getitem__(index)
        self.waited += time.perf_counter() - started
        return batch


def seconds(work):
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder of nyuv2, see keras_dpt.datasets.nyuv2")
    parser.add_argument("--preset", default="dpt_mini_nyuv2", help="a bundled or local preset")
    parser.add_argument("--size", type=int, nargs=2, default=(192, 256), metavar=("H", "W"))
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main():
    args = parse_arguments()
    keras.utils.set_random_seed(0)
    source = nyuv2(args.data, "train")
    data = Timed(
        source, args.size, args.batch_size, steps_per_epoch=args.steps, threads=args.threads
    )
    alone = seconds(lambda: [data.batch(0, i) for i in range(args.steps)])

    model = keras_dpt.DPTDepth.from_preset(args.preset)
    model.preprocessor.image_size = tuple(args.size)
    model.compile()
    model.fit(Repeated(data[0], 3), verbose=0)  # compiles
    ready = Repeated(data[0], args.steps)
    data.waited = 0.0
    on_ready, on_data = [], []
    for _ in range(args.repeats):
        on_ready.append(seconds(lambda: model.fit(ready, verbose=0)))
        on_data.append(seconds(lambda: model.fit(data, verbose=0)))

    images = args.steps * args.batch_size
    report = {
        "backend": keras.backend.backend(),
        "size": args.size,
        "batch_size": args.batch_size,
        "threads": args.threads,
        "pipeline_images_per_second_of_one_thread": round(images / alone, 1),
        "training_images_per_second": round(images / min(on_ready), 1),
        "together_images_per_second": round(images / min(on_data), 1),
        "share_of_time_waiting_for_data": round(data.waited / sum(on_data), 4),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
