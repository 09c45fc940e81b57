"""One step of a verification in a process of its own: `python -m keras_dpt.verification.worker`.

Its argument is a folder with `job.json`; it writes `ours.json` or `original.json` there: figures,
or `{"error": one message}`. Memory goes back to the system with the process.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np

from keras_dpt import presets
from keras_dpt.errors import KerasDPTError
from keras_dpt.logs import quiet_frameworks
from keras_dpt.verification import original
from keras_dpt.verification.pictures import NAMES, picture

RESULT = "{}.json"


def main(folder, step):
    """Run `step`, "ours" or "original", of the job in `folder`; returns the exit code."""
    folder, started = Path(folder), time.monotonic()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    preset = presets.read_preset(job["preset"])
    source, path = preset["sources"][job["source"]], Path(job["path"])
    try:
        if step == "ours":
            result = _ours(preset, source, path, folder, job["pictures"])
        else:
            result = _original(preset, source, path, folder)
    except (KerasDPTError, ValueError, OSError, MemoryError) as error:
        result = {"error": str(error) or type(error).__name__}
    except Exception as error:  # of a framework: named, as it is not a message of ours
        result = {"error": f"{type(error).__name__}: {error}"}
    result |= {"seconds": time.monotonic() - started, "peak_bytes": _peak()}
    (folder / RESULT.format(step)).write_text(json.dumps(result), encoding="utf-8")
    return 1 if "error" in result else 0


def _ours(preset, source, path, folder, pictures):
    """Convert strictly, load what was written, predict."""
    import keras

    from keras_dpt.conversion.convert import convert
    from keras_dpt.conversion.engine import matches, translate
    from keras_dpt.conversion.formats import format_of
    from keras_dpt.models.tasks import task_named
    from keras_dpt.weights.readers import Checkpoint

    checkpoint = Checkpoint(path)
    layout = format_of(checkpoint.specs, checkpoint.hf_config)
    if layout.name != source["format"]:
        raise KerasDPTError(
            f"The file is of the format {layout.name!r}; the preset says {source['format']!r}."
        )
    specs = checkpoint.specs
    del checkpoint
    ignored = [name for name in specs if matches(layout.ignore, name)]
    counts = {"tensors": len(specs), "ignored": len(ignored)}
    converted = folder / "preset"
    try:
        convert(path, converted, preset=preset["name"], progress=False)
    except KerasDPTError as error:
        _, problems = translate(layout.rules, layout.ignore, specs)
        return {"error": str(error), "leftover": len(problems)} | counts
    task = task_named(preset["task"])
    model = task.from_preset(str(converted))
    network = model.backbone.image_encoder if layout.fresh else model
    arrays = {}
    images = _images(preset, source, model.backbone.size_multiple, pictures)
    for i, image in enumerate(images):
        output = keras.Model.predict_on_batch(network, image[None])
        arrays[f"image_{i}"] = image
        if layout.fresh:
            maps = [np.asarray(output[f"stage{n}"])[0] for n in (1, 2, 3, 4)]
            arrays |= {f"ours_{i}_{n}": x for n, x in enumerate(maps)}
        else:
            output = np.asarray(output)[0]
            arrays[f"ours_{i}"] = output if preset["task"] == "segmentation" else output[..., 0]
    np.savez(folder / "outputs.npz", **arrays)
    return counts | {"leftover": 0}


def _original(preset, source, path, folder):
    """The original network on the same images, and how far apart the two are."""
    with np.load(folder / "outputs.npz") as arrays:
        count = sum(name.startswith("image_") for name in arrays)
        images = [arrays[f"image_{i}"] for i in range(count)]
        ours = []
        for i in range(count):
            maps = [arrays[f"ours_{i}_{n}"] for n in range(4) if f"ours_{i}_{n}" in arrays]
            ours.append(maps or arrays[f"ours_{i}"])
    theirs = original.answers(preset, source, path, images)
    return {
        "difference": original.largest_difference(ours, theirs),
        "sizes": [list(image.shape[:2]) for image in images],
    }


def _images(preset, source, multiple, count):
    """The first `count` pictures, as the network takes them: two square, a wide one if it can."""
    from keras_dpt.conversion.architecture import native_size
    from keras_dpt.models.image_converter import DPTImageConverter

    config = preset["architecture"]["encoder_config"]
    fixed = "position_grid" in config or "image_size" in config
    side = native_size(preset["architecture"])[0] if fixed else preset["image"]["image_size"][0]
    wide = (max(round(0.75 * side / multiple), 1) * multiple, side)
    square = original.takes_squares_only(preset, source)
    sizes = [(side, side)] * 2 + [(side, side) if square else wide]
    for name, size in [*zip(NAMES, sizes, strict=True)][:count]:
        converter = DPTImageConverter(
            size,
            keep_aspect_ratio=False,
            multiple_of=1,
            mean=preset["image"]["mean"],
            std=preset["image"]["std"],
        )
        yield np.asarray(converter.convert(picture(name, *size)), "float32")


def _peak():
    """The most memory that this process held, in bytes; `None` where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _end_with(parent):
    """End this process when the one that started it is gone, however that ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    quiet_frameworks()
    sys.exit(main(*sys.argv[1:]))
