"""Depth of videos: frames in and out through PyAV, one batch in memory at a time.

The networks predict each frame separately. `RunningRange` keeps colours steady between frames;
`TemporalAlignment` post-processes values.
"""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_dpt import files
from keras_dpt.errors import VideoError
from keras_dpt.extras import install_command
from keras_dpt.files import ending, written_whole
from keras_dpt.images.reading import missing_hint
from keras_dpt.maps.alignment import align_scale_shift
from keras_dpt.maps.depth_map import DepthMap

# fmt: off
VIDEO_SUFFIXES = (
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts",
    ".ogv", ".ts", ".webm", ".wmv",
)
# fmt: on
"""Suffixes of videos, in lower case, by which `keras-dpt depth` recognises them."""

_TICKS = 90_000  # of a second, in written files; whole for the usual frame rates
_WHOLE = 0.97  # declared durations and numbers of frames are a little off in good files, too
_STATISTICS_PIXELS = 20_000  # enough for percentiles and two coefficients
_BT_709, _LIMITED_RANGE = 1, 1  # what players take an untagged video for


class Frame(NamedTuple):
    """One image of a video.

    Attributes:
        pixels: `(H, W, 3)` uint8 RGB, upright.
        time: seconds since the first frame.
    """

    pixels: np.ndarray
    time: float


class Video:
    """A video file whose frames are decoded during iteration, which can be repeated.

    Opening reads the file once, without decoding, to detect damage and count frames before any
    work.

    Args: path: a file that FFmpeg's libraries can decode. Sound is ignored.

    `len(video)` is its number of frames, `video.rate` their average number per second.
    Iterating yields `Frame`s, turned upright by the file's rotation.

    Raises:
        VideoError: (a ValueError) the file is missing, empty, damaged, truncated, or not a video;
            PyAV is not installed (extra `video`). While iterating: a frame that
            cannot be decoded.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        _check_file(self.path)
        with self._opened() as (container, stream):
            self.rate = float(stream.average_rate or stream.guessed_rate or 25)
            self._length, share = _measure(container, stream)
        if not self._length:
            raise VideoError(f"{self.path} holds a video without frames.")
        if share < _WHOLE:
            raise VideoError(
                f"{self.path} is truncated: {share:.0%} of it is there. Copy or download it again."
            )

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"Video({str(self.path)!r}, {len(self)} frames, {self.rate:.4g} per second)"

    def __iter__(self) -> Iterator[Frame]:
        start, count = None, 0
        with self._opened() as (container, stream):
            stream.thread_type = "AUTO"
            for frame in self._decoded(container, stream):
                time = count / self.rate if frame.time is None else frame.time
                start = time if start is None else start
                pixels = frame.to_ndarray(format="rgb24")
                turns = round(frame.rotation / 90)  # counterclockwise, as rot90's
                yield Frame(np.ascontiguousarray(np.rot90(pixels, turns)), time - start)
                count += 1
        if not count:
            raise VideoError(f"None of the {len(self)} frames of {self.path} can be decoded.")

    def _decoded(self, container, stream):
        count = 0
        try:
            for frame in container.decode(stream):
                yield frame
                count += 1
        except import_av().FFmpegError as error:
            raise VideoError(
                f"Frame {count + 1} of {len(self)} of {self.path} cannot be decoded "
                f"({error.strerror}). Repair the file first, such as with ffmpeg -i "
                f"{self.path.name} repaired.mp4"
            ) from error

    @contextmanager
    def _opened(self):
        """The container and its first video stream."""
        av = import_av()
        try:
            with av.open(str(self.path)) as container:
                yield container, _moving_pictures(container, self.path)
        except av.FFmpegError as error:
            raise VideoError(
                f"{self.path} cannot be decoded ({error.strerror}). It is damaged or not a video: "
                "copy or download it again."
            ) from error


def _moving_pictures(container, path):
    from av.stream import Disposition

    for stream in container.streams.video:
        # The cover of a song is a video stream, too.
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise VideoError(f"{path}: there is no decoder for its video.")
            return stream
    kinds = sorted({stream.type for stream in container.streams})
    raise VideoError(f"{path} has no video, only {' and '.join(kinds) or 'nothing'}.")


def _measure(container, stream) -> tuple[int, float]:
    """The number of frames, and the share of the declared frames or duration that is there.

    MP4 declares frames, Matroska a duration. For other formats the share is 1.
    """
    count, end = 0, 0.0
    for packet in container.demux():
        count += packet.stream is stream and packet.size > 0
        if packet.pts is not None:
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    if stream.frames:
        return count, count / stream.frames
    if "matroska" in container.format.name and container.duration:
        return count, end / (container.duration * 1e-6)
    return count, 1.0


def _check_file(path: Path) -> None:
    if not path.exists():
        raise VideoError(f"{path} cannot be read: there is no such file.{missing_hint(path)}")
    if not path.is_file():
        raise VideoError(f"{path} is not a regular file. Name a video file.")
    if path.stat().st_size == 0:
        raise VideoError(f"{path} is empty (0 bytes). Copy or download it again.")


def import_av():
    """PyAV. Raises VideoError: it is not installed."""
    try:
        import av
    except ImportError as error:
        raise VideoError(
            f"Videos are read and written by PyAV: {install_command('video')}"
        ) from error
    return av


@contextmanager
def video_writer(path: str | os.PathLike, rate: float):
    """Write a video: H.264 in an `.mp4` file, without sound.

    The complete file appears when the block ends, or none if it ends with an error. An existing
    file is replaced.

    Args:
        path: file to write, `.mp4`.
        rate: frames per second, for the frames' nominal duration.

    Yields: a function `write(pixels, time)` of an `(H, W, 3)` uint8 RGB frame and its time in
        seconds. Odd sides are made even by repeating the last row or column, for H.264.

    Raises: VideoError: (a ValueError) another suffix, a frame of another size than the first, or
        the file cannot be written.
    """
    av = import_av()
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise VideoError(f"{path}: videos are written as .mp4. Received: {ending(path)}.")
    try:
        with written_whole(path, VideoError) as file, av.open(file, "w", format="mp4") as container:
            writer = _Writer(av, container, rate)
            yield writer.write
            writer.flush()
    except av.FFmpegError as error:
        raise VideoError(f"Cannot write {path}: {error.strerror}.") from error


class _Writer:
    def __init__(self, av, container, rate):
        self.av, self.container, self.rate = av, container, rate
        self.stream = self.shape = None
        self.ticks = -1

    def write(self, pixels: np.ndarray, time: float) -> None:
        bottom, right = (side % 2 for side in pixels.shape[:2])
        if self.stream is None:
            self.shape = pixels.shape
            self._add_stream(pixels.shape[0] + bottom, pixels.shape[1] + right)
        elif pixels.shape != self.shape:
            raise VideoError(
                f"The size of frames changes from {self.shape[1]}x{self.shape[0]} to "
                f"{pixels.shape[1]}x{pixels.shape[0]} (width x height). Split the video there."
            )
        if bottom or right:
            pixels = np.pad(pixels, ((0, bottom), (0, right), (0, 0)), mode="edge")
        frame = self.av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame = frame.reformat(
            format="yuv420p", dst_colorspace=_BT_709, dst_color_range=_LIMITED_RANGE
        )
        # Players need increasing times, which not all files have.
        self.ticks = max(self.ticks + 1, round(time * _TICKS))
        frame.pts, frame.time_base = self.ticks, Fraction(1, _TICKS)
        self.container.mux(self.stream.encode(frame))

    def flush(self) -> None:
        if self.stream is None:
            raise VideoError("A video needs at least one frame.")
        self.container.mux(self.stream.encode(None))

    def _add_stream(self, height, width):
        codec = "libx264" if "libx264" in self.av.codecs_available else "mpeg4"
        options = {"crf": "20"} if codec == "libx264" else {"qscale": "3"}
        rate = Fraction(self.rate).limit_denominator(1001)
        self.stream = self.container.add_stream(codec, rate=rate, options=options)
        self.stream.width, self.stream.height, self.stream.pix_fmt = width, height, "yuv420p"
        context = self.stream.codec_context
        context.time_base = Fraction(1, _TICKS)
        context.colorspace = context.color_primaries = context.color_trc = _BT_709
        context.color_range = _LIMITED_RANGE


def folder_written_whole(path: str | os.PathLike):
    """`keras_dpt.files.folder_written_whole` for the frames of a video, with `VideoError`s."""
    return files.folder_written_whole(Path(path), VideoError)


def predict_frames(
    model, frames: Iterable[Frame], batch_size: int = 4, align: "TemporalAlignment | None" = None
) -> Iterator[tuple[Frame, DepthMap]]:
    """Predict the frames of a video of any length, with one batch in memory at a time.

    Args:
        model: a `DPTDepth`.
        frames: a `Video`, or any other iterable of `Frame`s.
        batch_size: frames per batch.
        align: a new `TemporalAlignment`, or `None` for the network's own values.

    Yields: each frame with its `DepthMap`, of the frame's size.
    Raises:
        VideoError: (a ValueError) a frame cannot be decoded, `align` with a metric model, or a
            `batch_size` below 1.
    """
    if align is not None and model.kind != "relative_inverse_depth":
        raise VideoError(
            "Temporal alignment is for relative models, whose scale and shift are free in each "
            f"frame. Received: a model that predicts {model.kind}."
        )
    if batch_size < 1:
        raise VideoError(f"batch_size must be at least 1. Received: {batch_size}.")
    frames = iter(frames)
    while batch := list(islice(frames, batch_size)):
        depths = model.predict_images([frame.pixels for frame in batch], batch_size)
        for frame, depth in zip(batch, depths, strict=True):
            yield frame, depth if align is None else align(depth)


class TemporalAlignment:
    """Post-processing against flicker: fit each relative map to the one before.

    Scale and shift of a relative map are arbitrary and change from frame to frame. This fits them
    by least squares to the previous aligned map. Nothing is smoothed: each result is a scaled and
    shifted map of its own frame, and other errors remain.

    A chain of least-squares fits loses contrast, because motion and noise make each slope a little
    too small. So each frame also moves the fraction `leak` back to the network's own scale and
    shift. If the fit explains less than `min_fit` of the previous map's variance, it is taken for a
    cut, and the chain starts again.

    Measured with `dpt_mini_nyuv2` on three rooms (`benchmarks/temporal_alignment.py`): the mean
    change from frame to frame falls by 13 to 69 % under flickering light and by 11 to 26 % on pans.
    After 90 frames of a pan the contrast is 0.88 to 1.20 of the network's own without leak, 1.00 to
    1.06 with 0.1.

    Args:
        leak: from 0 (alignment only) to 1 (no alignment). With 0.1, a jump of the network's scale
            spreads over about 10 frames.
        min_fit: share of the variance, from 0 to 1. Neighbouring frames of those pans had 0.995 and
            more, different rooms 0.32 in the median and in 1 % of the cases more than 0.8.

    Call it with one `DepthMap` after another; it returns the aligned ones.
    """

    def __init__(self, leak: float = 0.1, min_fit: float = 0.8):
        if not (0 <= leak <= 1 and 0 <= min_fit <= 1):
            raise VideoError(
                f"leak and min_fit must be from 0 to 1. Received: {leak} and {min_fit}."
            )
        self.leak, self.min_fit = leak, min_fit
        self._previous = None

    def __call__(self, depth: DepthMap) -> DepthMap:
        sample = _sample(depth.values)
        scale, shift = self._fit(sample)
        scale += self.leak * (1 - scale)
        shift -= self.leak * shift
        self._previous = scale * sample + shift
        values = np.float32(scale) * depth.values + np.float32(shift)
        return DepthMap(values, depth.kind, source=depth.source)

    def _fit(self, sample):
        """Scale and shift to the previous frame; 1 and 0 after a cut."""
        before = self._previous
        if before is None or before.shape != sample.shape:
            return 1.0, 0.0
        valid = before > 0
        x, y = sample[valid], before[valid]
        if not x.size or np.ptp(x) == 0:
            return 1.0, 0.0
        scale, shift = align_scale_shift(x, y)
        unexplained = np.square(scale * x + shift - y).mean()
        is_cut = scale <= 0 or unexplained > (1 - self.min_fit) * y.var()
        return (1.0, 0.0) if is_cut else (scale, shift)


class RunningRange:
    """A colour range that is steady from frame to frame, yet follows the scene.

    It starts with the 2nd and 98th percentile of the first frame; each later frame moves it by the
    fraction `rate` to its own. Future frames are not used, so memory is constant.

    Call it with one `DepthMap` after another; it returns `(vmin, vmax)` for `DepthMap.colorize`.
    """

    def __init__(self, rate: float = 0.05):
        if not 0 <= rate <= 1:
            raise VideoError(f"rate must be from 0 (the first frame's) to 1. Received: {rate}.")
        self.rate = rate
        self._ends = None

    def __call__(self, depth: DepthMap) -> tuple[float, float]:
        ends = np.percentile(_sample(depth.values), (2, 98))
        self._ends = ends if self._ends is None else self._ends + self.rate * (ends - self._ends)
        low, high = map(float, self._ends)
        # A constant map: a range around its value, so that it has one colour.
        return (low, high) if high > low else (low - 1, high + 1)


def _sample(values: np.ndarray) -> np.ndarray:
    """Every n-th value, `(N,)` float64: enough for statistics of a large frame."""
    step = max(1, math.isqrt(values.size // _STATISTICS_PIXELS))
    return values[::step, ::step].astype(np.float64).ravel()
