# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Fine-tune depth on your own folder
#
# From a relative model to one that answers in **metres**, for your camera and your kind of scene:
# photos in one folder, measured depth in another, a few minutes of training.
#
# Without a folder of yours, the notebook makes rooms with balls in them, whose depth is known
# exactly. The bundled network has never seen anything like them.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # or jax, or torch
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow speaks of errors only

from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import keras_dpt
from keras_dpt import datasets, training

# A folder with train/images, train/depth, val/images and val/depth; None makes one.
DATA = os.environ.get("KERAS_DPT_DEPTH_DATA")
UNIT = "mm"  # of the numbers in the depth files: "m", "mm", or metres per stored number
PRESET = "dpt_mini_nyuv2"  # dpt_hybrid or dpt_large for photos that matter, on a GPU
SIZE = (128, 160)  # height and width that the network sees, multiples of 32
EPOCHS = 6

QUICK = os.environ.get("KERAS_DPT_QUICK") == "1"  # for tests: runs, learns next to nothing
if QUICK:
    SIZE, EPOCHS = (64, 64), 1

keras.utils.set_random_seed(0)
print(keras.config.backend(), "on", keras.ops.zeros(1).device)

# %% [markdown]
# ## Data
#
# A picture and its depth have the same name: `images/7.jpg` and `depth/7.png`, 16 bit, here in
# millimetres. 0 means unknown; nothing is learnt there. Depth is measured along the optical axis
# (as depth cameras give it), not along the ray.
#
# The next cell draws the rooms: for each pixel, the nearest of five planes and three balls that
# its ray meets. Skip it if you have data.


# %%
def draw_room(rng, height=128, width=160):
    """A photo `(H, W, 3)` uint8 and its depth `(H, W)` in metres."""
    x, y = np.meshgrid(np.arange(width) - width / 2 + 0.5, np.arange(height) - height / 2 + 0.5)
    focal_length = 0.7 * width  # 71 degrees wide
    rays = np.stack([x / focal_length, y / focal_length, np.ones_like(x)], axis=-1)
    half, eye, ceiling, back = rng.uniform((1, 0.9, 1, 3), (2.2, 1.4, 1.6, 6))
    depth, color = np.full(x.shape, np.inf), np.zeros(rays.shape)

    def paint(z, shade, base):
        nearer = (z > 0) & (z < depth)
        depth[nearer] = z[nearer]
        color[nearer] = (shade[..., None] * base)[nearer]

    for axis, where in [(1, eye), (1, -ceiling), (0, half), (0, -half), (2, back)]:
        z = np.clip(where / rays[..., axis], -100, 100)
        tiles = np.floor(rays * z[..., None] / rng.uniform(0.3, 0.8) + 0.01).sum(-1)
        paint(z, 0.85 + 0.15 * (tiles % 2), rng.uniform(90, 230, 3))
    for _ in range(4):
        radius = rng.uniform(0.2, 0.5)
        distance = rng.uniform(1.8, back - radius)
        centre = np.array([rng.uniform(-0.6, 0.6) * distance, eye - radius, distance])
        a, b, c = (rays**2).sum(-1), rays @ centre, centre @ centre - radius**2
        hit = b**2 > a * c
        z = (b - np.sqrt(np.where(hit, b**2 - a * c, 0))) / a
        upwards = (centre[1] - rays[..., 1] * z) / radius
        paint(np.where(hit, z, np.inf), 0.6 + 0.4 * upwards, rng.uniform(60, 255, 3))
    fog = np.exp(-depth / 12)[..., None]
    noise = rng.normal(0, 4, color.shape)
    return np.clip(color * fog + 30 * (1 - fog) + noise, 0, 255).astype("uint8"), depth


def make_rooms(folder, count, seed):
    """Write `count` pairs as `folder/images/*.jpg` and `folder/depth/*.png` in millimetres."""
    rng = np.random.default_rng(seed)
    for name in ("images", "depth"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        photo, depth = draw_room(rng)
        Image.fromarray(photo).save(folder / f"images/{i:03}.jpg", quality=95)
        Image.fromarray(np.rint(1000 * depth).astype("uint16")).save(folder / f"depth/{i:03}.png")


if DATA is None:
    DATA = "rooms"
    make_rooms(Path(DATA, "train"), 8 if QUICK else 160, seed=0)
    make_rooms(Path(DATA, "val"), 4 if QUICK else 32, seed=1)

# %% [markdown]
# `datasets.folder` pairs the files and names those that have no partner; `datasets.check` reads
# each one and says what cannot be used. A unit is never guessed: a wrong one would spoil the
# training.

# %%
train, val = (
    datasets.folder(
        Path(DATA, split, "images"), Path(DATA, split, "depth"), kind="metric_depth", unit=UNIT
    )
    for split in ("train", "val")
)
print(train, val, sep="\n")
print("cannot be used:", datasets.check(train) | datasets.check(val) or "none")

sample = train[0]
print("depth from", sample.target[sample.valid].min(), "to", sample.target.max(), "m")
figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
axes[0].imshow(sample.image)
shown = axes[1].imshow(np.where(sample.valid, sample.target, np.nan), cmap="viridis_r")
figure.colorbar(shown, label="m")
for axis in axes:
    axis.axis("off")
plt.show()

# %% [markdown]
# ## Batches
#
# Training pictures are cut to the network's size, mirrored and changed in colour, but never
# enlarged: a picture enlarged looks nearer than its metres say. Validation takes the middle of
# each picture.

# %%
BATCH = 8
batches = datasets.Batches(train, SIZE, BATCH, target="depth", seed=0)
val_batches = datasets.Batches(val, SIZE, BATCH, target="depth", augment=False)

# %% [markdown]
# ## Aligned only
#
# How far does the relative network get without training? As in the DPT paper, its predictions are
# aligned to the training set, and the *average* scale and shift are put into the model. From then
# on it answers in metres. `abs_rel` is the mean of |error| / depth, `d1` the share of pixels
# whose depth is less than 25 % off.

# %%
model = keras_dpt.DPTDepth.from_preset(PRESET)
model.preprocessor.image_size = SIZE
aligned = training.to_metric(model, datasets.Batches(train, SIZE, BATCH, "depth", augment=False))
aligned.compile()
before = aligned.evaluate(val_batches, return_dict=True, verbose=0)
print(f"depth = 1 / ({aligned.scale:.4f} x + {aligned.shift:.4f}) m")
print({name: round(float(value), 3) for name, value in before.items()})

photo = val[0].image
depth_before = aligned.predict_image(photo).metres

# %% [markdown]
# ## Fine-tune
#
# `fit_metric` is the same alignment, then `fit`, with the scale-invariant log loss. One rate for
# all weights suits this small network; leave `learning_rate` out for the large presets, and the
# encoder gets 1e-5, the rest 1e-4.

# %%
model = keras_dpt.DPTDepth.from_preset(PRESET)
model.preprocessor.image_size = SIZE
metric = training.fit_metric(
    model,
    batches,
    alignment_data=datasets.Batches(train, SIZE, BATCH, "depth", augment=False),
    learning_rate=3e-4,
    epochs=EPOCHS,
    validation_data=val_batches,
    verbose=2,
)

# %%
history = metric.history.history
epochs = np.arange(1, len(history["abs_rel"]) + 1)
figure, axis = plt.subplots(figsize=(6, 3.5))
axis.axhline(before["abs_rel"], color="grey", linestyle="--", label="aligned only")
axis.plot(epochs, history["abs_rel"], "o-", label="training, augmented")
axis.plot(epochs, history["val_abs_rel"], "o-", label="validation")
axis.set(xlabel="epoch", ylabel="AbsRel", ylim=(0, None))
axis.legend()
plt.show()

# %% [markdown]
# ## Look at it
#
# A validation picture, with one range of colours for all maps.

# %%
truth = np.where(val[0].valid, val[0].target, np.nan)
depth = metric.predict_image(photo)
print(depth)
low, high = np.nanmin(truth), np.nanmax(truth)
style = {"cmap": "viridis_r", "vmin": low, "vmax": high}
figure, axes = plt.subplots(2, 2, figsize=(10, 7.5), layout="constrained")
axes[0, 0].imshow(photo)
axes[0, 1].imshow(truth, **style)
axes[1, 0].imshow(depth_before, **style)
shown = axes[1, 1].imshow(depth.metres, **style)
titles = ("photo", "truth", "aligned only", "fine-tuned")
for axis, title in zip(axes.flat, titles, strict=True):
    axis.set(title=title, xticks=[], yticks=[])
figure.colorbar(shown, ax=axes, label="m", shrink=0.6)
plt.show()

# %% [markdown]
# ## Keep it
#
# A preset is a folder that any backend loads; kind, unit and image size are inside.

# %%
metric.save_to_preset("my_depth_preset")
again = keras_dpt.DPTDepth.from_preset("my_depth_preset")
difference = np.abs(again.predict_image(photo).metres - depth.metres).max()
print(again.kind, "- largest difference after loading:", difference, "m")

# %% [markdown]
# It holds for this camera: a lens of another focal length makes things look nearer or farther,
# and no network can see that in one photo. For longer trainings, which resume and keep the best
# epoch, see `examples/finetune_depth.py`.
