# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Segmentation with classes of your own
#
# The embedded network tells 11 classes of street scenes apart. Here it learns others: the last
# convolutions start anew, all other weights stay and are trained along.
#
# Without a folder of yours, the notebook makes pictures of discs, triangles and squares on
# photographed brick, grass and gravel. Colours are drawn at random, so that only the shape tells
# the class.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # or jax, or torch
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow speaks of errors only

from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from skimage import data, draw

import keras_dpt
from keras_dpt import datasets

# A folder with train/images, train/labels, val/images and val/labels; None makes one.
DATA = os.environ.get("KERAS_DPT_LABEL_DATA")
CLASS_NAMES = ["background", "disc", "triangle", "square"]  # one per id, from 0
PRESET = "dpt_mini_camvid"  # dpt_hybrid_ade20k for photos that matter, on a GPU
SIZE = (96, 128)  # height and width that the network sees, multiples of 32
EPOCHS = 12

QUICK = os.environ.get("KERAS_DPT_QUICK") == "1"  # for tests: runs, learns next to nothing
if QUICK:
    SIZE, EPOCHS = (64, 64), 1

keras.utils.set_random_seed(0)
print(keras.config.backend(), "on", keras.ops.zeros(1).device)

# %% [markdown]
# ## Data
#
# A picture and its labels have the same name: `images/7.jpg` and `labels/7.png`, where each pixel
# of the 8-bit PNG is a class id, 0 to 3 here, or 255 where the class is unknown; such pixels
# count nowhere.
#
# The next cell draws the shapes. Skip it if you have data.

# %%
GROUNDS = (data.brick(), data.grass(), data.gravel())


def draw_shapes(rng, height=96, width=128):
    """A photo `(H, W, 3)` uint8 and its labels `(H, W)` uint8."""
    ground = GROUNDS[rng.integers(len(GROUNDS))]
    top, left = rng.integers(512 - height), rng.integers(512 - width)
    light = ground[top : top + height, left : left + width, None] / 255
    photo = light * rng.uniform(100, 255, 3)
    labels = np.zeros((height, width), "uint8")
    for _ in range(rng.integers(2, 5)):
        label = rng.integers(1, 4)
        radius = rng.uniform(10, 22)
        row, column = rng.uniform((0, 0), (height, width))
        if label == 1:
            inside = draw.disk((row, column), radius, shape=labels.shape)
        else:
            corners = label + 1
            angles = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(corners) / corners
            inside = draw.polygon(
                row + 1.2 * radius * np.sin(angles),
                column + 1.2 * radius * np.cos(angles),
                shape=labels.shape,
            )
        photo[inside] = rng.uniform(0, 255, 3) * rng.uniform(0.8, 1, (len(inside[0]), 1))
        labels[inside] = label
    return np.clip(photo + rng.normal(0, 6, photo.shape), 0, 255).astype("uint8"), labels


def make_shapes(folder, count, seed):
    """Write `count` pairs as `folder/images/*.jpg` and `folder/labels/*.png`."""
    rng = np.random.default_rng(seed)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        photo, labels = draw_shapes(rng)
        Image.fromarray(photo).save(folder / f"images/{i:03}.jpg", quality=95)
        Image.fromarray(labels).save(folder / f"labels/{i:03}.png")


if DATA is None:
    DATA = "shapes"
    make_shapes(Path(DATA, "train"), 8 if QUICK else 240, seed=0)
    make_shapes(Path(DATA, "val"), 4 if QUICK else 48, seed=1)

# %% [markdown]
# `datasets.folder` pairs the files and names those that have no partner; `datasets.check` reads
# each one and says what cannot be used, such as an id that is no class.

# %%
train, val = (
    datasets.folder(
        Path(DATA, split, "images"),
        Path(DATA, split, "labels"),
        kind="labels",
        class_names=CLASS_NAMES,
    )
    for split in ("train", "val")
)
print(train, val, sep="\n")
print("cannot be used:", datasets.check(train) | datasets.check(val) or "none")

sample = train[0]
truth = keras_dpt.LabelMap(sample.target.astype("uint8"), CLASS_NAMES)
picture = truth.overlay(sample.image, legend=True)
picture.resize([3 * side for side in picture.size])

# %% [markdown]
# ## The network, with new classes

# %%
model = keras_dpt.DPTSegmentation.from_preset(
    PRESET, num_classes=len(CLASS_NAMES), class_names=CLASS_NAMES
)
model.preprocessor.image_size = SIZE

BATCH = 8
batches = datasets.Batches(train, SIZE, BATCH, target="labels", seed=0)
val_batches = datasets.Batches(val, SIZE, BATCH, target="labels", augment=False)

# %% [markdown]
# `compile` picks the paper's loss and its SGD, whose rate falls to 0 over `steps`. Adam gets
# there sooner from so few pictures.

# %%
steps = EPOCHS * len(batches)
rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
model.compile(optimizer=keras.optimizers.Adam(rate))
before = model.evaluate(val_batches, return_dict=True, verbose=0)
print("untrained:", {name: round(float(value), 3) for name, value in before.items()})

history = model.fit(batches, epochs=EPOCHS, validation_data=val_batches, verbose=2).history

# %% [markdown]
# Mean IoU: for each class, the pixels that truth and prediction share, divided by those that
# either has; then the average over the classes. 1 is perfect.

# %%
epochs = np.arange(1, len(history["mean_iou"]) + 1)
figure, axis = plt.subplots(figsize=(6, 3.5))
axis.axhline(before["mean_iou"], color="grey", linestyle="--", label="untrained")
axis.plot(epochs, history["mean_iou"], "o-", label="training, augmented")
axis.plot(epochs, history["val_mean_iou"], "o-", label="validation")
axis.set(xlabel="epoch", ylabel="mean IoU", ylim=(0, 1))
axis.legend()
plt.show()

# %% [markdown]
# ## Look at it

# %%
figure, axes = plt.subplots(3, 3, figsize=(11, 8), layout="constrained")
for row, i in zip(axes, range(3), strict=True):
    sample = val[i]
    labels = model.predict_image(sample.image)
    truth = keras_dpt.LabelMap(sample.target.astype("uint8"), labels.class_names, labels.palette)
    row[0].imshow(sample.image)
    row[1].imshow(truth.colorize())
    row[2].imshow(labels.colorize())
for axis, title in zip(axes[0], ("photo", "truth", "prediction"), strict=True):
    axis.set_title(title)
for axis in axes.flat:
    axis.axis("off")
plt.show()

# %% [markdown]
# What a label map knows, beside the ids: names, colours, shares of the pixels, and how probable
# the network holds each pixel's label.

# %%
labels = model.predict_image(val[0].image)
print({name: f"{share:.1%}" for name, share in labels.shares().items()})
print("lowest confidence:", round(float(labels.confidence.min()), 2))
labels.save("labels.png")
picture = labels.overlay(val[0].image, legend=True)
picture.resize([3 * side for side in picture.size])

# %% [markdown]
# ## Keep it

# %%
model.save_to_preset("my_label_preset")
again = keras_dpt.DPTSegmentation.from_preset("my_label_preset")
same = np.mean(again.predict_image(val[0].image).labels == labels.labels)
print(again.class_names, f"- pixels with the same label after loading: {same:.1%}")
