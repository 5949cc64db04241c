"""Takes: recordings joined end to end, which no clip straddles."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from surgmotion_jax.data import ClipDataset, DataConfig, SourceConfig
from surgmotion_jax.data import take as takes
from surgmotion_jax.data.decode import probe, read_all, read_frames
from surgmotion_jax.data.findings import findings
from surgmotion_jax.data.following import following_movie
from surgmotion_jax.data.media import DEFAULT_LIMITS, UnreadableVideo
from surgmotion_jax.simulate.number_strip import read_number
from tests.data.recordings import RATE, Storage, painted, write

LENGTH = 50
ORDINARY = Storage()


def _joined(path: Path, sizes: list[tuple[int, int]], how: Storage = ORDINARY) -> Path:
    """Recordings of two seconds each, whose numbers go on, joined as `cat` joins files."""
    parts = []
    for take, (height, width) in enumerate(sizes):
        pictures = [painted(take * LENGTH + number, height, width) for number in range(LENGTH)]
        parts.append(write(path.with_name(f"part{take}{path.suffix}"), pictures, how).read_bytes())
    for part in path.parent.glob("part*"):
        part.unlink()
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("x.ts", Storage()),
        ("x.mpg", Storage("mpeg2video", {"g": "10", "bf": "2", "b": "4000000"})),
        ("x.ts", Storage("libx265", {"x265-params": "log-level=none:keyint=10", "crf": "15"})),
    ],
)
def test_all_of_a_joined_file_is_read(tmp_path: Path, name: str, how: Storage):
    path = _joined(tmp_path / name, [(96, 128)] * 2, how)
    info = probe(str(path))
    assert info.duration_s == pytest.approx(4.0, abs=0.2)
    assert [take.reason for take in info.takes] == ["its beginning", "time stamps start over"]
    assert [take.start_s for take in info.takes] == pytest.approx([0.0, 2.0], abs=0.2)
    starts = [take.start_s for take in info.takes]
    for take, start in enumerate(starts):
        times = [start + number / RATE for number in range(0, LENGTH - 4, 7)]
        frames = read_frames(str(path), times, info=info)
        assert [read_number(frame) for frame in frames] == [take * LENGTH + n for n in range(0, LENGTH - 4, 7)]
        for time in times[::3]:
            sought = read_frames(str(path), [time], info=info)
            np.testing.assert_array_equal(sought, read_frames(str(path), [time], info=info, seek=False))
        part = info.within(start, start + 1.7)
        np.testing.assert_array_equal(read_all(str(path), info=part).at(times), frames)


ONE, TWO = list(range(60)), [*range(50), *range(50)]  # stamps of one recording, and of two


@pytest.mark.parametrize("seconds", [1, 100, -0.5])
@pytest.mark.parametrize(
    ("stamps", "damaged", "borders"),
    [(ONE, 15, [0]), (ONE, 20, [0]), (TWO, 15, [0, 50]), (TWO, 48, [0, 50]), (TWO, 52, [0, 50])],
)
def test_a_damaged_stamp_is_no_border_and_hides_none(monkeypatch, stamps, damaged, borders, seconds):
    """Keyframes are every tenth packet; a border is that of the packet with which a take begins."""
    wrong = stamps[damaged] + round(seconds * RATE)
    packets = [
        SimpleNamespace(
            dts=wrong if number == damaged else stamp,
            pts=stamp,
            pos=number,
            duration=1,
            is_keyframe=number % 10 == 0,
            is_corrupt=False,
        )
        for number, stamp in enumerate(stamps)
    ]
    monkeypatch.setattr(takes, "_packets", lambda container, stream: ((packet, b"") for packet in packets))
    monkeypatch.setattr(takes, "_look_at", lambda *args: None)
    look = SimpleNamespace(strict=True)
    parts = takes._parts("x.ts", None, SimpleNamespace(time_base=Fraction(1, RATE)), look, DEFAULT_LIMITS)
    assert [part.keyframes[0][1] for part in parts] == borders


def test_a_picture_size_that_changes_begins_a_take(tmp_path: Path):
    path = _joined(tmp_path / "x.ts", [(96, 128), (144, 192)])
    info = probe(str(path))
    assert [take.look.size for take in info.takes] == [(96, 128), (144, 192)]
    second = info.within(2.2, 3.5)
    assert (second.height, second.width) == (144, 192)
    begins = info.takes[1].start_s
    assert read_number(read_frames(str(path), [begins + 1.0], info=second)[0]) == LENGTH + RATE
    with pytest.raises(UnreadableVideo, match=r"frames of 192 x 144 pixels at 3\.000 s, in a video that .* 128 x 96"):
        read_frames(str(path), [1.0, 3.0], info=info)
    with pytest.raises(UnreadableVideo, match=r"2 takes in one file: 0\.00 to \d\.\d\d s .*; list each with its start"):
        info.within(1.0, 3.0)
    told = [finding.reason for finding in findings(info)]
    assert len(told) == 2
    assert "192 x 144: no clip straddles a border" in told[1]


def test_no_clip_straddles_a_border(tmp_path: Path):
    _joined(tmp_path / "x.ts", [(96, 128), (144, 192)])
    config = DataConfig({"d": SourceConfig(str(tmp_path))}, frames=4, fps=8.0, canvas=(96, 96), holdout=0.0)
    dataset = ClipDataset(config, 0)
    assert [(round(v.file.start_s), round(v.file.end_s)) for v in dataset.catalogue.videos] == [(0, 2), (2, 4)]
    windows = [dataset.window(index) for index in range(200)]
    assert {round(window.video.file.start_s) for window in windows} == {0, 2}
    for window in windows:
        last = window.start_s + config.span_s
        assert window.video.file.start_s <= window.start_s
        assert last <= window.end_s + 1e-6
    assert all(dataset.clip(index).video_TxHxWx3.shape == (4, 96, 96, 3) for index in range(6))


def test_an_avi_that_starts_late_has_its_own_length(tmp_path: Path):
    pictures = [painted(number) for number in range(LENGTH)]
    path = write(tmp_path / "x.avi", pictures, Storage(options={"g": "10", "bf": "0"}, first=185))
    info = probe(str(path))
    assert info.duration_s == pytest.approx(2.0, abs=0.05)
    frames = read_frames(str(path), [number / RATE for number in range(LENGTH)], info=info)
    assert [read_number(frame) for frame in frames] == list(range(LENGTH))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_a_second_movie_that_no_decoder_sees_is_found(tmp_path: Path, suffix: str):
    """What `cat` makes of two files that cannot be joined."""
    one = write(tmp_path / f"one.{suffix}", [painted(number) for number in range(20)])
    two = tmp_path / f"two.{suffix}"
    two.write_bytes(one.read_bytes() * 2)
    assert not list(findings(probe(str(one))))
    (finding,) = findings(probe(str(two)))
    assert finding.found == f"another movie from byte {one.stat().st_size} on"
    assert finding.done == "only the first is read; cut the file there"


EBML, LONGEST = b"\x1a\x45\xdf\xa3", b"\x01\xff\xff\xff\xff\xff\xff\xfe"


@pytest.mark.parametrize(
    "head", [b"", b"RIFF\x00", EBML + b"\x01" + b"\xff" * 7, EBML + LONGEST, EBML + b"\x80\x18\x53\x80\x67" + LONGEST]
)
def test_a_broken_head_has_no_second_movie(tmp_path: Path, head: bytes):
    (tmp_path / "x").write_bytes(head)
    assert following_movie(str(tmp_path / "x")) is None
