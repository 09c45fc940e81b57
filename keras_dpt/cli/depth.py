"""`keras-dpt depth`"""

from keras_dpt.cli import photos

FORMATS = ("png", "color", "npy", "pfm")


def add_parser(commands, common):
    """Add the subcommand to the parser."""
    parser = commands.add_parser("depth", parents=[common], help="estimate the depth of photos")
    photos.add_arguments(parser, default_preset="dpt_mini_nyuv2")
    parser.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=["png", "color"],
        help="png: 16 bit, with scale and unit inside; color: a picture; npy, pfm: float32 "
        "(default: png color)",
    )
    parser.add_argument(
        "--colormap", default="inferno", help="of matplotlib (default: %(default)s)"
    )
    parser.set_defaults(run=_run)


def _run(args):
    from keras_dpt.depth_map import color_table
    from keras_dpt.models.depth import DPTDepth

    color_table(args.colormap)  # raises now, not after the first photos

    def save(depth, photo, stem):
        for name in args.format:
            if name == "color":
                depth.colorize(args.colormap).save(f"{stem}_color.png")
            else:
                depth.save(f"{stem}_depth.{name}")

    return photos.predict(args, DPTDepth, save)
