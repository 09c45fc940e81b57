"""What half precision costs in accuracy: errors of bfloat16 and float16 against float32.

    KERAS_BACKEND=jax python benchmarks/precision.py --presets dpt_mini_nyuv2 --photos photo.jpg

Inputs are white, black, noise and the photos given. The error is the largest difference divided by
the spread (maximum - minimum) of the float32 output over all inputs; "finite" says whether no value
overflowed.
"""

import argparse

import keras
import numpy as np
from contest import save, table

import keras_dpt
from keras_dpt.pictures import read_image
from keras_dpt.presets import read_preset

POLICIES = ("bfloat16", "mixed_bfloat16", "float16", "mixed_float16")
COLUMNS = {
    "preset": ("preset", ""),
    "policy": ("dtype", ""),
    "input": ("input", ""),
    "error": ("largest error / spread", ".1e"),
    "finite": ("finite", ""),
}


def make(preset, policy, weights):
    """The preset's network; those of other sizes than the embedded one have random weights."""
    description = read_preset(preset)
    task = keras_dpt.DPTDepth if description["task"] == "depth" else keras_dpt.DPTSegmentation
    if preset.startswith("dpt_mini"):
        return task.from_preset(preset, dtype=policy)
    model = task.from_architecture(description, dtype=policy)
    if weights is not None:
        model.set_weights(weights)
    return model


def inputs_of(model, photos):
    """name -> `(1, h, w, 3)`, ready for the network."""
    converter = model.preprocessor.image_converter
    height, width = converter.image_size
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype("uint8")
    pictures = {"white": np.full_like(noise, 255), "black": np.zeros_like(noise), "noise": noise}
    pictures |= {path: read_image(path) for path in photos}
    return {name: converter.convert(pixels)[None] for name, pixels in pictures.items()}


def rows_of(preset, photos):
    keras.utils.set_random_seed(0)
    reference = make(preset, "float32", None)
    inputs = inputs_of(reference, photos)
    predict = keras.Model.predict_on_batch
    expected = {name: np.asarray(predict(reference, x)) for name, x in inputs.items()}
    spread = max(x.max() for x in expected.values()) - min(x.min() for x in expected.values())
    for policy in POLICIES:
        model = make(preset, policy, reference.get_weights())
        for name, x in inputs.items():
            output = np.asarray(predict(model, x)).astype("float32")
            finite = bool(np.isfinite(output).all())
            error = float(np.abs(output - expected[name]).max() / spread) if finite else None
            row = {"preset": preset, "policy": policy, "input": name, "error": error}
            yield row | {"finite": "yes" if finite else "no"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["dpt_mini_nyuv2", "dpt_mini_camvid"])
    parser.add_argument("--photos", nargs="*", default=[])
    parser.add_argument("--json", help="write the figures there as well")
    args = parser.parse_args()
    rows = [row for preset in args.presets for row in rows_of(preset, args.photos)]
    print(f"backend: {keras.config.backend()}")
    print(table(rows, COLUMNS))
    save(args.json, rows, backend=keras.config.backend())


if __name__ == "__main__":
    main()
