"""What decoders overlook is found by decoding again, nothing sound is condemned, and sound files are looked at once."""

from __future__ import annotations

import dataclasses
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.packet import Packet
from av.video.stream import VideoStream

from surgmotion_jax.data import recheck
from surgmotion_jax.data.cursor import Cursor
from surgmotion_jax.data.decode import probe, read_frames
from surgmotion_jax.data.media import DEFAULT_LIMITS
from surgmotion_jax.data.recheck import Recheck, overlooks_damage
from surgmotion_jax.data.units import Framing
from surgmotion_jax.simulate.number_strip import read_number
from tests.data.recordings import RATE, Storage, painted, write

FRAMES = 60
TRUSTING = dataclasses.replace(DEFAULT_LIMITS, recheck=False)

H264: Mapping[str, str] = {"g": "20", "bf": "2", "preset": "veryfast"}
HEVC: Mapping[str, str] = {"g": "20", "preset": "ultrafast", "x265-params": "log-level=none"}


def _textured(number: int, height: int = 96, width: int = 128) -> np.ndarray:
    picture = painted(number, height, width).astype(np.int16)
    grain = np.random.default_rng(0).integers(-25, 26, picture.shape, np.int16)
    return np.clip(picture + np.roll(grain, 2 * number, 1), 0, 255).astype(np.uint8)


def _recorded(path: Path, codec: str, options: Mapping[str, str], size: tuple[int, int] = (96, 128)) -> Path:
    return write(path, [_textured(number, *size) for number in range(FRAMES)], Storage(codec, options))


def _sound(path: Path) -> list[bool]:
    """Whether each frame is believed, read from the beginning."""
    cursor = Cursor(probe(str(path)), DEFAULT_LIMITS, seek=False, whole=False)
    found = [shown.sound for shown in cursor.rest()]
    cursor.close()
    return found


def _is_looked_at(path: Path) -> bool:
    with av.open(str(path)) as container:
        return overlooks_damage(container.streams.video[0])


@pytest.mark.parametrize(
    ("codec", "options", "size"),
    [
        ("libx264", H264, (96, 128)),
        ("libx264", {**H264, "x264-params": "open-gop=1"}, (96, 128)),
        ("libx264", {**H264, "x264-params": "slices=3"}, (144, 176)),
        ("libx264", {**H264, "x264-params": "interlaced=1"}, (96, 128)),
        ("libx264", {**H264, "preset": "slow", "bf": "5"}, (98, 130)),
        ("libx264", {**H264, "profile": "main"}, (96, 96)),
        ("libx265", HEVC, (96, 128)),
        ("libx265", {**HEVC, "preset": "medium"}, (100, 150)),
        ("libx265", {**HEVC, "preset": "medium", "crf": "38"}, (136, 240)),
        ("libx265", {**HEVC, "x265-params": "log-level=none:slices=2:open-gop=0"}, (192, 128)),
    ],
)
@pytest.mark.parametrize("suffix", ["mp4", "ts"])
def test_nothing_sound_is_condemned(tmp_path: Path, codec: str, options: Mapping[str, str], size, suffix: str):
    path = _recorded(tmp_path / f"x.{suffix}", codec, options, size)
    assert _is_looked_at(path)
    assert _sound(path) == [True] * FRAMES
    info = probe(str(path))
    for number in range(3, FRAMES - 3, 11):  # from another keyframe each
        (frame,) = read_frames(str(path), [(number + 0.5) / RATE], info=info)
        assert read_number(frame) == number


def test_pictures_that_are_cut_at_the_top_are_not_condemned(tmp_path: Path):
    path = _recorded(tmp_path / "x.mp4", "libx264", {**H264, "x264-params": "crop-rect=0,16,0,0"})
    assert probe(str(path)).height == 80
    assert _sound(path) == [True] * FRAMES


@pytest.mark.parametrize(
    ("codec", "options", "form"),
    [
        *(("libx264", H264, form) for form in ("yuv420p10le", "yuv444p", "gray")),
        *(("libx265", HEVC, form) for form in ("yuv420p10le", "yuv444p", "gray", "gbrp")),
    ],
)
def test_pictures_of_other_forms_are_not_condemned(tmp_path: Path, codec: str, options: Mapping[str, str], form: str):
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options=dict(options))
        stream.width, stream.height, stream.pix_fmt = 128, 96, form
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(_textured(number), "rgb24").reformat(format=form)
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert _is_looked_at(path)
    assert _sound(path) == [True] * FRAMES


def test_recordings_that_are_joined_are_told_apart(tmp_path: Path):
    """Each brings what describes its pictures."""
    first = _recorded(tmp_path / "1.ts", "libx265", HEVC)
    second = _recorded(tmp_path / "2.ts", "libx265", {**HEVC, "preset": "medium"})
    joined = tmp_path / "x.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    info = probe(str(joined))
    assert len(info.takes) == 2
    for start, number in ((0.0, 41), (info.takes[1].start_s, 3), (info.takes[1].start_s, 50)):
        (frame,) = read_frames(str(joined), [start + (number + 0.5) / RATE], info=info)
        assert read_number(frame) == number


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_a_recording_that_was_cut_at_an_open_keyframe_is_sound(tmp_path: Path, codec: str):
    """Behind it come pictures that are displayed before it, and whose references are not there."""
    options = {**H264, "x264-params": "open-gop=1"} if codec == "libx264" else {**HEVC, "preset": "medium"}
    whole, part = _recorded(tmp_path / "whole.ts", codec, options), tmp_path / "x.ts"
    places = [packet.pos for packet in _packets(whole) if packet.is_keyframe]
    data = whole.read_bytes()
    part.write_bytes(data[: 3 * 188] + data[places[1] :])
    assert sum(_sound(part)) >= FRAMES - 20 - 3
    assert all(_sound(part)[3:])


def test_what_an_edit_leaves_out_is_not_missing(tmp_path: Path):
    path = _recorded(tmp_path / "x.mp4", "libx264", H264)
    data = bytearray(path.read_bytes())
    place = data.index(b"elst") + 4
    length, start = struct.unpack_from(">II", data, place + 8)
    struct.pack_into(">II", data, place + 8, length - 400, start + 10 * 512)
    path.write_bytes(data)
    assert all(_sound(path))


@pytest.mark.parametrize(
    ("codec", "options", "size"),
    [
        ("libx264", {**H264, "preset": "ultrafast"}, (96, 128)),  # no arithmetic coding
        ("libx264", H264, (384, 512)),  # blocks enough
        ("mpeg4", {"g": "20"}, (96, 128)),
    ],
)
def test_what_a_decoder_notices_is_decoded_once(tmp_path: Path, codec: str, options: Mapping[str, str], size):
    path = write(tmp_path / "x.mp4", [_textured(number, *size) for number in range(3)], Storage(codec, options))
    assert not _is_looked_at(path)


def _packets(path: Path) -> list[Packet[VideoStream]]:
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


@contextmanager
def _judged_by(path: Path) -> Iterator[Recheck]:
    """One that remembers nothing."""
    with av.open(str(path)) as container:
        judge = Recheck(str(path), container.streams.video[0], 96 * 128)
        judge._sound = {}
        yield judge


def _with(packet: Packet[VideoStream], data: bytes) -> Packet[VideoStream]:
    changed = Packet(data)
    changed.pts, changed.dts, changed.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
    return changed


@pytest.mark.parametrize(("codec", "options"), [("libx264", H264), ("libx265", HEVC)])
def test_a_damaged_packet_is_found_at_once(tmp_path: Path, codec: str, options: Mapping[str, str]):
    """Most wrong bytes are found without a picture to compare with; some change no more than a colour."""
    path = _recorded(tmp_path / "x.mp4", codec, options)
    sent = _packets(path)
    tried = found = 0
    for number in range(2, 18, 3):
        data = bytes(sent[number])
        for place in range(len(data) // 4, len(data) * 3 // 4, max(1, len(data) // 12)):
            damaged = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
            packets = [*sent[:number], _with(sent[number], damaged), *sent[number + 1 : number + 4]]
            with _judged_by(path) as judge:
                told = [one for k, packet in enumerate(packets) for one in judge.damaged(packet, k)] + judge.rest()
            assert not told or min(told) >= number
            tried, found = tried + 1, found + bool(told)
    assert found >= 0.6 * tried > 10


@pytest.mark.parametrize(("codec", "options"), [("libx264", H264), ("libx265", HEVC)])
def test_a_packet_that_holds_no_picture_is_damaged(tmp_path: Path, codec: str, options: Mapping[str, str]):
    path = _recorded(tmp_path / "x.mp4", codec, options)
    sent = _packets(path)
    for change in (b"\0\0\0\x02\xff\xff", bytes(sent[1])[:-3], b"\0\0\0\x01"):
        with _judged_by(path) as judge:
            assert judge.damaged(sent[0], 1) == []
            assert judge.damaged(_with(sent[1], change), 2) == [2]
            assert judge.damaged(sent[2], 3) == [], "said once"


class _Counting:
    """Counts how often packets are decoded again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        real = recheck.H264Ends.elsewhere

        def counted(ends: recheck.H264Ends, number: int, packet: Packet[VideoStream]) -> Iterator[int]:
            self.count += 1
            return real(ends, number, packet)

        monkeypatch.setattr(recheck.H264Ends, "elsewhere", counted)

    def during(self, path: Path, number: int, limits=DEFAULT_LIMITS) -> int:
        self.count, info = 0, probe(str(path), TRUSTING)
        read_frames(str(path), [(number + 0.5) / RATE], info=info, limits=limits)
        return self.count


def test_what_was_found_sound_is_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, counting = _recorded(tmp_path / "x.mp4", "libx264", H264), _Counting(monkeypatch)
    assert counting.during(path, 30, TRUSTING) == 0
    assert counting.during(path, 30) > 8
    assert counting.during(path, 30) == 0
    assert counting.during(path, 26) == 0
    further = counting.during(path, 38)  # what was passed over is decoded after all, as later frames need it
    assert further > 15
    assert counting.during(path, 38) == 0
    os.utime(path, ns=(0, 0))
    assert counting.during(path, 30) > 8, "another file may have its name"


@pytest.mark.parametrize("suffix", ["mp4", "ts"])
def test_units_are_taken_apart_and_put_together(tmp_path: Path, suffix: str):
    path = _recorded(tmp_path / f"x.{suffix}", "libx264", H264)
    with av.open(str(path)) as container:
        framing = Framing.of("h264", container.streams.video[0].codec_context.extradata or b"")
    assert bool(framing.length) == (suffix == "mp4")
    for packet in _packets(path):
        data = bytes(packet)
        places = list(framing.units(data))
        assert sum(1 <= data[start] & 31 <= 5 for start, _ in places) == 1
        start, end = places[-1]
        longer = framing.with_unit(data, start, end, data[start:end] + b"abc")
        *_, (begin, stop) = framing.units(longer)
        assert longer[begin:stop] == data[start:end] + b"abc"
