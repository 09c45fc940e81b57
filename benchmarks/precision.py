"""What half precision and int8 weights cost in accuracy and gain in time, against float32.

    KERAS_BACKEND=jax python benchmarks/precision.py --presets dpt_mini_nyuv2 --photos photo.jpg

Inputs are white, black, noise and the photos given. The error is the largest difference divided by
the spread (maximum - minimum) of the float32 output over all inputs; "finite" says whether no value
overflowed. The speed is the median time of float32, in turns with it, by that of the dtype. `int8`
is Keras's `model.quantize("int8")`, which takes the dense layers.
"""

import argparse
import time
import warnings
from statistics import median

import keras
import numpy as np
from contest import save, table

import keras_dpt
from keras_dpt.images.reading import read_image
from keras_dpt.presets import read_preset

POLICIES = ("bfloat16", "mixed_bfloat16", "float16", "mixed_float16", "int8")
COLUMNS = {
    "preset": ("preset", ""),
    "policy": ("dtype", ""),
    "input": ("input", ""),
    "error": ("largest error / spread", ".1e"),
    "finite": ("finite", ""),
    "speed": ("x faster", ".2f"),
}


def make(preset, policy, weights):
    """A network of the preset in a dtype policy, or with int8 weights."""
    model = _make(preset, "float32" if policy == "int8" else policy, weights)
    if policy == "int8":
        with warnings.catch_warnings():  # Keras names each layer that it leaves as it is
            warnings.simplefilter("ignore")
            model.quantize("int8")
    return model


def _make(preset, policy, weights):
    """The preset's network; those of other sizes than the bundled one have random weights."""
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


def speed(predict, reference, model, x, rounds):
    """How many times faster than the reference the model is, in turns."""
    seconds = ([], [])
    for _ in range(rounds):
        for taken, network in zip(seconds, (reference, model), strict=True):
            start = time.perf_counter()
            predict(network, x)
            taken.append(time.perf_counter() - start)
    return median(seconds[0]) / median(seconds[1])


def rows_of(preset, photos, policies, rounds):
    keras.utils.set_random_seed(0)
    reference = make(preset, "float32", None)
    inputs = inputs_of(reference, photos)

    def predict(model, x):
        return np.asarray(keras.Model.predict_on_batch(model, x))

    expected = {name: predict(reference, x) for name, x in inputs.items()}
    spread = max(x.max() for x in expected.values()) - min(x.min() for x in expected.values())
    for policy in policies:
        model = make(preset, policy, reference.get_weights())
        rows = []
        for name, x in inputs.items():
            output = predict(model, x).astype("float32")
            finite = bool(np.isfinite(output).all())
            error = float(np.abs(output - expected[name]).max() / spread) if finite else None
            rows.append({"preset": preset, "policy": policy, "input": name, "error": error})
            rows[-1]["finite"] = "yes" if finite else "no"
        ratio = speed(predict, reference, model, inputs["noise"], rounds)
        yield from (row | {"speed": ratio} for row in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["dpt_mini_nyuv2", "dpt_mini_camvid"])
    parser.add_argument("--photos", nargs="*", default=[])
    parser.add_argument("--policies", nargs="+", default=POLICIES, choices=POLICIES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="write the figures there as well")
    args = parser.parse_args()
    options = args.photos, args.policies, args.rounds
    rows = [row for preset in args.presets for row in rows_of(preset, *options)]
    print(f"backend: {keras.config.backend()}")
    print(table(rows, COLUMNS))
    save(args.json, rows, backend=keras.config.backend())


if __name__ == "__main__":
    main()
