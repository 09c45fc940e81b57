"""Videos in and out, what steadies them, and the command, with clips made here."""

import sys
from fractions import Fraction

import numpy as np
import pytest

from keras_dpt import cli
from keras_dpt.apps.video import (
    Frame,
    RunningRange,
    TemporalAlignment,
    Video,
    folder_written_whole,
    predict_frames,
    video_writer,
)
from keras_dpt.errors import VideoError
from keras_dpt.maps.depth_map import DepthMap

av = pytest.importorskip("av")

SIZE = 48, 64


def pictures(count, size=SIZE):
    """A window that moves over a smooth, coloured picture; red above, so that turns show."""
    height, width = size
    y, x = np.mgrid[:height, : width + count]
    wide = np.stack([255 - 4 * y, 120 + 60 * np.sin(x / 9), 120 + 60 * np.cos(y / 7)], axis=-1)
    wide = np.clip(wide, 0, 255).astype("uint8")
    return [np.ascontiguousarray(wide[:, i : i + width]) for i in range(count)]


def make_clip(path, count=10, codec="libx264", rotation=0, sound=False, times=None):
    """Write a clip with PyAV alone, not with what is tested."""
    with av.open(str(path), "w") as container:
        if count:
            stream = container.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
            if rotation:
                stream.set_display_rotation(rotation)
        if sound:
            voice = container.add_stream("aac", rate=8000, layout="mono")
        for i, picture in enumerate(pictures(count)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = (times or range(count))[i], Fraction(1, 25)
            container.mux(stream.encode(frame))
        if count:
            container.mux(stream.encode(None))
        if sound:
            silence = np.zeros((1, 8000), "float32")
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, 0
            container.mux(voice.encode(frame))
            container.mux(voice.encode(None))
    return path


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path / "clip.mp4")


class Grey:
    """A model whose depth is the brightness; counts how many frames it has seen."""

    kind = "relative_inverse_depth"
    seen = 0

    def predict_images(self, images, batch_size):
        assert len(images) <= batch_size
        self.seen += len(images)
        return [DepthMap(image.mean(axis=-1), self.kind) for image in images]


@pytest.mark.parametrize("name, codec", [("a.mp4", "libx264"), ("a.mkv", "mpeg4")])
def test_frames_come_back(name, codec, tmp_path):
    video = Video(make_clip(tmp_path / name, codec=codec, sound=name == "a.mp4"))
    assert len(video) == 10 and video.rate == 25
    for _ in range(2):  # each iteration starts anew
        frames = list(video)
        assert [frame.time for frame in frames] == pytest.approx(np.arange(10) / 25, abs=2e-3)
        for frame, picture in zip(frames, pictures(10), strict=True):
            assert frame.pixels.shape == (*SIZE, 3) and frame.pixels.dtype == np.uint8
            assert np.abs(frame.pixels.astype(int) - picture).mean() < 8


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_frames_are_upright(rotation, tmp_path):
    video = Video(make_clip(tmp_path / "turned.mp4", 2, rotation=rotation))
    expected = np.rot90(pictures(1)[0], rotation // 90)
    pixels = next(iter(video)).pixels
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).mean() < 8


def cut_off(path):
    """The file without its second half, index in front, so that it still opens."""
    whole = make_clip(path.with_name("whole.mp4"), 40)
    with (
        av.open(str(whole)) as source,
        av.open(str(path), "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    content = path.read_bytes()
    path.write_bytes(content[: 2 * len(content) // 3])


def spoilt(path):
    """The index is whole, the pictures are not."""
    make_clip(path, 40)
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    end = start + int.from_bytes(content[start - 8 : start - 4], "big") - 8
    content[(start + end) // 2 : end] = b"\xff" * (end - (start + end) // 2)
    path.write_bytes(content)


BROKEN = {
    "is empty": lambda path: path.touch(),
    "is damaged or not a video": lambda path: path.write_text("no video" * 99),
    "no such file": lambda path: None,
    "is not a regular file": lambda path: path.mkdir(),
    "no video, only audio": lambda path: make_clip(path, 0, sound=True),
    "is truncated": cut_off,
    "of 40 of": spoilt,
}


@pytest.mark.parametrize("words", BROKEN)
def test_what_is_no_video_says_why(words, tmp_path):
    path = tmp_path / "broken.mp4"
    BROKEN[words](path)
    with pytest.raises(VideoError, match=words) as caught:
        list(Video(path))
    assert "broken.mp4" in str(caught.value)


def test_an_address_is_no_file():
    with pytest.raises(VideoError, match="download it first"):
        Video("https://example.org/a.mp4")


def test_half_a_matroska_file_is_cut_off(tmp_path):
    path = make_clip(tmp_path / "a.mkv", 40)
    content = path.read_bytes()
    path.write_bytes(content[: 2 * len(content) // 3])
    with pytest.raises(VideoError, match="is truncated"):
        Video(path)


@pytest.mark.parametrize("size", [SIZE, (33, 47)])
def test_written_videos_can_be_read(size, tmp_path):
    path, times = tmp_path / "out.mp4", [0, 0.04, 0.2, 0.2, 0.28]  # one of them out of order
    with video_writer(path, 25) as write:
        for picture, time in zip(pictures(5, size), times, strict=True):
            write(picture, time)
    frames = list(Video(path))
    assert [frame.time for frame in frames] == pytest.approx(times, abs=1e-3)
    for frame, picture in zip(frames, pictures(5, size), strict=True):
        shown = frame.pixels[: size[0], : size[1]]
        assert np.abs(shown.astype(int) - picture).mean() < 4
        assert frame.pixels.shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("frames", [0, 3])
def test_an_interrupted_video_leaves_nothing(error, frames, tmp_path):
    with pytest.raises(error), video_writer(tmp_path / "out.mp4", 25) as write:
        for picture in pictures(frames):
            write(picture, 0)
        raise error
    with pytest.raises(error), folder_written_whole(tmp_path / "out") as folder:
        (folder / "0.png").touch()
        raise error
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_says_why(tmp_path):
    with pytest.raises(VideoError, match="written as .mp4"), video_writer(tmp_path / "a.gif", 25):
        pass
    with pytest.raises(VideoError, match="no folder"), video_writer(tmp_path / "no/a.mp4", 25):
        pass
    with pytest.raises(VideoError, match="at least one"), video_writer(tmp_path / "a.mp4", 25):
        pass
    with (
        pytest.raises(VideoError, match="from 64x48 to 64x40"),
        video_writer(tmp_path / "a.mp4", 25) as write,
    ):
        write(pictures(1)[0], 0)
        write(pictures(1)[0][:40], 1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(VideoError, match="exists already"), folder_written_whole(tmp_path / "full"):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]


def test_only_one_batch_is_in_memory():
    taken = 0

    def frames():
        nonlocal taken
        for i, picture in enumerate(pictures(50)):
            taken += 1
            yield Frame(picture, i / 25)

    model = Grey()
    predictions = predict_frames(model, frames(), 4)
    for i in range(10):
        frame, depth = next(predictions)
        assert frame.time == i / 25
        np.testing.assert_allclose(depth.values, frame.pixels.mean(axis=-1), rtol=1e-6)
        assert taken == model.seen == 4 * (i // 4 + 1)


def test_alignment_is_for_relative_models_and_batches_for_frames():
    model = Grey()
    model.kind = "metric_depth"
    with pytest.raises(VideoError, match="predicts metric_depth"):
        next(predict_frames(model, [], align=TemporalAlignment()))
    with pytest.raises(VideoError, match="at least 1. Received: 0"):
        next(predict_frames(model, [], 0))


def depths_of(scales, shifts, scene=None):
    scene = np.random.default_rng(0).uniform(10, 50, (40, 50)) if scene is None else scene
    return [
        DepthMap(a * scene + b, "relative_inverse_depth")
        for a, b in zip(scales, shifts, strict=True)
    ]


def test_alignment_takes_jumps_of_scale_and_shift_away():
    rng = np.random.default_rng(1)
    depths = depths_of(rng.uniform(0.5, 2, 30), rng.uniform(0, 30, 30))
    align = TemporalAlignment(leak=0)
    for depth in depths:
        np.testing.assert_allclose(align(depth).values, depths[0].values, rtol=1e-4)


def test_alignment_leaks_back_to_the_network():
    depths = depths_of([1] + [2] * 60, [0] * 61)
    align = TemporalAlignment(leak=0.1)
    aligned = [align(depth).values.mean() / depths[0].values.mean() for depth in depths]
    steps = np.diff(aligned)
    assert 0 < steps.max() < 0.15 and steps.min() > 0  # the jump, spread over many frames
    assert aligned[-1] == pytest.approx(2, rel=0.01)


def test_a_chain_of_noisy_frames_keeps_its_contrast():
    rng = np.random.default_rng(2)
    scene = rng.uniform(10, 50, (40, 50))
    noisy = [
        DepthMap(scene + rng.normal(0, 2, scene.shape), "relative_inverse_depth")
        for _ in range(200)
    ]
    spread = {}
    for leak in (0, 0.1):
        align = TemporalAlignment(leak)
        spread[leak] = [align(depth).values.std() for depth in noisy][-1] / noisy[-1].values.std()
    assert spread[0] < 0.5 and spread[0.1] > 0.75


def test_a_cut_starts_anew():
    rng = np.random.default_rng(3)
    first, second = rng.uniform(10, 50, (2, 40, 50))
    align = TemporalAlignment()
    align(DepthMap(first, "relative_inverse_depth"))
    for other in (second, 100 - first, np.full_like(first, 7.0), second[:20]):
        values = align(DepthMap(other, "relative_inverse_depth")).values
        np.testing.assert_array_equal(values, other.astype("float32"))
        align(DepthMap(first, "relative_inverse_depth"))


def test_colours_follow_slowly():
    colors = RunningRange(rate=0.1)
    near, far = depths_of([1, 2], [0, 0])
    low, high = colors(near)
    assert (low, high) == pytest.approx(np.percentile(near.values, (2, 98)))
    assert colors(far) == pytest.approx((1.1 * low, 1.1 * high))
    for _ in range(100):
        ends = colors(far)
    assert ends == pytest.approx((2 * low, 2 * high), rel=1e-3)
    flat = DepthMap(np.full((4, 4), 7.0), "relative_inverse_depth")
    low, high = RunningRange()(flat)
    assert low < 7 < high
    flat.colorize("inferno", low, high)


@pytest.mark.parametrize("make", [RunningRange, TemporalAlignment])
def test_shares_beyond_one_are_refused(make):
    with pytest.raises(VideoError, match="from 0"):
        make(1.5)


@pytest.fixture
def grey(monkeypatch):
    model = Grey()
    monkeypatch.setattr("keras_dpt.cli.photos.load", lambda task, preset: model)
    return model


def test_the_command(grey, clip, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["depth", str(clip), "-o", str(out)]
    assert cli.main([*command, "--format", "color", "png", "--side-by-side"]) == 0
    words = capsys.readouterr().out
    assert "10 frames" in words and "frames/s" in words
    assert sorted(path.name for path in out.iterdir()) == ["clip_color.mp4", "clip_depth"]
    frames = list(Video(out / "clip_color.mp4"))
    assert len(frames) == 10 and frames[0].pixels.shape == (48, 128, 3)
    left = frames[0].pixels[:, :64].astype(int)
    assert np.abs(left - pictures(1)[0]).mean() < 8
    files = sorted((out / "clip_depth").iterdir())
    assert [file.name for file in files] == [f"{i:06}.png" for i in range(10)]
    depth = DepthMap.load(files[3])
    assert depth.kind == "relative_inverse_depth" and depth.values.shape == SIZE
    assert np.abs(depth.values - pictures(4)[3].mean(axis=-1)).mean() < 5


def test_the_command_aligns_on_request(grey, clip, tmp_path, monkeypatch):
    def flickering(images, batch_size):
        values = Grey.predict_images(grey, images, batch_size)
        return [DepthMap((1 + grey.seen % 2) * d.values, d.kind) for d in values]

    monkeypatch.setattr(grey, "predict_images", flickering, raising=False)
    command = ["depth", str(clip), "--format", "npy", "--batch-size", "1"]
    change = {}
    for name, options in {"plain": [], "aligned": ["--align", "previous"]}.items():
        assert cli.main([*command, "-o", str(tmp_path / name), *options]) == 0
        files = sorted((tmp_path / name / "clip_depth").iterdir())
        change[name] = np.abs(np.diff([np.load(file).mean() for file in files])).mean()
    assert change["aligned"] < 0.25 * change["plain"]


def test_videos_and_what_is_none(grey, clip, tmp_path, capsys):
    (tmp_path / "empty.mov").touch()
    out = tmp_path / "out"
    code = cli.main(["depth", str(tmp_path / "*.m*"), "-o", str(out), "--max-frames", "10"])
    captured = capsys.readouterr()
    assert code == 1 and [path.name for path in out.iterdir()] == ["clip_color.mp4"]
    assert "skipped: " in captured.err and "empty.mov is empty" in captured.err
    assert captured.err.count("\n") == 1


def test_long_videos_are_refused_before_any_work(grey, clip, tmp_path, capsys):
    code = cli.main(["depth", str(clip), "-o", str(tmp_path / "out"), "--max-frames", "9"])
    assert code == 2 and grey.seen == 0 and not (tmp_path / "out").exists()
    assert "has 10 frames, over 9. Pass --max-frames 10" in capsys.readouterr().err


def test_an_interrupted_command_leaves_nothing(grey, clip, tmp_path, monkeypatch, capsys):
    def interrupted(images, batch_size):
        if grey.seen >= 4:
            raise KeyboardInterrupt
        return Grey.predict_images(grey, images, batch_size)

    monkeypatch.setattr(grey, "predict_images", interrupted, raising=False)
    out = tmp_path / "out"
    assert cli.main(["depth", str(clip), "-o", str(out), "--format", "color", "png"]) == 130
    assert capsys.readouterr().err.endswith("keras-dpt: interrupted\n")
    assert not list(out.iterdir())


def test_a_missing_package_names_the_extra(clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(VideoError, match=r"pip install .*\[video\]"):
        Video(clip)
