# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Depth in three lines, and what the numbers mean
#
# A Dense Prediction Transformer looks at one photo and says for every pixel how near it is. Here
# it is a small one that comes with the package, so nothing is downloaded: 5.3 million parameters,
# trained on 795 indoor frames. It is there to try things out. For photos that matter take
# `dpt_hybrid` or `dpt_large`, the official weights, which are fetched when first asked for.
#
# A CPU does; a GPU is used if there is one.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # or jax, or torch: the numbers are the same
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow speaks of errors only

import keras
import matplotlib.pyplot as plt
import numpy as np
from skimage import data

import keras_dpt

PRESET = "dpt_mini_nyuv2"
QUICK = os.environ.get("KERAS_DPT_QUICK") == "1"  # a small picture, for tests

print(keras.config.backend(), "on", keras.ops.zeros(1).device)

# %% [markdown]
# ## Three lines
#
# The photo is Middlebury's "motorcycle", which scikit-image ships together with measured
# distances. `predict_image` takes a path, a PIL image or an array, of any size.

# %%
photo, _, disparity = data.stereo_motorcycle()
step = 4 if QUICK else 1
photo, disparity = photo[::step, ::step], disparity[::step, ::step]

# %%
model = keras_dpt.DPTDepth.from_preset(PRESET)
depth = model.predict_image(photo)
depth.colorize()

# %% [markdown]
# ## What the numbers are
#
# A prediction knows what its numbers mean.

# %%
print(depth)
print("kind:", depth.kind)
print("unit:", depth.unit)

# %% [markdown]
# The kind is **relative inverse depth**. Inverse: the *larger* a value, the *nearer* the pixel.
# Relative: `a * value + b` is 1 / metres, for two numbers `a > 0` and `b` that are unknown from
# the photo alone. A doll's house and a house look the same.
#
# So a value of 4 is not 4 metres, not 1/4 metre, and not twice as near as 2. What does hold is
# the order, and that differences are proportional: from 2 to 4 it is as far *in 1 / metres* as
# from 4 to 6.
#
# Asking such a map for metres is a mistake, and is answered as one:

# %%
try:
    depth.metres
except keras_dpt.DepthError as error:
    print(error)

# %% [markdown]
# ## Against the ground truth
#
# For this photo the ground truth is known: two cameras, 0.193 m apart, saw each point shifted by
# `disparity` pixels, and from this follows its distance. Undo the inverse and the two are on one
# line, up to the errors of the network. The line is `1 / metres = a * value + b`.

# %%
FOCAL_LENGTH, BASELINE, OFFSET = 994.978, 0.193001, 31.086  # pixels, metres, pixels
known = np.isfinite(disparity)
metres = np.where(known, BASELINE * FOCAL_LENGTH / (disparity + OFFSET), np.nan)
print(f"The scene is {metres[known].min():.2f} m to {metres[known].max():.2f} m away.")

a, b = keras_dpt.align_scale_shift(depth.values, 1 / metres, mask=known)
print(f"1 / metres = {a:.4f} * value + {b:.4f}")

sample = np.random.default_rng(0).choice(np.flatnonzero(known), 3000)
values = depth.values.ravel()[sample]
line = np.array([values.min(), values.max()])
figure, axis = plt.subplots(figsize=(7, 5))
axis.plot(values, 1 / metres.ravel()[sample], ".", markersize=2, label="pixels")
axis.plot(line, a * line + b, color="black", label="best line")
axis.set(xlabel="value of the prediction (no unit)", ylabel="truth, 1 / metres")
axis.legend()
plt.show()

# %% [markdown]
# The cloud is wide: this is a small network, and a garage is new to it. How wide is what an
# evaluation measures, after the best line was taken away (`keras-dpt evaluate`).
#
# ## From relative to metres
#
# Two distances that you know in the photo fix `a` and `b`; a few more, at different distances,
# even out the errors. Here six are read from the truth, as if by tape measure: rows of (row,
# column, metres).

# %%
height, width = depth.values.shape
places = [(0.95, 0.5), (0.75, 0.1), (0.5, 0.4), (0.1, 0.05), (0.35, 0.85), (0.6, 0.75)]
points = []
for y, x in places:
    row, column = round(y * height), round(x * width)
    around = metres[row - 5 : row + 6, column - 5 : column + 6]
    points.append((row, column, np.nanmedian(around)))

metric = depth.to_metric(points=points, max_depth=10.0)
print(metric)
print("in the middle:", round(float(metric.metres[height // 2, width // 2]), 2), "m")

# %%
error = np.abs(metric.metres - metres) / metres
print(f"relative error: median {np.nanmedian(error):.0%}, mean (AbsRel) {np.nanmean(error):.0%}")

figure, axes = plt.subplots(2, 2, figsize=(11, 7.5), layout="constrained")
low, high = np.nanpercentile(metres, (1, 99))
panels = (
    ("photo, with the known points", photo, {}),
    ("relative inverse depth (no unit)", depth.values, {"cmap": "inferno"}),
    ("aligned at six points, m", metric.metres, {"cmap": "viridis_r", "vmin": low, "vmax": high}),
    ("truth, m (white: unknown)", metres, {"cmap": "viridis_r", "vmin": low, "vmax": high}),
)
for axis, (title, picture, style) in zip(axes.flat, panels, strict=True):
    shown = axis.imshow(picture, **style)
    axis.set(title=title, xticks=[], yticks=[])
    if style:
        figure.colorbar(shown, ax=axis)
rows, columns, _ = np.transpose(points)
axes[0, 0].plot(columns, rows, "w+", markersize=14, markeredgewidth=3)
plt.show()

# %% [markdown]
# ## Files that keep the meaning
#
# A 16-bit PNG with kind, unit and scale inside; `.npy` and `.pfm` hold the bare values.

# %%
depth.save("depth.png")
again = keras_dpt.DepthMap.load("depth.png")
print(again)
print("largest change:", f"{np.abs(again.values - depth.values).max():.1e}")

# %% [markdown]
# Other photos of yours: `model.predict_images(["a.jpg", "b.jpg"])`, of mixed sizes if need be.
# Each has its own `a` and `b`, so compare values within a photo, not between photos. For metres
# without measuring anything there are `dpt_hybrid_nyu` (rooms) and `dpt_hybrid_kitti` (driving),
# which hold for cameras like those of their training sets; or the next notebook, for your own
# camera.
