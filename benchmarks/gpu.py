"""Is a GPU right, does it train, how fast is it? One command, ending inside a quarter of an hour.

    python benchmarks/gpu.py --json gpu.json                 # on a machine with an NVIDIA GPU
    python benchmarks/gpu.py --rehearse --presets dpt_mini_nyuv2   # the same steps on the CPU

Right: networks with the same random weights on CPU and GPU, in four dtypes, TF32 off and on, at
two sizes, a batch, `predict_image` and windows; differences in units of the output's standard
deviation. Then ten steps of `fit` for depth and segmentation, float32 and mixed bfloat16: the loss
has to fall. Then latency of batch 1 and throughput of batch 16, compared with transformers (eager
and compiled), as in `latency.py`. Exit code 1 if something is wrong. Each step is a process of its
own, so that no library holds the other's memory.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from contest import save, table

HERE = Path(__file__).parent
DTYPES = ("float32", "float32 with TF32", "bfloat16", "float16")
# Largest difference allowed, in standard deviations of the output; random weights amplify.
LIMITS = {"float32": 1e-3, "float32 with TF32": 5e-2, "bfloat16": 0.5, "float16": 0.1}
SIZES = {"square": (384, 384), "wide": (256, 448)}
COLUMNS = {
    "step": ("step", ""),
    "backend": ("backend", ""),
    "preset": ("preset", ""),
    "dtype": ("dtype", ""),
    "largest": ("largest difference / std", ".1e"),
    "first": ("first loss", ".4f"),
    "last": ("last loss", ".4f"),
    "ok": ("right", ""),
}


# ---- what runs in a process of its own


def outputs(preset, dtype, weights, out):
    """Every way to predict, of weights that the first process to ask for them draws."""
    import keras
    import numpy as np

    import keras_dpt
    from keras_dpt.presets import read_preset

    _set_tf32(dtype)
    keras.utils.set_random_seed(1)
    policy = dtype.partition(" ")[0]
    model = keras_dpt.DPTDepth.from_architecture(read_preset(preset), dtype=policy)
    if Path(weights).is_file():
        model.load_weights(weights)
    else:
        model.save_weights(weights)
    rng = np.random.default_rng(2)
    results = {}
    for name, size in SIZES.items():
        multiple = model.backbone.image_encoder.required_multiple
        size = [round(side / multiple) * multiple for side in size]
        images = rng.uniform(-1, 1, (2, *size, 3)).astype("float32")
        results[name] = keras.ops.convert_to_numpy(model(images, training=False))
    photo = rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    results["photo"] = model.predict_image(photo).values
    results["windows"] = model.predict_image(photo, sliding_window=256).values
    np.savez(out, **{name: np.asarray(value, "float32") for name, value in results.items()})


def train(task, dtype, out):
    """Ten steps of `fit` on one batch of drawn pictures."""
    import keras
    import numpy as np

    import keras_dpt
    from keras_dpt.presets import read_preset

    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(4)
    classes = {"depth": keras_dpt.DPTDepth, "segmentation": keras_dpt.DPTSegmentation}
    preset = {"depth": "dpt_mini_nyuv2", "segmentation": "dpt_mini_camvid"}[task]
    model = classes[task].from_architecture(read_preset(preset), dtype=dtype)
    size = model.preprocessor.image_size
    images = rng.integers(0, 256, (4, *size, 3), dtype=np.uint8)
    targets = images.mean(-1) / 100 + 0.1 if task == "depth" else (images[..., 0] // 24) % 11
    model.compile(learning_rate=1e-3)
    history = model.fit(images, targets, batch_size=4, epochs=10, verbose=0).history["loss"]
    Path(out).write_text(json.dumps([float(loss) for loss in history]))


def _set_tf32(dtype):
    allowed = dtype == "float32 with TF32"
    import keras

    if keras.backend.backend() == "torch":
        import torch

        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    elif keras.backend.backend() == "jax":
        import jax

        precision = "tensorfloat32" if allowed else "float32"
        jax.config.update("jax_default_matmul_precision", precision)


# ---- what asks for it


def work(backend, on_gpu, **request):
    """Run `outputs` or `train` elsewhere. Returns what it printed to its errors, "" if it ended."""
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
    }
    if not on_gpu:
        environment |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, __file__, "--work", json.dumps(request)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    return done.stderr.strip().splitlines()[-1][:200] if done.returncode else ""


def check_right(args, folder):
    """Rows of differences between CPU and GPU."""
    import numpy as np

    rows = []
    for preset in args.presets:
        weights, truth = str(folder / f"{preset}.weights.h5"), str(folder / f"{preset}.npz")
        request = {"do": "outputs", "preset": preset, "weights": weights}
        failed = work("torch", False, **request, dtype="float32", out=truth)
        if failed:
            raise SystemExit(f"{preset} on the CPU: {failed}")
        right = np.load(truth)
        for backend in args.backends:
            for dtype in args.dtypes:
                out = str(folder / "out.npz")
                row = {"step": "right", "backend": backend, "preset": preset, "dtype": dtype}
                failed = work(backend, not args.rehearse, **request, dtype=dtype, out=out)
                if failed:
                    rows.append(row | {"ok": failed})
                    continue
                found = np.load(out)
                difference = {
                    name: float(np.abs(found[name] - right[name]).max() / right[name].std())
                    for name in right.files
                }
                largest = max(difference.values())
                ok = "yes" if largest < LIMITS[dtype] else f"NO: {difference}"
                rows.append(row | {"largest": largest, "ok": ok})
                print(table(rows[-1:], COLUMNS).splitlines()[-1], flush=True)
    return rows


def check_training(args, folder):
    """Rows of losses."""
    rows = []
    for backend in args.backends:
        for task in ("depth", "segmentation"):
            for dtype in ("float32", "mixed_bfloat16"):
                out = folder / "losses.json"
                row = {"step": "fit", "backend": backend, "preset": task, "dtype": dtype}
                failed = work(
                    backend, not args.rehearse, do="train", task=task, dtype=dtype, out=str(out)
                )
                if failed:
                    rows.append(row | {"ok": failed})
                    continue
                losses = json.loads(out.read_text())
                falls = losses[-1] < losses[0] and all(loss == loss for loss in losses)
                row |= {"first": losses[0], "last": losses[-1], "ok": "yes" if falls else "NO"}
                rows.append(row)
                print(table(rows[-1:], COLUMNS).splitlines()[-1], flush=True)
    return rows


def measure(args, folder):
    """Rows of latency.py."""
    out = folder / "latency.json"
    subprocess.run(
        [sys.executable, HERE / "latency.py", "--presets", *args.presets, "--batches", "1", "16"]
        + ["--backends", *args.backends, "--dtypes", "float32", "bfloat16", "--compiled"]
        + ["--rounds", "2" if args.rehearse else "20", "--json", str(out)],
        check=True,
    )
    return json.loads(out.read_text())["rows"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["dpt_base", "dpt_hybrid", "dpt_large"])
    parser.add_argument("--backends", nargs="+", default=["torch", "jax"])
    parser.add_argument("--dtypes", nargs="+", default=DTYPES, choices=DTYPES)
    parser.add_argument(
        "--steps", nargs="+", default=["right", "fit", "fast"], choices=["right", "fit", "fast"]
    )
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, in the GPU's place")
    parser.add_argument("--json", help="write the figures there as well")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        request = json.loads(args.work)
        {"outputs": outputs, "train": train}[request.pop("do")](**request)
        return 0
    steps = {"right": check_right, "fit": check_training, "fast": measure}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for step in args.steps:
            rows += steps[step](args, Path(folder))
            save(args.json, rows)
    checked = [row for row in rows if "step" in row]
    print(table(checked, COLUMNS))
    return int(any(row["ok"] != "yes" for row in checked))


if __name__ == "__main__":
    sys.exit(main())
