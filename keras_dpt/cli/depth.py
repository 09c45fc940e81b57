"""`keras-dpt depth`"""

from keras_dpt.cli import photos, video
from keras_dpt.errors import VideoError

FORMATS = ("png", "color", "npy", "pfm")
DEFAULT_FORMATS = ("png", "color")


def add_parser(commands, common):
    """Add the subcommand to the parser."""
    parser = commands.add_parser(
        "depth", parents=[common], help="estimate the depth of photos and videos"
    )
    photos.add_arguments(parser, default_preset="dpt_mini_nyuv2")
    parser.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        help="png: 16 bit, with scale and unit inside; color: an image or video; npy, pfm: "
        "float32 (default: png color; for videos color)",
    )
    parser.add_argument(
        "--colormap", default="inferno", help="of matplotlib (default: %(default)s)"
    )
    parser.add_argument(
        "--sliding-window",
        type=int,
        metavar="PIXELS",
        help="also predict windows of this side: adds detail to large images",
    )
    video.add_arguments(parser)
    parser.set_defaults(run=_run)


def _run(args):
    from keras_dpt.maps.depth_map import color_table

    color_table(args.colormap)  # raises now, not after the first photos
    photos.check_folder(args.output)
    videos, args.paths = video.split(args.paths)
    if videos and args.sliding_window:
        raise VideoError(f"--sliding-window is for photos; {videos[0]} is a video.")
    codes = []
    if args.paths:
        codes.append(_predict_photos(args))
    if videos:
        codes.append(video.predict(args, videos))
    return codes[0] if len(set(codes)) == 1 else 1


def _predict_photos(args):
    from keras_dpt.images.reading import write_picture
    from keras_dpt.models.depth import DPTDepth

    def save(depth, photo, stem):
        for name in args.format or DEFAULT_FORMATS:
            if name == "color":
                write_picture(depth.colorize(args.colormap), f"{stem}_color.png")
            else:
                depth.save(f"{stem}_depth.{name}")

    return photos.predict(args, DPTDepth, save, sliding_window=args.sliding_window)
