"""`keras-dpt convert`"""

from pathlib import Path


def add_parser(commands, common):
    """Add the subcommand to the parser."""
    parser = commands.add_parser(
        "convert", parents=[common], help="turn original weights into a preset directory"
    )
    parser.add_argument("source", help=".pt or .safetensors file, directory, hf:// or preset name")
    parser.add_argument("output", type=Path, metavar="OUT", help="new directory")
    parser.add_argument(
        "--preset", metavar="NAME", help="for settings that tensors do not determine"
    )
    parser.set_defaults(run=_run)


def _run(args):
    from keras_dpt.conversion.convert import convert

    print(f"Preset written to {convert(args.source, args.output, preset=args.preset)}")
    return 0
