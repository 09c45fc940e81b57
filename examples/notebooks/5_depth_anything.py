# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Depth Anything V2 in metres, with LoRA
#
# `depth_anything_v2_small` predicts relative depth of any photo. Here it is aligned to a data set
# with measured depth and fine-tuned to **metres**: the backbone stays as it is but for low-rank
# adapters (LoRA), so that few weights are trained and stored.
#
# The weights (99 MB) are downloaded. Where that is not possible, the bundled `dpt_mini_nyuv2`, a
# smaller network on another encoder, takes their place: the steps are the same.

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
from keras_dpt import datasets, losses, training

# NAME:FOLDER as in `keras_dpt.datasets`, such as nyuv2:DATA/nyuv2; None draws rooms.
DATA = os.environ.get("KERAS_DPT_METRIC_DATA")
PRESET = "depth_anything_v2_small"
SIZE = (224, 224)  # that the network sees: multiples of 14 (and 32, for the bundled one)
RANK, EPOCHS, BATCH = 8, 4, 8

QUICK = os.environ.get("KERAS_DPT_QUICK") == "1"  # for tests: runs, is hardly trained
if QUICK:
    EPOCHS, BATCH = 1, 4

keras.utils.set_random_seed(0)

# %% [markdown]
# ## Data
#
# Any data set with metres will do. Without one, the next cell draws rooms: a floor, a back wall
# and a ball, whose depth is known exactly.


# %%
def draw_room(rng, height=240, width=320):
    """A photo `(H, W, 3)` uint8 and its depth `(H, W)` in metres."""
    x, y = np.meshgrid(np.arange(width) - width / 2 + 0.5, np.arange(height) - height / 2 + 0.5)
    rays = np.stack([x, y, np.full_like(x, 0.8 * width)], axis=-1) / (0.8 * width)
    eye, back, radius = rng.uniform((1, 3, 0.3), (1.6, 7, 0.6))
    floor = np.where(rays[..., 1] > 0, eye / np.maximum(rays[..., 1], 1e-6), np.inf)
    depth = np.minimum(floor, back)
    tiles = 0.8 + 0.2 * (np.floor(3 * rays * depth[..., None]).sum(-1) % 2)
    is_floor = (floor < back)[..., None]
    color = tiles[..., None] * np.where(is_floor, rng.uniform(60, 200, 3), rng.uniform(60, 200, 3))
    distance = rng.uniform(1.5, back - radius)
    center = np.array([rng.uniform(-0.4, 0.4) * distance, eye - radius, distance])
    a, b, c = (rays**2).sum(-1), rays @ center, center @ center - radius**2
    ball = b**2 > a * c
    z = (b - np.sqrt(np.where(ball, b**2 - a * c, 0))) / a
    shade = (0.6 + 0.4 * (center[1] - rays[..., 1] * z) / radius)[..., None]
    color = np.where(ball[..., None], shade * rng.uniform(60, 255, 3), color)
    depth = np.where(ball, z, depth)
    fog = np.exp(-depth / 10)[..., None]
    return np.clip(color * fog + 40 * (1 - fog), 0, 255).astype("uint8"), depth


def rooms(folder, count, seed):
    """Write that many and return them as a data set."""
    rng = np.random.default_rng(seed)
    for name in ("images", "depth"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        photo, depth = draw_room(rng)
        Image.fromarray(photo).save(folder / f"images/{i:03}.jpg", quality=95)
        Image.fromarray(np.rint(1000 * depth).astype("uint16")).save(folder / f"depth/{i:03}.png")
    return datasets.folder(folder / "images", folder / "depth", kind="metric_depth", unit="mm")


if DATA:
    train, val = (datasets.named(DATA, split) for split in ("train", "val"))
else:
    train = rooms(Path("rooms/train"), 8 if QUICK else 64, seed=0)
    val = rooms(Path("rooms/val"), 4 if QUICK else 16, seed=1)
if len(train) > 100:  # of a large one, a part that a CPU gets through
    train, val = train.subset(slice(0, 100)), val.subset(slice(0, 20))
print(train, val, sep="\n")


def batches(source, target="depth", **options):
    return datasets.Batches(source, SIZE, BATCH, target, **options)


# %% [markdown]
# ## The relative network
#
# A network from random weights must first be trained to tell near from far:
# `examples/train_depth.py --from-scratch`. Until then, there is nothing to align.

# %%
try:
    model = keras_dpt.DPTDepth.from_preset("dpt_mini_nyuv2" if QUICK else PRESET)
except keras_dpt.WeightsError as error:
    print(error, "\nThe bundled network takes its place.")
    model = keras_dpt.DPTDepth.from_preset("dpt_mini_nyuv2")
model.preprocessor.image_size = SIZE
print(f"{model.count_params() / 1e6:.2f} million weights, {model.kind}")

# %% [markdown]
# ## Aligned only
#
# Each prediction is aligned to its ground truth in inverse depth, and the averages of scale and
# shift over the training set become part of the model, which then predicts metres.

# %%
metric = training.to_metric(model, batches(train, augment=False))
metric.compile()
before = metric.evaluate(batches(val, augment=False), return_dict=True, verbose=0)
print(f"depth = 1 / ({metric.scale:.4g} x + {metric.shift:.4g}) m")
print({name: round(float(value), 3) for name, value in before.items()})
photo = val[0].image
depth_before = metric.predict_image(photo).metres

# %% [markdown]
# ## Fine-tune with LoRA
#
# `enable_lora` freezes the backbone and gives the encoder's query, key and value projections
# adapters of rank 8; head and adapters are trained. Leave that line and `learning_rate` out, and
# all weights are, with the paper's rates: 5e-6 in the encoder and ten times that elsewhere.

# %%
metric.backbone.enable_lora(RANK)
trained = sum(int(np.prod(variable.shape)) for variable in metric.trainable_variables)
print(f"{100 * trained / metric.count_params():.1f} % of the weights are trained")
metric.compile(loss=losses.ScaleInvariantLogLoss(0.85, root=True), learning_rate=1e-3)
history = metric.fit(
    batches(train), epochs=EPOCHS, validation_data=batches(val, augment=False), verbose=2
).history

# %%
figure, axis = plt.subplots(figsize=(6, 3.5))
axis.axhline(before["abs_rel"], color="grey", linestyle="--", label="aligned only")
axis.plot(np.arange(1, len(history["val_abs_rel"]) + 1), history["val_abs_rel"], "o-", label="LoRA")
axis.set(xlabel="epoch", ylabel="validation AbsRel", ylim=(0, None))
axis.legend()
plt.show()

# %%
truth = np.where(val[0].valid, val[0].target, np.nan)
depth = metric.predict_image(photo)
print(depth)
style = {"cmap": "viridis_r", "vmin": np.nanmin(truth), "vmax": np.nanmax(truth)}
figure, axes = plt.subplots(2, 2, figsize=(10, 7.5), layout="constrained")
axes[0, 0].imshow(photo)
axes[0, 1].imshow(truth, **style)
axes[1, 0].imshow(depth_before, **style)
shown = axes[1, 1].imshow(depth.metres, **style)
titles = ("photo", "ground truth", "aligned only", "with LoRA")
for axis, title in zip(axes.flat, titles, strict=True):
    axis.set(title=title, xticks=[], yticks=[])
figure.colorbar(shown, ax=axes, label="m", shrink=0.6)
plt.show()

# %% [markdown]
# ## Keep it
#
# Adapters are folded into the kernels when the preset is saved: what loads it needs no LoRA.

# %%
metric.save_to_preset("my_metric_preset")
again = keras_dpt.DPTDepth.from_preset("my_metric_preset")
difference = np.abs(again.predict_image(photo).metres - depth.metres).max()
print(again.kind, "- largest difference after loading:", difference, "m")

# %% [markdown]
# The whole of it, with resuming, best epochs and logs, is one command:
#
#     python examples/finetune_depth.py nyuv2:DATA/nyuv2 --preset depth_anything_v2_small \
#         --size 392x518 --epochs 20 --lora 8 --out runs/metres
