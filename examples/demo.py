"""Depth of a sample photo with the bundled weights, beside the ground truth.

    python examples/demo.py --out demo

The photo is Middlebury's "motorcycle" (2014), which scikit-image ships with its true disparity:
inverse depth up to a scale and a shift, so the estimate is aligned with it before comparing.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from skimage import data

import keras_dpt
from keras_dpt.logs import quiet_frameworks


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo"))
    parser.add_argument("--preset", default="dpt_mini_nyuv2")
    args = parser.parse_args()
    quiet_frameworks()  # before Keras is imported, at the first use of keras_dpt
    args.out.mkdir(parents=True, exist_ok=True)

    photo, _, disparity = data.stereo_motorcycle()
    model = keras_dpt.DPTDepth.from_preset(args.preset)
    depth = model.predict_image(photo)

    known = np.isfinite(disparity) & (disparity > 0)
    scale, shift = keras_dpt.align_scale_shift(depth.values, disparity, mask=known)
    aligned = scale * depth.values + shift
    error = np.where(known, np.abs(aligned - disparity), np.nan)

    values, picture = args.out / "motorcycle.npy", args.out / "motorcycle_color.png"
    comparison = args.out / "motorcycle_comparison.png"
    depth.save(values)
    depth.save(args.out / "motorcycle.png")
    depth.colorize().save(picture)
    _draw(photo, aligned, np.where(known, disparity, np.nan), error, comparison)

    spread = np.nanstd(disparity[known])
    print(f"Depth values     {values} and .png, {depth.values.shape}, {depth.kind}")
    print(f"Coloured picture {picture}")
    print(f"Compared         {comparison}")
    print(
        f"Aligned error    {np.nanmean(error):.2f} px of disparity on average; the ground truth's "
        f"standard deviation is {spread:.2f} px"
    )


def _draw(photo, aligned, disparity, error, path):
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    low, high = np.nanpercentile(disparity, (1, 99))
    panels = (
        ("photo", photo, {}),
        ("estimate, aligned", aligned, {"cmap": "inferno", "vmin": low, "vmax": high}),
        ("absolute error", error, {"cmap": "viridis", "vmin": 0, "vmax": (high - low) / 2}),
        ("true disparity", disparity, {"cmap": "inferno", "vmin": low, "vmax": high}),
    )
    for axis, (title, values, style) in zip(axes.flat, panels, strict=True):
        shown = axis.imshow(values, **style)
        axis.set(title=title, xticks=[], yticks=[])
        if style:
            figure.colorbar(shown, ax=axis, label="pixels of disparity")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
