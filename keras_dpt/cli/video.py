"""Videos of `keras-dpt depth`: found among the arguments, predicted frame by frame, saved."""

import glob
import sys
import time
from contextlib import ExitStack
from pathlib import Path

DEFAULT_FORMATS = ("color",)
MAX_FRAMES = 10_000


def add_arguments(parser):
    """Add the arguments that are for videos alone."""
    group = parser.add_argument_group(
        "videos",
        "Named one by one or by a pattern; folders are searched for images only. Each gives a "
        "coloured video, NAME_color.mp4, and with --format png, npy or pfm a folder NAME_depth of "
        "one file per frame. The range of the colours follows the frames slowly.",
    )
    group.add_argument(
        "--side-by-side", action="store_true", help="show each frame to the left of its depth"
    )
    group.add_argument(
        "--align",
        choices=("previous",),
        help="post-processing against flicker: fit scale and shift of each frame's relative depth "
        "to the frame before by least squares",
    )
    group.add_argument(
        "--max-frames",
        type=int,
        default=MAX_FRAMES,
        metavar="N",
        help="reject longer videos before any work (default: %(default)s)",
    )


def split(paths):
    """Divide arguments into videos, known by their suffix, and what else they name.

    Returns: list of paths of videos, list of arguments as they were given.
    """
    from keras_dpt.apps.video import VIDEO_SUFFIXES

    videos, others = [], []
    for given in paths:
        is_pattern = glob.has_magic(given) and not Path(given).exists()
        matches = [Path(match) for match in sorted(glob.glob(given, recursive=True))]
        named = matches if is_pattern else [Path(given)]
        clips = [p for p in named if p.suffix.lower() in VIDEO_SUFFIXES and not p.is_dir()]
        videos += [clip for clip in clips if clip not in videos]
        if len(clips) < len(named) or not named:
            others.append(given)
    return videos, others


def predict(args, paths):
    """Predict for videos and save the results.

    Args:
        args: parsed arguments of `keras-dpt depth`.
        paths: of the videos.

    Returns: exit code: 0, 1 if a video could not be read or written, 2 if none could.
    """
    from keras_dpt.apps.video import Video
    from keras_dpt.cli import photos
    from keras_dpt.errors import KerasDPTError
    from keras_dpt.models.depth import DPTDepth

    def failed(error):
        print(f"keras-dpt: skipped: {error}", file=sys.stderr)

    videos = []
    for path in paths:
        try:
            videos.append(_checked(Video(path), args.max_frames))
        except KerasDPTError as error:
            failed(error)
    if not videos:
        return 2
    names = photos.output_names([video.path for video in videos])
    model = photos.load(DPTDepth, args.preset)
    args.output.mkdir(parents=True, exist_ok=True)
    done = 0
    for video in videos:
        try:
            print(_save(args, model, video, args.output / names[video.path]))
            done += 1
        except KerasDPTError as error:
            failed(error)
    return 0 if done == len(paths) else 1 if done else 2


def _checked(video, max_frames):
    from keras_dpt.errors import VideoError

    if len(video) > max_frames:
        raise VideoError(
            f"{video.path} has {len(video)} frames, over {max_frames}. Pass --max-frames "
            f"{len(video)} if you have the time, or cut it first."
        )
    return video


def _save(args, model, video, stem):
    """Predict one video and write its results; returns the line to print."""
    import numpy as np
    from tqdm import tqdm

    from keras_dpt.apps.video import (
        RunningRange,
        TemporalAlignment,
        folder_written_whole,
        predict_frames,
        video_writer,
    )

    formats = args.format or DEFAULT_FORMATS
    per_frame = [name for name in formats if name != "color"]
    align = TemporalAlignment() if args.align else None
    colors, written = RunningRange(), []
    begin = time.perf_counter()
    with ExitStack() as stack:
        if per_frame:
            written.append(f"{stem}_depth")
            folder = stack.enter_context(folder_written_whole(written[-1]))
        if "color" in formats:
            written.append(f"{stem}_color.mp4")
            write = stack.enter_context(video_writer(written[-1], video.rate))
        frames = tqdm(video, total=len(video), unit="frame", desc=video.path.name, disable=None)
        predictions = predict_frames(model, frames, args.batch_size, align)
        for number, (frame, depth) in enumerate(predictions):
            for name in per_frame:
                depth.save(folder / f"{number:06}.{name}")
            if "color" in formats:
                picture = np.asarray(depth.colorize(args.colormap, *colors(depth)))
                if args.side_by_side:
                    picture = np.concatenate([frame.pixels, picture], axis=1)
                write(picture, frame.time)
    seconds = time.perf_counter() - begin
    count = number + 1
    return (
        f"{video.path}: {count} frames in {seconds:.1f} s ({count / seconds:.1f} frames/s) written "
        f"to {' and '.join(written)}"
    )
