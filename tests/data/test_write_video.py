"""Writing video: what is read back is what was written, and nothing partial is ever seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from surgmotion_jax.data.decode import probe, read_frames
from surgmotion_jax.data.write_video import VideoWriter


def frames(count: int = 12, height: int = 48, width: int = 64) -> np.ndarray:
    """A red, a green and a blue stripe, and a white bar that moves by four columns a frame."""
    video = np.zeros((count, height, width, 3), np.uint8)
    for channel in range(3):
        video[:, channel * height // 3 : (channel + 1) * height // 3, :, channel] = 200
    for t in range(count):
        video[t, :, 4 * t : 4 * t + 4] = 230
    return video


def write(path: Path, video: np.ndarray, fps: float = 10) -> Path:
    with VideoWriter(path, fps) as writer:
        for frame in video:
            writer.add(frame)
    return path


@pytest.mark.parametrize("fps", [10, 29.97, 2.5])
def test_times_and_colours_survive(tmp_path, fps):
    video = frames()
    path = write(tmp_path / "deep" / "x.mp4", video, fps)
    info = probe(str(path))
    assert info.duration_s == pytest.approx(len(video) / fps, rel=1e-3)
    back = read_frames(str(path), [t / fps for t in range(len(video))])
    assert np.abs(back.astype(int) - video).mean() < 6
    inner = back[0, 4:12, 40:].reshape(-1, 3).mean(0)
    np.testing.assert_allclose(inner, (200, 0, 0), atol=8)


def test_an_exception_leaves_the_earlier_file_and_nothing_else(tmp_path):
    path = write(tmp_path / "x.mp4", frames())
    before = path.read_bytes()

    def interrupted():
        with VideoWriter(path, 10) as writer:
            writer.add(frames()[0])
            assert path.read_bytes() == before
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        interrupted()
    assert [p.name for p in tmp_path.iterdir()] == ["x.mp4"]
    assert path.read_bytes() == before


def test_no_frame_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no frame was added"), VideoWriter(tmp_path / "x.mp4", 10):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((47, 64, 3), np.uint8),
        np.zeros((48, 63, 3), np.uint8),
        np.zeros((48, 64, 3), np.float32),
        np.zeros((48, 64), np.uint8),
    ],
)
def test_a_frame_that_cannot_be_coded_is_refused(tmp_path, frame):
    with pytest.raises(ValueError, match="frame 0 is .*even H and W"), VideoWriter(tmp_path / "x.mp4", 10) as writer:
        writer.add(frame)


def test_a_change_of_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="frame 1 has 32 x 64 pixels.* the first had 48 x 64"):
        write(tmp_path / "x.mp4", [frames()[0], frames(height=32)[0]])


@pytest.mark.parametrize(
    ("path", "fps", "crf", "match"),
    [
        ("gs://bucket/x.mp4", 10, 18, "local .mp4 files"),
        ("x.avi", 10, 18, "local .mp4 files"),
        ("x.mp4", 0, 18, "0 < fps"),
        ("x.mp4", float("nan"), 18, "0 < fps"),
        ("x.mp4", 10, 60, "crf <= 51"),
    ],
)
def test_bad_settings_are_refused(path, fps, crf, match):
    with pytest.raises(ValueError, match=match):
        VideoWriter(path, fps, crf)


def test_frames_outside_the_with_statement_are_refused(tmp_path):
    with pytest.raises(ValueError, match="use VideoWriter in a with statement"):
        VideoWriter(tmp_path / "x.mp4", 10).add(frames()[0])
