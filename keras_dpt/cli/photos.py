"""What the subcommands that predict share: photos found, read, predicted in batches, saved."""

import errno
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

# How names of results end: `photo_depth.png` beside `photo.jpg` is none to predict.
RESULTS = ("depth", "labels", "color", "overlay")

# What the system says where the next result could not be written either.
_ENDS_ALL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


def add_arguments(parser, default_preset):
    """Add the arguments that `predict` reads."""
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files, folders or patterns")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder of the results"
    )
    parser.add_argument(
        "--preset", default=default_preset, help="name, file or directory (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=4,
        metavar="N",
        help="the most images in a batch (default: %(default)s)",
    )


def predict(args, task, save, **options):
    """Predict for all photos of `args.paths` and save the results.

    Args:
        args: parsed arguments.
        task: class of the models, such as `DPTDepth`.
        save: function of a prediction, its photo and the file stem to write to.
        **options: of `predict_images`.

    Returns: exit code: 0, 1 if a photo could not be read or its result not written, 2 if none.
    Raises: KerasDPTError: nothing more can be written, as the disk is full or the like.
    """
    from tqdm import tqdm

    from keras_dpt.errors import ImageError, KerasDPTError
    from keras_dpt.images.pixels import as_integers
    from keras_dpt.images.reading import find_images, read_image

    check_folder(args.output)
    paths = _without_results(find_images(args.paths), args)
    names = output_names(paths)
    model = load(task, args.preset)
    from keras_dpt.models.photos import read_in_groups  # only now, as it imports Keras

    failed = 0
    with (
        _folder(args.output),
        tqdm(total=len(paths), unit="image", disable=None) as progress,
        # While the network works on some photos, the last ones are written, as the next are read.
        ThreadPoolExecutor(1) as writer,
    ):

        def flush(batch, saving):
            predictions = model.predict_images([x for _, x in batch], args.batch_size, **options)
            finish(saving)
            return [
                writer.submit(save, prediction, photo, args.output / names[path])
                for (path, photo), prediction in zip(batch, predictions, strict=True)
            ]

        def finish(saving):
            for future in saving:
                try:
                    future.result()
                except KerasDPTError as error:
                    if getattr(error.__cause__, "errno", None) in _ENDS_ALL:
                        raise
                    skip(error)
                else:
                    progress.update()

        def skip(error):
            nonlocal failed
            failed += 1
            progress.update()
            progress.write(f"keras-dpt: skipped: {error}", file=sys.stderr)

        def read(path):
            return as_integers(read_image(path))

        saving = []
        for group in read_in_groups(paths, 4 * args.batch_size, read):
            batch = []
            for path, photo in group:
                if isinstance(photo, ImageError):
                    skip(photo)
                else:
                    batch.append((path, photo))
            group.clear()  # nothing else may hold photos while the next are read
            if batch:
                saving = flush(batch, saving)
        finish(saving)
    print(f"{len(paths) - failed} of {len(paths)} images written to {args.output}")
    return 0 if not failed else 1 if failed < len(paths) else 2


def load(task, preset):
    """The model of a preset. Raises ValueError: it was made for another task."""
    from keras_dpt.loading.cache import preset_directory
    from keras_dpt.models.tasks import task_in

    directory = preset_directory(preset)
    made_for = task_in(directory)
    if made_for and made_for.task_name != task.task_name:
        raise ValueError(f"{preset} is for {_use(made_for)}; {_use(task)} needs another --preset.")
    if not made_for and "://" not in str(directory):
        raise ValueError(
            f"{preset} has no head to predict with: there is no task.json of a known task in it. "
            "Take another --preset, or train a head and save it."
        )
    return task.from_preset(directory)


def _use(task):
    return f"`keras-dpt {task.command}`" if task.command else f"the task {task.task_name!r}"


@contextmanager
def _folder(path):
    """A folder for results, made if missing; one that was made and stays empty goes again."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):  # it has results
            for folder in made:
                folder.rmdir()


def check_folder(path):
    """Raise ValueError if there can be no folder of this name."""
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise ValueError(f"-o {path}: {existing} is a file; results need a folder.")


def _without_results(paths, args):
    """Leave out what an earlier run wrote into a folder that is searched now."""
    output = args.output.resolve()
    searched = [Path(path).resolve() for path in args.paths if Path(path).is_dir()]
    if any(folder in output.parents for folder in searched):
        paths = [path for path in paths if output not in path.resolve().parents]
    stems = {path.stem for path in paths}

    def is_result(path):
        stem, _, ending = path.stem.rpartition("_")
        of_a_photo = not stems.isdisjoint({stem, re.sub(r"_\d+$", "", stem)})
        return ending in RESULTS and of_a_photo and path.resolve().parent == output

    return [path for path in paths if not is_result(path)]


def output_names(paths):
    """A file stem for each path; a number keeps those apart that would overwrite each other."""
    names, taken = {}, set()
    for path in paths:
        stem, n = path.stem, 2
        while stem.lower() in taken:
            stem, n = f"{path.stem}_{n}", n + 1
        taken.add(stem.lower())
        names[path] = stem
    return names
