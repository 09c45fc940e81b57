"""Train the embedded preset `dpt_mini_camvid` from scratch on CamVid.

    KERAS_BACKEND=tensorflow python examples/train_mini_segmentation.py DATA --out runs/mini_seg

DATA holds `train/` and `val/`, each with `rgb/NAME.jpg` and `seg/NAME.png` (class ids, 11 for
unlabelled). The result is a preset directory whose weights are stored in half precision. A run that
was cut off goes on with the same command and --resume.
"""

import argparse
import json
import time
from pathlib import Path

import cv2
import keras
import numpy as np

import keras_dpt
from keras_dpt.models.segmentation import DPTSegmentation
from keras_dpt.presets import read_preset
from keras_dpt.weights.half_precision import store_in_half_precision

# Height and width of what the network sees, and until which part of the epochs; the frames are
# 360 x 480. Small pictures teach most of it in half the time, larger ones the poles and signs.
SIZES = ((128, 160), 0.5), ((192, 256), 1.0)
UNLABELLED, IGNORE = 11, 255
# Rare classes weigh more: by their share of pixels to this power.
RARITY = -0.35


class Frames(keras.utils.PyDataset):
    """Augmented batches of (image, labels, pixel weights) from frames held in memory.

    Images are `(B, h, w, 3)` float32, 0 to 255, labels `(B, h, w)` uint8, 255 where unknown, and
    weights `(B, h, w)` float32.
    """

    def __init__(self, images, labels, class_weights, size, batch_size, seed):
        super().__init__(workers=1)
        self.images, self.labels, self.size = images, labels, size
        self.class_weights = class_weights
        self.batch_size = batch_size
        self.rng = np.random.default_rng(seed)
        self.order = self.rng.permutation(len(images))

    def __len__(self):
        return len(self.images) // self.batch_size

    def on_epoch_end(self):
        self.order = self.rng.permutation(len(self.images))

    def __getitem__(self, index):
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        pairs = [augment(self.images[i], self.labels[i], self.size, self.rng) for i in chosen]
        images, labels = (np.stack(x) for x in zip(*pairs, strict=True))
        return images, labels, self.class_weights[labels]


def augment(image, labels, size, rng):
    """A random window of 40 to 100 % of each side, mirrored or not, with other light."""
    share = rng.uniform(0.4, 1.0)
    stretch = rng.uniform(0.9, 1.1)
    height, width = labels.shape
    h = min(height, int(height * share * stretch))
    w = min(width, int(width * share / stretch))
    top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
    window = (slice(top, top + h), slice(left, left + w))
    image = cv2.resize(image[window], size[::-1], interpolation=cv2.INTER_AREA)
    labels = cv2.resize(labels[window], size[::-1], interpolation=cv2.INTER_NEAREST)
    image = image.astype("float32") / 255
    if rng.random() < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    image = image ** rng.uniform(0.75, 1.33) * rng.uniform(0.8, 1.2)  # gamma, brightness
    image = image * rng.uniform(0.9, 1.1, 3)  # colour of the light
    return np.clip(255 * image, 0, 255).astype("float32"), labels


def read_frames(folder):
    """All images and labels of a split: lists of uint8 RGB and of uint8 ids, 255 if unknown."""
    paths = sorted((folder / "rgb").glob("*.jpg"))
    if not paths:
        raise SystemExit(f"No rgb/*.jpg in {folder}; see the head of this script.")
    images = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths]
    labels = [
        cv2.imread(str(folder / "seg" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED) for path in paths
    ]
    return images, [np.where(x == UNLABELLED, IGNORE, x).astype("uint8") for x in labels]


def weights_of_classes(labels, num_classes):
    """Weight of a pixel by its label, `(256,)`: about 1 on average over pixels, 0 if unknown."""
    counts = np.bincount(np.concatenate([x.ravel() for x in labels]), minlength=256)[:num_classes]
    share = np.maximum(counts, 1) / counts.sum()
    weights = np.zeros(256, "float32")
    weights[:num_classes] = share**RARITY / np.sum(share * share**RARITY)
    return weights


def evaluate(model, images, labels, **options):
    """Mean IoU, pixel accuracy and IoU of each class, on the photos at their own size."""
    size = model.num_classes
    confusion = np.zeros((size, size))
    for start in range(0, len(images), 8):
        predictions = model.predict_images(images[start : start + 8], 8, **options)
        for prediction, truth in zip(predictions, labels[start : start + 8], strict=True):
            known = truth != IGNORE
            cells = truth[known].astype(int) * size + prediction.labels[known]
            confusion += np.bincount(cells, minlength=size**2).reshape(size, size)
    hits = np.diag(confusion)
    iou = hits / (confusion.sum(0) + confusion.sum(1) - hits)
    return {
        "mean_iou": round(float(iou.mean()), 4),
        "pixel_accuracy": round(float(hits.sum() / confusion.sum()), 4),
        "iou": {name: round(float(x), 3) for name, x in zip(model.class_names, iou, strict=True)},
        "images": len(images),
    }


class Remember(keras.callbacks.Callback):
    """Keeps weights, optimizer and number of the last complete epoch."""

    def __init__(self, folder):
        super().__init__()
        self.weights, self.epoch = folder / "last.weights.h5", folder / "last_epoch.txt"

    def on_epoch_end(self, epoch, logs=None):
        partial = self.weights.with_name("partial.weights.h5")
        self.model.save_weights(partial, overwrite=True)
        partial.replace(self.weights)
        self.epoch.write_text(str(epoch + 1))

    def restore(self, model):
        """Number of complete epochs, whose state `model` gets; 0 if there was none."""
        if not self.epoch.is_file():
            return 0
        model.optimizer.build(model.trainable_variables)
        model.load_weights(self.weights)
        return int(self.epoch.read_text())


class Validate(keras.callbacks.Callback):
    """Scores a part of val every so many epochs and after the last; keeps the best weights."""

    def __init__(self, images, labels, every, last, image_size, path):
        super().__init__()
        self.images, self.labels, self.path = images, labels, path
        self.every, self.last = every, last
        self.image_size = image_size
        self.best = 0.0  # a resumed run starts to compare anew

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every and epoch + 1 < self.last:
            return
        size = self.model.preprocessor.image_size
        self.model.preprocessor.image_size = self.image_size
        scores = evaluate(self.model, self.images, self.labels)
        self.model.preprocessor.image_size = size
        print(f"\nepoch {epoch + 1}: {scores} {time.strftime('%H:%M:%S')}", flush=True)
        if scores["mean_iou"] > self.best:
            self.best = scores["mean_iou"]
            self.model.save_weights(self.path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on after the last whole epoch")
    parser.add_argument(
        "--finish", action="store_true", help="no training: make the preset of the best weights"
    )
    args = parser.parse_args()
    keras.utils.set_random_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)

    val_images, val_labels = read_frames(args.data / "val")
    preset = read_preset("dpt_mini_camvid")
    model = DPTSegmentation.from_architecture(preset)
    weights = args.out / "best.weights.h5"
    minutes = None
    if not args.finish:
        started = time.time()
        train(model, args, val_images[::6], val_labels[::6], preset["image"]["image_size"], weights)
        minutes = round((time.time() - started) / 60, 1)
    model.load_weights(weights)
    model.preprocessor.image_size = preset["image"]["image_size"]
    model.save_to_preset(str(args.out / "preset"))
    store_in_half_precision(args.out / "preset")
    model = DPTSegmentation.from_preset(str(args.out / "preset"))
    scores = evaluate(model, val_images, val_labels) | {"minutes": minutes}
    (args.out / "scores.json").write_text(json.dumps(scores, indent=2))
    print(f"keras_dpt {keras_dpt.__version__}, {model.count_params():,} parameters: {scores}")


def train(model, args, val_images, val_labels, image_size, path):
    """Fit `model`; the weights that label `val_images` best are at `path` afterwards."""
    images, labels = read_frames(args.data / "train")
    class_weights = weights_of_classes(labels, model.num_classes)
    steps = args.epochs * (len(images) // args.batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(
        args.learning_rate * 0.02,
        steps - steps // 20,
        warmup_target=args.learning_rate,
        warmup_steps=steps // 20,
        alpha=0.01,
    )
    optimizer = keras.optimizers.AdamW(
        schedule, weight_decay=0.05, clipnorm=1.0, use_ema=True, ema_momentum=0.99
    )
    print(f"{model.count_params():,} parameters, {steps} steps", flush=True)
    remember = Remember(args.out)
    validate = Validate(val_images, val_labels, 5, args.epochs, image_size, path)
    callbacks = [
        remember,  # before the averages take the place of the weights
        keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
        validate,
        keras.callbacks.CSVLogger(args.out / "log.csv", append=True),
    ]
    model.compile(optimizer=optimizer, metrics=None)
    first = remember.restore(model) if args.resume else 0
    for size, until in SIZES:
        last = round(args.epochs * until)
        if first >= last:
            continue
        model.preprocessor.image_size = size
        # Anew for each size: TensorFlow then knows it, which is faster. The optimizer goes on.
        model.compile(optimizer=optimizer, metrics=None)
        data = Frames(images, labels, class_weights, size, args.batch_size, args.seed + first)
        model.fit(data, initial_epoch=first, epochs=last, verbose=2, callbacks=callbacks)
        first = last


if __name__ == "__main__":
    main()
