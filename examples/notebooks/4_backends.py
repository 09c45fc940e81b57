# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Switch the backend, see equal numbers
#
# The same model runs on TensorFlow, JAX and PyTorch. Keras reads `KERAS_BACKEND` once, when it is
# first imported; a process then stays with its backend. So each backend gets a process of its own
# here.

# %%
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from skimage import data

PRESET = "dpt_mini_nyuv2"
PHOTO = None  # a path; None takes a sample photo

QUICK = os.environ.get("KERAS_DPT_QUICK") == "1"  # a small picture, for tests
BACKENDS = [name for name in ("tensorflow", "jax", "torch") if importlib.util.find_spec(name)]
print("Installed here:", ", ".join(BACKENDS))

# %%
photo = Image.fromarray(data.stereo_motorcycle()[0]) if PHOTO is None else Image.open(PHOTO)
if QUICK:
    photo = photo.resize((160, 128))
photo.save("photo.png")
photo

# %% [markdown]
# ## One script, three backends
#
# There is nothing in it about a backend. It predicts, and if asked to, trains a few steps on fixed
# data and saves a preset.

# %%
script = """
import sys
import time

import keras
import numpy as np

import keras_dpt

preset, result, steps = sys.argv[1:]
model = keras_dpt.DPTDepth.from_preset(preset)
depth = model.predict_image("photo.png").values
start = time.perf_counter()
model.predict_image("photo.png")
print(f"{keras.config.backend()}: {1000 * (time.perf_counter() - start):.0f} ms a photo")

losses = []
if int(steps):
    rng = np.random.default_rng(0)
    model.preprocessor.image_size = (64, 64)
    images = rng.uniform(0, 255, (4, 64, 64, 3)).astype("float32")
    targets = rng.uniform(0.1, 1, (4, 64, 64, 1)).astype("float32")
    model.compile()
    # One batch holds all images: an epoch is a step.
    losses = model.fit(images, targets, batch_size=4, epochs=int(steps), verbose=0).history["loss"]
    model.save_to_preset(result)
np.savez(result + ".npz", depth=depth, loss=losses)
"""
written = Path("one_script.py").write_text(script)

# %% [markdown]
# Graphics cards round the factors of products to 10 bits (TF32) unless told otherwise, each
# backend in its own places. `NVIDIA_TF32_OVERRIDE=0` asks NVIDIA's libraries for all 23.


# %%
def run(backend, preset, result, steps=0):
    """Run the script in a process of its own, on one backend."""
    environment = os.environ | {"KERAS_BACKEND": backend, "NVIDIA_TF32_OVERRIDE": "0"}
    command = [sys.executable, "one_script.py", preset, result, str(steps)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    print(done.stdout.strip().splitlines()[-1])
    return np.load(f"{result}.npz")


results = {backend: run(backend, PRESET, f"on_{backend}", steps=2) for backend in BACKENDS}

# %% [markdown]
# The times are of one look at one photo, after a first one that compiles. They tell nothing about
# large presets.
#
# ## Equal numbers
#
# Computers add in different orders, and 32-bit numbers hold about 7 digits. So equal means: the
# difference is in the last digits. It is given as a share of the range of the values.

# %%
first = results[BACKENDS[0]]
spread = np.ptp(first["depth"])
print(f"compared with {BACKENDS[0]}:")
for backend, result in results.items():
    depth = np.abs(result["depth"] - first["depth"]).max() / spread
    loss = np.abs(result["loss"] / first["loss"] - 1).max()
    print(f"{backend:>10}: depth differs by {depth:.1e} of its range, losses by {loss:.1e}")
    assert depth < 1e-4 and loss < 1e-3

# %%
figure, axes = plt.subplots(2, len(results), figsize=(4 * len(results), 6), layout="constrained")
axes = axes.reshape(2, -1)
for column, (backend, result) in zip(axes.T, results.items(), strict=True):
    column[0].imshow(result["depth"], cmap="inferno")
    difference = np.abs(result["depth"] - first["depth"]) / spread
    shown = column[1].imshow(difference, cmap="viridis", vmin=0, vmax=1e-6)
    column[0].set_title(backend)
    for axis in column:
        axis.set(xticks=[], yticks=[])
axes[0, 0].set_ylabel("relative inverse depth")
axes[1, 0].set_ylabel(f"difference from {BACKENDS[0]}")
figure.colorbar(shown, ax=axes[1], label="share of the range")
plt.show()

# %% [markdown]
# ## Train here, predict there
#
# A preset is a folder of weights and settings; no backend is in it. The last backend loads what
# the first one has trained.

# %%
there = run(BACKENDS[-1], f"on_{BACKENDS[0]}", "there")
here = run(BACKENDS[0], f"on_{BACKENDS[0]}", "here")
difference = np.abs(there["depth"] - here["depth"]).max() / np.ptp(here["depth"])
print(f"{BACKENDS[0]}'s, loaded by {BACKENDS[-1]}: differs by {difference:.1e} of the range")
assert difference < 1e-4
