"""The tables of an mp4: what agrees is read, one wrong entry is found before any picture is."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from surgmotion_jax.data.decode import probe, read_frames
from surgmotion_jax.data.media import UnreadableVideo
from surgmotion_jax.data.mp4_tables import check_tables
from surgmotion_jax.simulate.number_strip import read_number
from tests.data.recordings import RATE, Storage, painted, write

FRAMES = 40
REORDERED = Storage(options={"g": "20", "bf": "3"})


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("tables") / "x.mp4", [painted(number) for number in range(FRAMES)], REORDERED)


def _changed(path: Path, box: bytes, place: int, change: Callable[[int], int], target: Path) -> Path:
    """A copy with another 4-byte number at a place of a box, counted from behind its name."""
    data = bytearray(path.read_bytes())
    start = data.index(box) + 4 + place
    (number,) = struct.unpack_from(">I", data, start)
    struct.pack_into(">I", data, start, change(number))
    target.write_bytes(data)
    return target


@pytest.mark.parametrize(
    ("box", "place", "change", "told"),
    [
        (b"ctts", 8, lambda count: count + 250, "delays of 40 pictures"),
        (b"ctts", 12, lambda delay: delay + 200 * 512, "more than 16 pictures from where it is decoded"),
        (b"ctts", 12, lambda delay: delay + 512, "displayed at the same time"),
        (b"ctts", 12, lambda delay: delay + 100, "between the steps"),
        (b"ctts", 4, lambda rows: rows + 1000, "rows are announced"),
        (b"stts", 8, lambda count: count - 1, "39 times of 40 pictures"),
        (b"mdhd", 12, lambda scale: scale + 3000, "are displayed of"),
        (b"mdhd", 16, lambda length: length * 3, "in a track of 4.80 s"),
        (b"tkhd", 76, lambda width: width * 3, "displayed at 384 x 96"),
        (b"tkhd", 80, lambda height: height + (63 << 16), "displayed at 128 x 159"),
        (b"elst", 12, lambda start: start + 25 * 512, "are displayed of 1.68 s"),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_found(tmp_path: Path, sound: Path, box: bytes, place: int, change, told: str):
    damaged = _changed(sound, box, place, change, tmp_path / "x.mp4")
    with pytest.raises(UnreadableVideo, match="tables contradict one another.*leave it out") as raised:
        probe(str(damaged))
    assert told in str(raised.value)


def test_steps_of_another_length_than_the_track_are_found(tmp_path: Path):
    in_order = Storage(options={"g": "20", "bf": "0"})
    sound = write(tmp_path / "sound.mp4", [painted(number) for number in range(FRAMES)], in_order)
    damaged = _changed(sound, b"stts", 12, lambda step: step * 2, tmp_path / "x.mp4")
    with pytest.raises(UnreadableVideo, match=r"pictures of 3.20 s in a track of 1.60 s"):
        probe(str(damaged))


@pytest.mark.parametrize("suffix", ["mp4", "mov", "m4v"])
@pytest.mark.parametrize("first", [0, 7])
def test_sound_tables_agree(tmp_path: Path, suffix: str, first: int):
    how = Storage(options={"g": "20", "bf": "3"}, first=first)
    path = write(tmp_path / f"x.{suffix}", [painted(number) for number in range(FRAMES)], how)
    check_tables(str(path))
    (frame,) = read_frames(str(path), [30.5 / RATE])
    assert read_number(frame) == 30


@pytest.mark.parametrize("ratio", [Fraction(64, 45), Fraction(8, 9), Fraction(5, 3)])
def test_pixels_that_are_said_not_to_be_square_agree(tmp_path: Path, ratio: Fraction):
    how = Storage(options={"g": "20", "bf": "3"}, pixel_aspect=ratio)
    check_tables(str(write(tmp_path / "x.mp4", [painted(number) for number in range(FRAMES)], how)))


def test_fragments_have_no_tables_to_compare(tmp_path: Path):
    how = Storage(options={"g": "10", "bf": "2"}, container={"movflags": "frag_keyframe+empty_moov"})
    check_tables(str(write(tmp_path / "x.mp4", [painted(number) for number in range(FRAMES)], how)))


def test_steps_of_different_lengths_agree(tmp_path: Path, write_video):
    times_ms = np.cumsum(np.random.default_rng(0).integers(10, 300, FRAMES)).tolist()
    check_tables(str(write_video(tmp_path / "x.mp4", frames=FRAMES, times_ms=times_ms)))


def test_the_middle_of_a_recording_that_was_cut_out_agrees(tmp_path: Path, sound: Path):
    """An edit list displays what follows a moment that is no keyframe."""
    data = bytearray(sound.read_bytes())
    place = data.index(b"elst") + 4
    length, start = struct.unpack_from(">II", data, place + 8)
    struct.pack_into(">II", data, place + 8, length - 400, start + 10 * 512)
    path = tmp_path / "x.mp4"
    path.write_bytes(data)
    check_tables(str(path))
    assert probe(str(path)).duration_s < FRAMES / RATE


@pytest.mark.parametrize(
    ("suffix", "codec", "rate", "form"), [("mp4", "aac", 44100, "fltp"), ("mov", "pcm_s16le", 48000, "s16")]
)
def test_sound_and_pictures_together_agree(tmp_path: Path, suffix: str, codec: str, rate: int, form: str):
    """In QuickTime's each media has a handler of its data beside its own, by which sound must not be judged."""
    path, heard = tmp_path / f"x.{suffix}", rate // RATE
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        audio = container.add_stream(codec, rate=rate)
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(painted(number), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
            silence = np.zeros((1, heard), np.float32 if form == "fltp" else np.int16)
            sound = av.AudioFrame.from_ndarray(silence, form, "mono")
            sound.sample_rate, sound.pts, sound.time_base = rate, number * heard, Fraction(1, rate)
            container.mux(audio.encode(sound))
        container.mux(stream.encode())
        container.mux(audio.encode())
    check_tables(str(path))


FIRST = b"\0\0\0\x08ftyp"


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 8, FIRST, FIRST + b"\0\0\0\x04moov", FIRST + b"\0\0\0\x01mdat" + b"\xff" * 8, b"RIFF0000AVI "],
)
def test_nothing_is_said_of_what_is_no_mp4(tmp_path: Path, content: bytes):
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    check_tables(str(path))


@pytest.mark.parametrize("box", [b"mdhd", b"stts", b"tkhd", b"stsd", b"mvhd"])
def test_a_box_that_lost_its_name_is_missed(tmp_path: Path, sound: Path, box: bytes):
    path = tmp_path / "x.mp4"
    path.write_bytes(sound.read_bytes().replace(box, b"\xfe" + box[1:]))
    with pytest.raises(UnreadableVideo, match=f"there is no {box.decode()}"):
        check_tables(str(path))


def test_boxes_within_boxes_without_end_are_no_error_of_another_kind(tmp_path: Path):
    nested = b""
    for _ in range(3000):
        nested = struct.pack(">I4s", len(nested) + 8, b"mdia") + nested
    content = b"".join(struct.pack(">I4s", len(one) + 8, name) + one for name, one in ((b"trak", nested),))
    path = tmp_path / "x.mp4"
    path.write_bytes(b"\0\0\0\x08ftyp" + struct.pack(">I4s", len(content) + 8, b"moov") + content)
    check_tables(str(path))


def test_more_pictures_than_bytes_are_not_counted(tmp_path: Path, sound: Path):
    data = bytearray(sound.read_bytes())
    for box, place in ((b"stsz", 8), (b"stts", 8)):
        struct.pack_into(">I", data, data.index(box) + 4 + place, 0xFFFFFFFF)
    path = tmp_path / "x.mp4"
    path.write_bytes(data)
    with pytest.raises(UnreadableVideo, match="4294967295 pictures in a file of"):
        check_tables(str(path))


@pytest.mark.parametrize("frames", [4, 7])
def test_pictures_that_wait_long_for_their_display_agree(tmp_path: Path, frames: int):
    how = Storage(options={"g": "40", "bf": str(frames), "x264-params": "b-pyramid=normal:b-adapt=0"})
    check_tables(str(write(tmp_path / "x.mp4", [painted(number) for number in range(FRAMES)], how)))


def test_nonsense_is_refused_and_never_an_error_of_another_kind(tmp_path: Path, sound: Path):
    data, start = sound.read_bytes(), sound.read_bytes().index(b"moov")
    rng = np.random.default_rng(0)
    path, refused = tmp_path / "x.mp4", 0
    for _ in range(200):
        changed = bytearray(data)
        for place in rng.integers(start, len(data), 3):
            changed[place] ^= 0xFF
        path.write_bytes(changed)
        try:
            check_tables(str(path))
        except UnreadableVideo:
            refused += 1
    assert refused > 20
