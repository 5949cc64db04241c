"""Decoding laws: the right frame at every time, and the same one whether reached by seeking or not."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from surgmotion_jax.data import cursor
from surgmotion_jax.data.decode import probe, read_all, read_frames
from surgmotion_jax.simulate.number_strip import read_number
from tests.data.recordings import RATE, Storage, painted, write

WRITTEN = {
    "closed.mp4": {"options": {"g": "12", "bf": "2"}},
    "open_gop.mp4": {"options": {"g": "12", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}},
    "one_gop.mp4": {"options": {"g": "500", "bf": "3"}},
    "intra.mov": {"options": {"g": "1"}},
    "x.mkv": {"options": {"g": "12", "bf": "3"}},
    "x.webm": {"codec": "libvpx-vp9", "options": {"g": "12", "deadline": "realtime", "cpu-used": "8"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}},
    "reordered.avi": {"options": {"g": "12", "bf": "3"}},
    "fragmented.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
}


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_written_video_shows_the_due_frame(tmp_path: Path, name, write_video, number_of):
    path = str(write_video(tmp_path / name, frames=60, **WRITTEN[name]))
    info = probe(path)
    assert info.duration_s == pytest.approx(6.0, abs=0.02)
    assert (info.fps, info.height, info.width) == (pytest.approx(10), 80, 96)
    on_time = [number_of(f) for f in read_frames(path, [i / 10 for i in range(60)], info=info)]
    assert on_time == list(range(60))
    between = [number_of(f) for f in read_frames(path, [i / 10 + 0.06 for i in range(60)], info=info)]
    assert between == list(range(60))
    assert number_of(read_frames(path, [99.0], info=info)[0]) == 59


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_seek_equals_sequential_on_written_video(tmp_path: Path, name, write_video):
    path = str(write_video(tmp_path / name, frames=60, **WRITTEN[name]))
    _assert_seek_is_exact(path, draws=10)


@pytest.mark.parametrize("name", ["bikes.mp4", "carphone_pristine.mp4", "bigbuckbunny.mp4"])
def test_seek_equals_sequential_on_real_video(real_videos, name):
    _assert_seek_is_exact(real_videos[name], draws=5)


def _assert_seek_is_exact(path: str, draws: int) -> None:
    info = probe(path)
    rng = np.random.default_rng(0)
    table = read_all(path, 64, info=info)
    for _ in range(draws):
        times = np.sort(rng.uniform(0, info.duration_s, 4)).tolist()
        sought = read_frames(path, times, 64, info=info)
        np.testing.assert_array_equal(sought, read_frames(path, times, 64, info=info, seek=False))
        np.testing.assert_array_equal(sought, table.at(times))


def test_real_video_frame_by_frame(real_videos):
    """The times of all frames of a file give all its frames, as a plain decoding loop counts them."""
    path = real_videos["carphone_pristine.mp4"]
    with av.open(path) as container:
        plain = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    info = probe(path)
    assert info.duration_s == pytest.approx(4.004)
    # At the stored size: its pixels are not square.
    ours = read_frames(path, [i * 1001 / 30000 for i in range(len(plain))], plain[0].shape[:2], info=info)
    assert len(np.unique(ours.reshape(len(ours), -1), axis=0)) == len(plain) == 120
    # Two scalers may round the last bit differently; neighbouring frames differ by far more.
    assert np.abs(ours.astype(int) - np.stack(plain)).max() <= 2


def test_sparse_times_do_not_decode_everything(tmp_path: Path, write_video, number_of, monkeypatch):
    """1 fps out of 25 with a keyframe each second: at most the frames between keyframe and sample."""
    options = {"g": "25", "bf": "2", "sc_threshold": "0"}
    path = str(write_video(tmp_path / "x.mp4", frames=500, rate=25, options=options))
    info = probe(path)
    decoded = {True: 0, False: 0}
    stamped = cursor.stamped_frames

    def counted(*args):
        for item in stamped(*args):
            decoded[seek] += 1
            yield item

    monkeypatch.setattr(cursor, "stamped_frames", counted)
    times = [2.2 + i for i in range(16)]
    for seek in (True, False):
        frames = read_frames(path, times, info=info, seek=seek)
        assert [number_of(frame) for frame in frames] == [int(t * 25 + 1e-6) for t in times]
    assert decoded[False] > 400
    assert decoded[True] < 150


def test_variable_frame_rate(tmp_path: Path, write_video, number_of):
    times_ms = [0, 100, 150, 900, 1000, 2500, 2600, 2700, 4000, 4040]
    for name in ("x.mkv", "x.mp4"):
        path = str(write_video(tmp_path / name, frames=10, times_ms=times_ms))
        asked = [0.0, 0.12, 0.5, 0.899, 0.95, 2.4, 2.65, 3.9, 4.02, 4.05]
        due = [sum(t <= a * 1000 for t in times_ms) - 1 for a in asked]
        assert [number_of(f) for f in read_frames(path, asked)] == due, name


def test_thirty_fps_in_milliseconds_misses_no_frame(tmp_path: Path, write_video, number_of):
    """Matroska rounds 66.7 ms to 67: the frame due at 66.7 must still be there."""
    path = str(write_video(tmp_path / "x.mkv", frames=30, rate=30))
    assert [number_of(f) for f in read_frames(path, [i / 30 for i in range(30)])] == list(range(30))


def test_portrait_and_sizes(tmp_path: Path, write_video, number_of):
    path = str(write_video(tmp_path / "x.mp4", size=(120, 80)))
    info = probe(path)
    assert (info.height, info.width) == (120, 80)
    assert read_frames(path, [0.0], info=info).shape == (1, 120, 80, 3)
    assert read_frames(path, [0.0], 40, info=info).shape == (1, 60, 40, 3)
    assert read_frames(path, [0.0], 160, info=info).shape == (1, 240, 160, 3)
    frames = read_frames(path, [1.0, 2.0], (50, 70), info=info)
    assert frames.shape == (2, 50, 70, 3)
    assert frames.dtype == np.uint8
    assert [number_of(frame) for frame in frames] == [10, 20]


def test_times_must_ascend(tmp_path: Path, write_video):
    path = str(write_video(tmp_path / "x.mp4", frames=5))
    for times in ([1.0, 0.5], [-1.0], [], [float("nan")]):
        with pytest.raises(ValueError, match=r"times_s.*ascending order"):
            read_frames(path, times)


def test_frame_folder_is_a_video_in_natural_order(tmp_path: Path):
    for i in range(12):
        Image.new("RGB", (40, 30), (i * 20, 0, 0)).save(tmp_path / f"frame{i}.png")
    info = probe(str(tmp_path), folder_fps=2.0)
    assert (info.duration_s, info.fps, info.width, info.height) == (6.0, 2.0, 40, 30)
    frames = read_frames(str(tmp_path), [0.0, 0.4, 0.5, 4.9, 5.0, 50.0], info=info)
    assert frames[:, 0, 0, 0].tolist() == [0, 0, 20, 180, 200, 220]
    np.testing.assert_array_equal(read_all(str(tmp_path), info=info).at([0.4, 5.0]), frames[[1, 4]])
    assert read_frames(str(tmp_path), [0.0], 15, info=info).shape == (1, 15, 20, 3)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "mpg"])
def test_every_frame_of_a_sound_recording_can_be_sought(tmp_path: Path, suffix: str):
    """Keyframes are rare and frames reordered: a seek by bytes lands amid frames whose references it never saw."""
    how = {"mpg": Storage("mpeg2video", {"g": "60", "bf": "2", "b": "1000000"})}
    frames = 500
    path = write(
        tmp_path / f"x.{suffix}",
        [painted(number) for number in range(frames)],
        how.get(suffix, Storage(options={"g": "60", "bf": "2", "preset": "veryfast", "crf": "20"})),
    )
    info = probe(str(path))
    for number in (*range(1, frames - 3, 13), 0):
        (frame,) = read_frames(str(path), [(number + 0.5) / RATE], info=info)
        assert read_number(frame) == number
