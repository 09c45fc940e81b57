"""What `TemporalAlignment` does to flicker, on two clips made from one photo.

    python benchmarks/temporal_alignment.py room.jpg

"light" is the photo 60 times, each as bright as a lamp that flickers makes it; "pan" is a window
of six tenths of the photo's width that crosses it in 90 frames. Change is the mean absolute
difference between neighbouring maps, over the standard deviation of the network's own maps;
contrast is the standard deviation of the last map beside the network's own.
"""

import argparse

import numpy as np
from contest import save, table
from PIL import Image

import keras_dpt
from keras_dpt.apps.video import TemporalAlignment

COLUMNS = {
    "clip": ("clip", ""),
    "leak": ("leak", ""),
    "change": ("change", ".4f"),
    "saved": ("less by", ".0%"),
    "contrast": ("contrast", ".2f"),
}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo")
    parser.add_argument("--preset", default="dpt_mini_nyuv2")
    parser.add_argument("--leaks", type=float, nargs="+", default=(0.0, 0.05, 0.1))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="write the figures there as well")
    return parser.parse_args()


def flickering(photo, rng, frames=60):
    for gain in rng.uniform(0.8, 1.2, frames):
        yield np.clip(photo * gain, 0, 255).astype("uint8")


def panned(photo, frames=90):
    width = int(0.6 * photo.shape[1])
    for left in np.linspace(0, photo.shape[1] - width, frames).round().astype(int):
        yield photo[:, left : left + width]


def change(maps):
    return np.mean([np.abs(a - b).mean() for a, b in zip(maps, maps[1:], strict=False)])


def main():
    args = parse_arguments()
    photo = np.asarray(Image.open(args.photo).convert("RGB"))
    model = keras_dpt.DPTDepth.from_preset(args.preset)
    rows = []
    clips = {
        "light": flickering(photo, np.random.default_rng(args.seed)),
        "pan": panned(photo),
    }
    for clip, frames in clips.items():
        depths = model.predict_images(list(frames), batch_size=8)
        own = [depth.values for depth in depths]
        spread = np.mean([values.std() for values in own])
        before = change(own) / spread
        rows.append({"clip": clip, "leak": "not aligned", "change": before})
        for leak in args.leaks:
            align = TemporalAlignment(leak=leak)
            aligned = [align(depth).values for depth in depths]
            after = change(aligned) / spread
            rows.append(
                {
                    "clip": clip,
                    "leak": leak,
                    "change": after,
                    "saved": 1 - after / before,
                    "contrast": aligned[-1].std() / own[-1].std(),
                }
            )
    print(table(rows, COLUMNS))
    save(args.json, rows)


if __name__ == "__main__":
    main()
