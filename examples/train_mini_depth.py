"""Train the embedded preset `dpt_mini_nyuv2` from scratch on the labelled NYU Depth V2 frames.

    KERAS_BACKEND=tensorflow python examples/train_mini_depth.py DATA --out runs/mini

DATA holds `train/` and `val/`, each with `rgb/NNNN.jpg` and `depth/NNNN.png` (16-bit millimetres).
The result is a preset directory whose weights are stored in half precision.
"""

import argparse
import json
import time
from pathlib import Path

import cv2
import keras
import numpy as np

import keras_dpt
from keras_dpt.presets import read_preset
from keras_dpt.weights.half_precision import store_in_half_precision

# Height and width of what the network sees, and until which part of the epochs; the frames are
# 240 x 320. Small pictures teach most of it several times as fast, larger ones sharpen it.
SIZES = ((96, 128), 0.7), ((128, 160), 0.9), ((192, 256), 1.0)
DEPTH_CAP = 10.0  # metres; NYU's sensor saw no farther


class Frames(keras.utils.PyDataset):
    """Augmented batches of (image, inverse depth) from frames held in memory.

    Images are `(B, h, w, 3)` float32, 0 to 255, targets `(B, h, w, 1)` in 1/m, 0 where unknown.
    """

    def __init__(self, images, depths, size, batch_size, seed):
        super().__init__(workers=1)
        self.images, self.depths, self.size = images, depths, size
        self.batch_size = batch_size
        self.rng = np.random.default_rng(seed)
        self.order = self.rng.permutation(len(images))

    def __len__(self):
        return len(self.images) // self.batch_size

    def on_epoch_end(self):
        self.order = self.rng.permutation(len(self.images))

    def __getitem__(self, index):
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        pairs = [augment(self.images[i], self.depths[i], self.size, self.rng) for i in chosen]
        return tuple(np.stack(x) for x in zip(*pairs, strict=True))


def augment(image, depth, size, rng):
    """A random window of 50 to 100 % of each side, mirrored or not, with other light."""
    share = rng.uniform(0.5, 1.0)
    stretch = rng.uniform(0.9, 1.1)
    height, width = depth.shape
    h = min(height, int(height * share * stretch))
    w = min(width, int(width * share / stretch))
    top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
    window = (slice(top, top + h), slice(left, left + w))
    image = cv2.resize(image[window], size[::-1], interpolation=cv2.INTER_LINEAR)
    # Nearest: between a near and a far surface there is no surface in the middle.
    depth = cv2.resize(depth[window], size[::-1], interpolation=cv2.INTER_NEAREST)
    image = image.astype("float32") / 255
    if rng.random() < 0.5:
        image, depth = image[:, ::-1], depth[:, ::-1]
    image = image ** rng.uniform(0.75, 1.33) * rng.uniform(0.8, 1.2)  # gamma, brightness
    image = image * rng.uniform(0.85, 1.15, 3)  # colour of the light
    if rng.random() < 0.1:
        image = np.repeat(image.mean(-1, keepdims=True), 3, axis=-1)
    inverse = np.divide(1000.0, depth, out=np.zeros(size, "float32"), where=depth > 0)
    return np.clip(255 * image, 0, 255).astype("float32"), inverse[..., None]


def read_frames(folder):
    """All `(image, depth)` of a split: lists of uint8 RGB and uint16 millimetres."""
    paths = sorted((folder / "rgb").glob("*.jpg"))
    if not paths:
        raise SystemExit(f"No rgb/*.jpg in {folder}; see the head of this script.")
    images = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths]
    depths = [
        cv2.imread(str(folder / "depth" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED)
        for path in paths
    ]
    return images, depths


def evaluate(model, images, depths):
    """AbsRel and delta < 1.25, averaged over images aligned by least squares in inverse depth."""
    scores = []
    for prediction, depth in zip(model.predict_images(images, 16), depths, strict=True):
        valid, truth = depth > 0, depth[depth > 0] / 1000.0
        prediction = prediction.values[valid]
        scale, shift = keras_dpt.align_scale_shift(prediction, 1 / truth)
        metres = 1 / np.maximum(scale * prediction + shift, 1 / DEPTH_CAP)
        ratio = np.maximum(metres / truth, truth / metres)
        scores.append((np.mean(np.abs(metres - truth) / truth), np.mean(ratio < 1.25)))
    abs_rel, d1 = np.mean(scores, axis=0)
    return {"abs_rel": round(float(abs_rel), 4), "d1": round(float(d1), 4), "images": len(scores)}


class Validate(keras.callbacks.Callback):
    """Scores a part of val now and then; keeps the best weights and their image size."""

    def __init__(self, images, depths, every, path):
        super().__init__()
        self.images, self.depths, self.every, self.path = images, depths, every, path
        self.best = np.inf

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every:
            return
        scores = evaluate(self.model, self.images, self.depths)
        print(f"\nepoch {epoch + 1}: {scores} {time.strftime('%H:%M:%S')}", flush=True)
        if scores["abs_rel"] < self.best:
            self.best, self.size = scores["abs_rel"], self.model.preprocessor.image_size
            self.model.save_weights(self.path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=7e-4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    keras.utils.set_random_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)

    frames = read_frames(args.data / "train")
    val_images, val_depths = read_frames(args.data / "val")
    model = keras_dpt.DPTDepth.from_architecture(read_preset("dpt_mini_nyuv2"))
    # The loss is blind to shifts, so half of a fresh network's outputs would soon be negative and,
    # behind the ReLU, learn nothing. It comes back when the outputs have been lifted above zero.
    model.head.conv3.activation = keras.activations.linear
    steps = args.epochs * (len(frames[0]) // args.batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(
        args.learning_rate * 0.02,
        steps - steps // 20,
        warmup_target=args.learning_rate,
        warmup_steps=steps // 20,
        alpha=0.01,
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(
            schedule, weight_decay=0.05, clipnorm=1.0, use_ema=True, ema_momentum=0.998
        ),
        # Every pixel of these frames is trustworthy: none is trimmed.
        loss=keras_dpt.losses.ScaleShiftInvariantLoss(trim=0.0),
    )
    print(f"{model.count_params():,} parameters, {steps} steps", flush=True)
    weights = args.out / "best.weights.h5"
    started = time.time()
    validate = Validate(val_images[::3], val_depths[::3], 3, weights)
    callbacks = [
        keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
        validate,
        keras.callbacks.CSVLogger(args.out / "log.csv", append=True),
    ]
    first = 0
    for size, until in SIZES:
        last = round(args.epochs * until)
        model.preprocessor.image_size = size
        train = Frames(*frames, size, args.batch_size, args.seed + first)
        model.fit(train, initial_epoch=first, epochs=last, verbose=2, callbacks=callbacks)
        first = last
    minutes = (time.time() - started) / 60
    model.load_weights(weights)
    model.preprocessor.image_size = validate.size
    lowest = min(float(x.values.min()) for x in model.predict_images(frames[0], 16))
    model = keras_dpt.DPTDepth.from_architecture(read_preset("dpt_mini_nyuv2"))
    model.load_weights(weights)
    model.preprocessor.image_size = validate.size
    model.head.conv3.bias.assign_add([max(0.0, -lowest)])
    model.save_to_preset(str(args.out / "preset"))
    store_in_half_precision(args.out / "preset")
    model = keras_dpt.DPTDepth.from_preset(str(args.out / "preset"))
    scores = evaluate(model, val_images, val_depths) | {"minutes": round(minutes, 1)}
    (args.out / "scores.json").write_text(json.dumps(scores, indent=2))
    print(scores)


if __name__ == "__main__":
    main()
