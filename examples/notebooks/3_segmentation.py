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
# The bundled network predicts 11 classes of street scenes. Here it is trained on others: only the
# final layers are re-initialised, and all weights are trained.
#
# Without a folder of yours, the notebook makes collages of three photographs that scikit-image
# ships, of brick, grass and gravel. Colour and light are drawn at random, so that only the
# material itself tells the class.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # or jax, or torch
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow speaks of errors only

from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from skimage import data

import keras_dpt
from keras_dpt import datasets

# A folder with train/images, train/labels, val/images and val/labels; None makes one.
DATA = os.environ.get("KERAS_DPT_LABEL_DATA")
CLASS_NAMES = ["brick", "grass", "gravel"]  # one per id, from 0
PRESET = "dpt_mini_camvid"  # dpt_hybrid_ade20k for photos that matter, on a GPU
SIZE = (96, 128)  # height and width that the network sees, multiples of 32
EPOCHS = 16

QUICK = os.environ.get("KERAS_DPT_QUICK") == "1"  # for tests: runs, learns next to nothing
if QUICK:
    SIZE, EPOCHS = (64, 64), 1

keras.utils.set_random_seed(0)
print(keras.config.backend(), "on", keras.ops.zeros(1).device)

# %% [markdown]
# ## Data
#
# A picture and its labels have the same name: `images/7.jpg` and `labels/7.png`, where each pixel
# of the 8-bit PNG is a class id, 0 to 2 here, or 255 where the class is unknown; such pixels
# count nowhere.
#
# The next cell makes the collages, of the photographs' left halves for training and of their
# right halves for validation. Skip it if you have data.


# %%
def make_collage(rng, half, height=96, width=128):
    """A picture `(H, W, 3)` uint8 and its labels `(H, W)` uint8."""
    row, column = np.mgrid[:height, :width]
    # Each of five places has a material; a pixel is of the place that is nearest to it.
    places = rng.uniform((0, 0), (height, width), (5, 2))
    distances = [(row - y) ** 2 + (column - x) ** 2 for y, x in places]
    nearest = np.argmin(distances, axis=0)
    picture = np.zeros((height, width, 3))
    labels = np.zeros((height, width), "uint8")
    for place in range(5):
        label = rng.integers(len(CLASS_NAMES))
        material = (data.brick(), data.grass(), data.gravel())[label]
        top, left = rng.integers(512 - height), rng.integers(256 - width) + 256 * half
        crop = material[top : top + height, left : left + width, None]
        inside = nearest == place
        picture[inside] = (crop * rng.uniform(0.5, 1.6, 3))[inside]
        labels[inside] = label
    return np.clip(picture, 0, 255).astype("uint8"), labels


def make_collages(folder, count, half):
    """Write `count` pairs as `folder/images/*.jpg` and `folder/labels/*.png`."""
    rng = np.random.default_rng(half)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        picture, labels = make_collage(rng, half)
        Image.fromarray(picture).save(folder / f"images/{i:03}.jpg", quality=95)
        Image.fromarray(labels).save(folder / f"labels/{i:03}.png")


if DATA is None:
    DATA = "collages"
    make_collages(Path(DATA, "train"), 8 if QUICK else 160, half=0)
    make_collages(Path(DATA, "val"), 4 if QUICK else 32, half=1)

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
# `compile` picks the paper's loss, and its SGD unless told otherwise: here it is Adam, with a rate
# that falls to 0.

# %%
steps = EPOCHS * len(batches)
rate = keras.optimizers.schedules.CosineDecay(3e-4, steps)
model.compile(optimizer=keras.optimizers.Adam(rate))
before = model.evaluate(val_batches, return_dict=True, verbose=0)
print("untrained:", {name: round(float(value), 3) for name, value in before.items()})

history = model.fit(batches, epochs=EPOCHS, validation_data=val_batches, verbose=2).history

# %% [markdown]
# Mean IoU: for each class, the pixels that ground truth and prediction share, divided by those that
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
