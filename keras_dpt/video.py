"""Depth of videos, under its public name; the code is in `keras_dpt.apps.video`."""

from keras_dpt.apps.video import (
    VIDEO_SUFFIXES,
    Frame,
    RunningRange,
    TemporalAlignment,
    Video,
    predict_frames,
    video_writer,
)

__all__ = [
    "VIDEO_SUFFIXES",
    "Frame",
    "RunningRange",
    "TemporalAlignment",
    "Video",
    "predict_frames",
    "video_writer",
]
