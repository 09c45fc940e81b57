"""The figures of the documentation, from the bundled presets and sample photos; no network.

    python examples/figures.py --out docs/figures        (or: make figures)

Photos: Middlebury's "motorcycle" (Scharstein et al. 2014) with its true disparity, which
scikit-image ships, as it does a cup of coffee by Rachel Michetti (CC0); a pagoda by
danielbuechele (CC BY 2.0), which scikit-learn ships. Each figure
is drawn by the function of its name.
"""

import argparse
import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from figure_samples import CENTRE, FOCAL, KNOWN, metric_depth, model, motorcycle, relative_depth
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_images

import keras_dpt
from keras_dpt.datasets.kinds import KINDS
from keras_dpt.logs import quiet_frameworks

WIDTH = 920  # of the widest figures in pixels
LARGEST = 150_000  # bytes of a file


def depth():
    """Photos of different kind and their relative inverse depth."""
    height = 500
    columns = []
    for photo in (motorcycle()[0], data.coffee(), load_sample_images().images[0]):
        colors = np.asarray(model().predict_image(photo).colorize())
        width = round(photo.shape[1] * height / photo.shape[0])
        both = [Image.fromarray(x).resize((width, height), Image.LANCZOS) for x in (photo, colors)]
        gap = np.full((12, width, 3), 255, "uint8")
        columns.append(np.concatenate([both[0], gap, both[1]]))
    return _row(columns)


def metric():
    """Metres, from six known distances, with a scale."""
    photo, metres = motorcycle()
    style = {"cmap": "inferno_r", "vmin": 2, "vmax": 5}
    figure, axes = plt.subplots(1, 2, figsize=(9.2, 3.1), layout="constrained")
    axes[0].imshow(photo)
    for row, column in KNOWN:
        axes[0].plot(column, row, "o", color="white", markeredgecolor="black", markersize=6)
        label = axes[0].annotate(
            f"{metres[row, column]:.2f} m", (column, row), (6, 6), textcoords="offset points"
        )
        label.set(color="white", fontsize=9, bbox={"fc": "black", "alpha": 0.6, "lw": 0, "pad": 1})
    shown = axes[1].imshow(metric_depth().metres, **style)
    figure.colorbar(shown, ax=axes[1], label="metres")
    _finish(axes, ("known distances", "metric depth"))
    return _image(figure)


def windows():
    """A photo, its relative inverse depth in one pass, and with overlapping windows."""
    photo, _ = motorcycle()
    fine = model().predict_image(photo, sliding_window=256)
    style = {"cmap": "inferno"}
    figure, axes = plt.subplots(1, 3, figsize=(9.2, 2.4), layout="constrained")
    axes[0].imshow(photo)
    axes[1].imshow(relative_depth().values, **style)
    axes[2].imshow(fine.values, **style)
    _finish(axes, ("photo", "one pass", "sliding_window=256"))
    return _image(figure)


def metric_preset():
    """Metres by the bundled metric preset, without any known distance, and the truth."""
    photo, metres = motorcycle()
    preset = keras_dpt.DPTDepth.from_preset("dpt_mini_nyuv2_metric")
    style = {"cmap": "inferno_r", "vmin": 2, "vmax": 5}
    figure, axes = plt.subplots(1, 3, figsize=(9.2, 2.2), layout="constrained")
    axes[0].imshow(photo)
    axes[1].imshow(preset.predict_image(photo).metres, **style)
    figure.colorbar(axes[2].imshow(metres, **style), ax=axes, label="metres")
    _finish(axes, ("photo", "estimate", "ground truth"))
    return _image(figure)


def segmentation():
    """Labels of a photo, with their legend."""
    photo = load_sample_images().images[0]
    model = keras_dpt.DPTSegmentation.from_preset("dpt_mini_camvid")
    labels = model.predict_image(photo)
    drawn = labels.overlay(photo, alpha=0.55)
    legend = labels.legend(text_size=18, max_classes=5)
    both = Image.new("RGB", (photo.shape[1] + drawn.width + legend.width, drawn.height), "white")
    both.paste(Image.fromarray(photo), (0, 0))
    both.paste(drawn, (photo.shape[1], 0))
    both.paste(legend, (photo.shape[1] + drawn.width, 0))
    return both


def confidence():
    """Labels of a photo, and the probability of each."""
    photo = load_sample_images().images[0]
    labels = keras_dpt.DPTSegmentation.from_preset("dpt_mini_camvid").predict_image(photo)
    figure, axes = plt.subplots(1, 2, figsize=(9.2, 2.9), layout="constrained")
    axes[0].imshow(labels.overlay(photo, alpha=0.55))
    shown = axes[1].imshow(labels.confidence, cmap="viridis", vmin=0, vmax=1)
    figure.colorbar(shown, ax=axes[1], label="probability")
    _finish(axes, ("labels", "confidence"))
    return _image(figure)


def points():
    """The photo's points, seen from three sides."""
    photo, _ = motorcycle()
    camera = np.array([[FOCAL, 0, CENTRE[0]], [0, FOCAL, CENTRE[1]], [0, 0, 1]])
    cloud = keras_dpt.depth_to_points(metric_depth(), photo, intrinsics=camera)
    return _row([_seen(cloud, degrees, photo.shape[:2]) for degrees in (20, 0, -20)])


def attention():
    """Where the tapped blocks of the transformer look."""
    photo, _ = motorcycle()
    maps = keras_dpt.evaluation.attention_maps(model(), photo)
    return keras_dpt.evaluation.draw_attention(photo, maps, width=300)


def errors():
    """Estimated and true depth, and the relative error between them."""
    _, metres = motorcycle()
    estimate = metric_depth().metres
    style = {"cmap": "inferno_r", "vmin": 2, "vmax": 5}
    figure, axes = plt.subplots(1, 3, figsize=(9.2, 2.2), layout="constrained")
    axes[0].imshow(estimate, **style)
    figure.colorbar(axes[1].imshow(metres, **style), ax=axes[:2], label="metres")
    error = 100 * np.abs(estimate - metres) / metres
    shown = axes[2].imshow(error, cmap="viridis", vmin=0, vmax=40)
    figure.colorbar(shown, ax=axes[2], label="%")
    _finish(axes, ("estimate", "ground truth", "absolute relative error"))
    return _image(figure)


def video():
    """Frames of a pan and their depth, aligned, in one range of colours."""
    from keras_dpt.video import Frame, RunningRange, TemporalAlignment, predict_frames

    photo, _ = motorcycle()
    starts = np.linspace(0, photo.shape[1] - 460, 5).astype(int)
    frames = [Frame(photo[80:425, x : x + 460], i / 10) for i, x in enumerate(starts)]
    ends, columns = RunningRange(), []
    for frame, map_ in predict_frames(model(), frames, align=TemporalAlignment()):
        low, high = ends(map_)
        colors = np.asarray(map_.colorize(vmin=low, vmax=high))
        columns.append(np.concatenate([frame.pixels, np.full((12, 460, 3), 255, "uint8"), colors]))
    return _row(columns)


def shapes():
    """Training pictures with shapes in front, and their inverse depth."""
    photo, metres = motorcycle()
    known = np.isfinite(metres)
    sample = keras_dpt.datasets.Sample(photo, np.where(known, metres, 0), known)
    put = keras_dpt.datasets.Shapes(share=1.0, count=(3, 4))
    style = {"cmap": "inferno", "vmin": 0.2, "vmax": 0.9}
    figure, axes = plt.subplots(2, 3, figsize=(9.2, 4.4), layout="constrained")
    for seed, (above, below) in enumerate(axes.T):
        image, target, valid = put(sample, np.random.default_rng(seed), KINDS["metric_depth"])
        above.imshow(image)
        inverse = np.divide(1, target, out=np.full(target.shape, np.nan), where=valid)
        below.imshow(inverse, **style)
    _finish(axes.flat, [""] * 6)
    return _image(figure)


FIGURES = (
    *(depth, windows, metric, metric_preset, errors),
    *(segmentation, confidence, points, video, shapes, attention),
)


def _seen(cloud, degrees, size):
    """A point cloud as an image, from a camera that goes round its middle."""
    angle = np.radians(degrees)
    turn = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    middle = np.array([0, 0, np.median(cloud.points[:, 2])])
    seen = (cloud.points - middle) @ turn.T + middle + [0, 0, 0.5]
    image = np.full((*size, 3), 255, "uint8")
    for i in np.argsort(-seen[:, 2], kind="stable").reshape(-1, 1900):  # far before near
        x, y, z = seen[i].T
        columns = np.round(FOCAL * x / z + CENTRE[0]).astype(int)
        rows = np.round(FOCAL * y / z + CENTRE[1]).astype(int)
        for down in (0, 1):
            for right in (0, 1):
                r, c = rows + down, columns + right
                there = (r >= 0) & (r < size[0]) & (c >= 0) & (c < size[1])
                image[r[there], c[there]] = cloud.colors[i[there]]
    return image


def _finish(axes, titles):
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=10)
        axis.set(xticks=[], yticks=[])


def _image(figure):
    """A figure of matplotlib as a PIL image."""
    file = io.BytesIO()
    figure.savefig(file, dpi=150, format="png")
    plt.close(figure)
    return Image.open(file).convert("RGB")


def _row(images):
    """Arrays of equal size next to each other, with a gap."""
    gap = np.full((images[0].shape[0], 12, 3), 255, "uint8")
    parts = [part for image in images for part in (image, gap)][:-1]
    return Image.fromarray(np.concatenate(parts, axis=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/figures"), help="folder to write to")
    names = [draw.__name__ for draw in FIGURES]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="draw these alone")
    args = parser.parse_args()
    quiet_frameworks()
    args.out.mkdir(parents=True, exist_ok=True)
    for draw in FIGURES:
        if draw.__name__ in args.only:
            image = draw()
            image.thumbnail((WIDTH, WIDTH), Image.LANCZOS)
            path = args.out / f"{draw.__name__}.jpg"
            image.save(path, quality=82, optimize=True, progressive=True)
            size = path.stat().st_size
            if size > LARGEST:
                raise SystemExit(f"{path} has {size} bytes, more than {LARGEST}.")
            print(f"{path}  {image.width} x {image.height}, {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
