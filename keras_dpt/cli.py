"""The command `keras-dpt`: parses, calls the public API, prints."""

import argparse
import sys
from pathlib import Path

from keras_dpt.errors import KerasDPTError
from keras_dpt.version import __version__

DEFAULT_PRESET = "dpt_mini_nyuv2"
FORMATS = ("png", "color", "npy", "pfm")
# How many pixels of photos are held at once, while their depth is computed and saved.
PIXELS_IN_MEMORY = 60_000_000


def main(argv=None):
    """Run the command line; returns the exit code: 0, 1 if an image failed, 2 if all did."""
    args = _parser().parse_args(argv)
    try:
        return args.run(args)
    except (KerasDPTError, ValueError, OSError) as error:
        if args.debug:
            raise
        print(f"keras-dpt: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("keras-dpt: interrupted", file=sys.stderr)
        return 130


def _parser():
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    parser = argparse.ArgumentParser(
        prog="keras-dpt", description="Dense Prediction Transformers for Keras 3."
    )
    parser.add_argument("--version", action="version", version=f"keras-dpt {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    depth = commands.add_parser("depth", parents=[common], help="estimate the depth of photos")
    depth.add_argument("paths", nargs="+", metavar="PATH", help="files, folders or patterns")
    depth.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    depth.add_argument(
        "--preset", default=DEFAULT_PRESET, help="name, file or directory (default: %(default)s)"
    )
    depth.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=["png", "color"],
        help="png: 16 bit, with scale and unit inside; color: a picture; npy, pfm: float32 "
        "(default: png color)",
    )
    depth.add_argument("--colormap", default="inferno", help="of matplotlib (default: %(default)s)")
    depth.add_argument("--batch-size", type=int, default=4, metavar="N")
    depth.set_defaults(run=_depth)

    presets = commands.add_parser("presets", parents=[common], help="list what can be loaded")
    presets.set_defaults(run=_presets)

    convert = commands.add_parser(
        "convert", parents=[common], help="turn original weights into a preset directory"
    )
    convert.add_argument("source", help=".pt or .safetensors file, directory, hf:// or preset name")
    convert.add_argument("output", type=Path, metavar="OUT", help="new directory")
    convert.add_argument("--preset", metavar="NAME", help="settles what the tensors cannot tell")
    convert.set_defaults(run=_convert)
    return parser


def _depth(args):
    from tqdm import tqdm

    from keras_dpt.errors import ImageError
    from keras_dpt.models.depth import DPTDepth
    from keras_dpt.pictures import find_images, read_image

    paths = _without_results(find_images(args.paths), args)
    names = _output_names(paths)
    args.output.mkdir(parents=True, exist_ok=True)
    model = DPTDepth.from_preset(args.preset)
    failed = 0
    with tqdm(total=len(paths), unit="image", disable=None) as progress:

        def flush(batch):
            images = [image for _, image in batch]
            for (path, _), result in zip(
                batch, model.predict_images(images, args.batch_size), strict=True
            ):
                _save(result, args.output / names[path], args.format, args.colormap)
                progress.update()

        batch, pixels = [], 0
        for path in paths:
            try:
                image = read_image(path)
            except ImageError as error:
                failed += 1
                progress.update()
                progress.write(f"keras-dpt: skipped: {error}", file=sys.stderr)
                continue
            batch.append((path, image))
            pixels += image.shape[0] * image.shape[1]
            if len(batch) == 4 * args.batch_size or pixels > PIXELS_IN_MEMORY:
                flush(batch)
                batch, pixels = [], 0
        if batch:
            flush(batch)
    print(f"{len(paths) - failed} of {len(paths)} images written to {args.output}")
    return 0 if not failed else 1 if failed < len(paths) else 2


def _without_results(paths, args):
    """Leave out what an earlier run wrote into an output folder inside a searched one."""
    output = args.output.resolve()
    searched = [Path(path).resolve() for path in args.paths if Path(path).is_dir()]
    if not any(folder in output.parents for folder in searched):
        return paths
    return [path for path in paths if output not in path.resolve().parents]


def _save(depth, stem, formats, colormap):
    for name in formats:
        if name == "color":
            depth.colorize(colormap).save(f"{stem}_color.png")
        else:
            depth.save(f"{stem}_depth.{name}")


def _output_names(paths):
    """A file stem for each path; a number keeps those apart that would overwrite each other."""
    names, taken = {}, set()
    for path in paths:
        stem, n = path.stem, 2
        while stem.lower() in taken:
            stem, n = f"{path.stem}_{n}", n + 1
        taken.add(stem.lower())
        names[path] = stem
    return names


def _presets(args):
    from keras_dpt.presets import list_presets

    list_presets()
    return 0


def _convert(args):
    from keras_dpt.conversion import convert

    print(f"Preset written to {convert(args.source, args.output, preset=args.preset)}")
    return 0
