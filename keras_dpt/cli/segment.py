"""`keras-dpt segment`"""

from keras_dpt.cli import photos, video
from keras_dpt.errors import VideoError

FORMATS = ("png", "overlay", "color", "npy")


def add_parser(commands, common):
    """Add the subcommand to the parser."""
    parser = commands.add_parser("segment", parents=[common], help="label the pixels of photos")
    photos.add_arguments(parser, default_preset="dpt_mini_camvid")
    parser.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=["png", "overlay"],
        help="png: indexed PNG of class ids, with class names; overlay: the photo with colours "
        "and legend; color: colours alone; npy: class ids (default: png overlay)",
    )
    parser.add_argument(
        "--multi-scale",
        action="store_true",
        help="average over six scales and horizontal flips, as in the paper",
    )
    parser.add_argument(
        "--sliding-window",
        type=int,
        metavar="PIXELS",
        help="predict windows of this side: adds detail to large images and bounds memory",
    )
    parser.set_defaults(run=_run)


def _run(args):
    from keras_dpt.images.reading import write_picture
    from keras_dpt.models.segmentation import PAPER_SCALES, DPTSegmentation

    def save(labels, photo, stem):
        for name in args.format:
            if name == "overlay":
                write_picture(labels.overlay(photo, legend=True), f"{stem}_overlay.png")
            elif name == "color":
                write_picture(labels.colorize(), f"{stem}_color.png")
            else:
                labels.save(f"{stem}_labels.{name}")

    videos, _ = video.split(args.paths)
    if videos:
        raise VideoError(f"{videos[0]} is a video; `keras-dpt segment` labels photos alone.")
    looks = {"scales": PAPER_SCALES, "flip": True} if args.multi_scale else {}
    return photos.predict(args, DPTSegmentation, save, sliding_window=args.sliding_window, **looks)
