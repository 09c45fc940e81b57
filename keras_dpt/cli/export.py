"""`keras-dpt export`"""

import re
from argparse import ArgumentTypeError
from pathlib import Path

FORMATS = ("onnx", "tf_saved_model", "litert", "openvino")


def add_parser(commands, common):
    """Add the subcommand to the parser."""
    parser = commands.add_parser(
        "export",
        parents=[common],
        help="write a network for ONNX Runtime, TensorFlow, LiteRT or OpenVINO",
        description="Write a network for another runtime, check it there against Keras, and "
        "describe input and output in a JSON file next to it.",
    )
    parser.add_argument(
        "--preset", default="dpt_mini_nyuv2", help="name, file or directory (default: %(default)s)"
    )
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help=".onnx, .tflite, .xml, or a folder for tf_saved_model",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--image-size",
        type=_size,
        metavar="HEIGHTxWIDTH",
        help="fix the size of images, as in 384x384",
    )
    size.add_argument(
        "--dynamic",
        action="store_true",
        help="leave it free (the default)",
    )
    parser.add_argument(
        "--batch", type=int, metavar="N", help="fix the number of images (default: free)"
    )
    parser.set_defaults(run=_run)


def _run(args):
    from keras_dpt import presets
    from keras_dpt.export import export_model
    from keras_dpt.export.exporter import check_request
    from keras_dpt.models.tasks import load_task

    named = args.preset in presets.preset_names()
    preset = presets.read_preset(args.preset) if named else None
    multiple = preset["image"]["multiple_of"] if named else None
    size = args.image_size
    if named and size is None:
        # Swin's one size, which its files have.
        side = preset["architecture"]["encoder_config"].get("image_size")
        size = side and (side, side)
    # Before weights are fetched.
    check_request(args.output, args.format, size, args.batch, multiple)
    about = export_model(
        load_task(args.preset),
        args.output,
        args.format,
        size,
        args.batch,
        origin=_origin(args.preset),
    )
    runtime, checks = about["runtime"], about["parity"]["checks"]
    worst = max(check["max_relative_error"] for check in checks)
    shapes = ", ".join("x".join(map(str, check["input_shape"])) for check in checks)
    print(
        f"{args.output} ({_megabytes(args.output):.1f} MB): in {runtime['package']} "
        f"{runtime['checked_with']} within {worst:.1e} of Keras, as a share of the output's range, "
        f"for inputs {shapes}"
    )
    print(f"{args.output}.json: what goes in, what comes out")
    return 0


def _size(text):
    """`(height, width)` from "384x640"."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise ArgumentTypeError(f"expected HEIGHTxWIDTH, such as 384x384. Received: {text!r}")
    return int(match[1]), int(match[2])


def _origin(name):
    """What a preset says of its weights; for other weights, only where they came from."""
    from keras_dpt import presets

    if name not in presets.preset_names():
        return {"preset": Path(name).name if Path(name).exists() else name}
    known = presets.read_preset(name)
    keys = ("weights_license", "license_evidence", "training_data", "notes")
    return {"preset": name} | {key: known[key] for key in keys}


def _megabytes(path):
    """Size of a file, of those beside it that belong to it, or of a folder."""
    files = [f for f in path.rglob("*") if f.is_file()] if path.is_dir() else [path]
    if path.suffix == ".xml":
        files.append(path.with_suffix(".bin"))
    return sum(file.stat().st_size for file in files) / 1e6
