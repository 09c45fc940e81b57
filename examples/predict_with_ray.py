"""Depth or label maps of a folder or a Parquet table of photos, on many machines, with Ray Data.

    pip install ".[ray]"
    KERAS_BACKEND=torch python examples/predict_with_ray.py photos --out maps --workers 2
    python examples/predict_with_ray.py photos.parquet --out maps --image-column image \\
        --name-column file_name --preset dpt_hybrid --gpus-per-worker 1 --address auto

Without --address, Ray runs on this machine alone. On a cluster, input, output and preset must be
where all machines see them. A Parquet table holds encoded images, as bytes or as Hugging Face's
{"bytes", "path"}; names come from --name-column, else from these paths.

Each photo `a/b.jpg` becomes `OUT/a/b.jpg.depth.png`, complete or not at all. A worker that dies is
started again and its photos go to the others; photos that have a result are skipped, so that the
same command goes on after an interruption. Photos that cannot be read are named in OUT/report.csv;
so are those that end two workers that read them, as damaged files may. The exit code is 0, 1 if
some failed and 2 if all did.
"""

import argparse
import csv
import hashlib
import io
import os
import shutil
import sys
from collections import Counter
from pathlib import Path, PurePosixPath

SUFFIXES = {"depth": ".depth.png", "segment": ".labels.png"}
MARKS = ".reading"  # folder of the output: a file for each photo that is being read
TRIES = 2  # workers that may die of a photo


class Predictor:
    """A worker: it loads the model once and predicts for batch after batch."""

    def __init__(self, task, preset, output):
        self.model = load_model(task, preset)
        self.output, self.suffix = Path(output), SUFFIXES[task]

    def __call__(self, batch):
        """Predict for a batch of columns "name" and "image"; returns the report's columns."""
        results = [str(self.output / (name + self.suffix)) for name in batch["name"]]
        errors, todo, photos = [""] * len(results), [], []
        for i, (image, result) in enumerate(zip(batch["image"], results, strict=True)):
            if Path(result).exists():
                continue
            try:
                photos.append(self.read_once_more(batch["name"][i], image))
                todo.append(i)
            except ValueError as error:
                errors[i], results[i] = str(error), ""
        for i, prediction in zip(todo, self.model.predict_images(photos, 4), strict=True):
            Path(results[i]).parent.mkdir(parents=True, exist_ok=True)
            prediction.save(results[i])
        return {"image": list(batch["name"]), "result": results, "error": errors}

    def read_once_more(self, name, image):
        """The pixels of a photo. ValueError: it can't be read, or too many workers died of it.

        A decoder that crashes takes the process with it, and Ray would try for ever.
        """
        mark = self.output / MARKS / hashlib.sha256(name.encode()).hexdigest()
        mark.parent.mkdir(parents=True, exist_ok=True)
        with open(mark, "ab") as file:
            if (deaths := file.tell()) >= TRIES:
                raise ValueError(f"reading it ended {deaths} workers")
            file.write(b"x")
        try:
            return read(image)
        finally:
            mark.unlink()


def load_model(task, preset):
    import keras_dpt

    classes = {"depth": keras_dpt.DPTDepth, "segment": keras_dpt.DPTSegmentation}
    return classes[task].from_preset(preset)


def read(image):
    """The pixels of a path or of an encoded image; ValueError if it can't be read."""
    from PIL import Image, UnidentifiedImageError

    from keras_dpt.images.reading import read_image

    if isinstance(image, dict):
        image = image["bytes"]
    if isinstance(image, str):
        return read_image(image)
    try:
        return read_image(Image.open(io.BytesIO(image)))
    except (UnidentifiedImageError, TypeError):
        raise ValueError("these bytes are no image that Pillow knows") from None


def photos_of_folder(folder):
    """The rows of a folder: names below it, and paths."""
    from keras_dpt.images.reading import find_images

    paths = find_images([folder])
    return [{"name": p.relative_to(folder).as_posix(), "image": str(p.resolve())} for p in paths]


def names_of_table(args):
    """The names in a Parquet table, read without its images."""
    import pyarrow.compute as pc
    import pyarrow.dataset
    import pyarrow.types

    table = pyarrow.dataset.dataset(args.input, format="parquet")
    for column in filter(None, (args.image_column, args.name_column)):
        if column not in table.schema.names:
            raise ValueError(f"no column {column!r}: it has {', '.join(table.schema.names)}")
    if args.name_column:
        field = pc.field(args.name_column)
    elif pyarrow.types.is_struct(table.schema.field(args.image_column).type):
        field = pc.field(args.image_column, "path")
    else:
        raise ValueError(f"--name-column is needed; there are {', '.join(table.schema.names)}")
    return [str(name) for name in table.to_table(columns={"name": field})["name"].to_pylist()]


def as_row(row, image_column, name_column):
    """A row of a Parquet table as `Predictor` takes it."""
    image = row[image_column]
    return {"name": str(row[name_column] if name_column else image["path"]), "image": image}


def check_names(names):
    """Raise ValueError for names that would overwrite each other or leave the output's folder."""
    if not names:
        raise ValueError("no images")
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{count} images are called {name!r}; results need different names")
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ValueError(f"{name!r} would be written outside the output's folder")


def predict(args):
    """Run Ray on all photos; returns the rows of the report."""
    is_folder = not args.input.endswith(".parquet")
    if not Path(args.input).exists():
        raise ValueError("there is no such file or folder")
    rows = photos_of_folder(Path(args.input)) if is_folder else None
    check_names([row["name"] for row in rows] if is_folder else names_of_table(args))
    load_model(args.task, args.preset)  # fetched and checked here, before many machines begin
    out = Path(args.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / MARKS, ignore_errors=True)  # of a run that was interrupted

    import ray

    cpus = args.cpus_per_worker or max(1, (os.cpu_count() or 1) // args.workers)
    variables = {"TF_NUM_INTRAOP_THREADS": str(cpus), "TF_CPP_MIN_LOG_LEVEL": "3"}
    variables |= {k: v for k, v in os.environ.items() if k.startswith("KERAS_")}
    # Ray of this machine: as many workers as asked for, however few its CPUs, and no server.
    local = {"num_cpus": cpus * args.workers + 1, "include_dashboard": False}
    ray.init(
        address=args.address,
        runtime_env={"env_vars": variables},
        **({} if args.address else local),
    )
    if is_folder:
        # What a dead worker had in hand is a block: small ones lose little.
        data = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // args.batch_size))
    else:
        columns = [c for c in (args.image_column, args.name_column) if c]
        names = {"image_column": args.image_column, "name_column": args.name_column}
        data = ray.data.read_parquet(args.input, columns=columns).map(as_row, fn_kwargs=names)
    data = data.map_batches(
        Predictor,
        fn_constructor_args=(args.task, args.preset, str(out)),
        batch_size=args.batch_size,
        compute=ray.data.ActorPoolStrategy(size=args.workers),
        num_cpus=cpus,
        num_gpus=args.gpus_per_worker,
    )  # a worker that dies is started again, as often as it takes, and its block tried again
    rows = sorted(data.iter_rows(), key=lambda row: row["image"])
    shutil.rmtree(out / MARKS, ignore_errors=True)
    return rows


def write_report(rows, path):
    temporary = path.with_suffix(".tmp")
    with open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ("image", "result", "error"))
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", help="folder of photos, or a .parquet file or folder")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--task", choices=tuple(SUFFIXES), default="depth")
    parser.add_argument("--preset", help="default: the bundled one for the task")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--cpus-per-worker", type=int, help="default: an even share")
    parser.add_argument("--gpus-per-worker", type=float, default=0)
    parser.add_argument("--address", help="of a cluster, such as auto or ray://host:10001")
    parser.add_argument("--image-column", default="image")
    parser.add_argument("--name-column")
    args = parser.parse_args()
    bundled = {"depth": "dpt_mini_nyuv2", "segment": "dpt_mini_camvid"}
    args.preset = args.preset or bundled[args.task]
    if args.workers < 1 or args.batch_size < 1:
        parser.error("--workers and --batch-size must be at least 1")
    return args


def main():
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage statistics
    args = parse_arguments()
    from keras_dpt import KerasDPTError

    try:
        rows = predict(args)
    except (ValueError, KerasDPTError) as error:
        raise SystemExit(f"{args.input}: {error}") from None
    write_report(rows, Path(args.out, "report.csv"))
    failed = sum(bool(row["error"]) for row in rows)
    print(f"{len(rows) - failed} of {len(rows)} images written to {args.out}")
    return 0 if not failed else 1 if failed < len(rows) else 2


if __name__ == "__main__":
    sys.exit(main())
