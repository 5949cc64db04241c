"""Damage: flipped bytes anywhere in a file, and no wrong picture is served where it is noticed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from surgmotion_jax.data import container
from surgmotion_jax.data.cursor import Cursor
from surgmotion_jax.data.damage import Damage
from surgmotion_jax.data.decode import probe, read_frames
from surgmotion_jax.data.media import DEFAULT_LIMITS, UnreadableVideo, VideoInfo
from surgmotion_jax.data.picture import Normaliser
from surgmotion_jax.simulate.number_strip import paint_number, read_number
from tests.data.recordings import RATE, Storage, write

FRAMES, FLIPS = 300, 3
WRONG = 6.0
"""Mean difference to the sound picture, in grey levels, above which a picture is wrong. Neighbours differ by more."""

CODECS = {
    "plain": Storage(options={"g": "100", "bf": "0", "preset": "ultrafast"}),
    "cabac": Storage(options={"g": "100", "bf": "2", "preset": "veryfast"}),
    "cabac in order": Storage(options={"g": "100", "bf": "0", "preset": "veryfast"}),
    "gaps": Storage(options={"g": "50", "bf": "3", "preset": "ultrafast"}),
    "reordered": Storage(options={"g": "50", "bf": "3", "preset": "veryfast"}),
    "default": Storage(options={"g": "50"}),
    "hevc": Storage("libx265", {"g": "50", "preset": "ultrafast", "x265-params": "log-level=none"}),
    "mpeg2": Storage("mpeg2video", {"g": "25", "bf": "2", "b": "2000000"}),
    "mpeg4": Storage("mpeg4", {"g": "25", "b": "1000000"}),
    "mjpeg": Storage("mjpeg", {"b": "4000000"}),
}
SUFFIXES = ("mp4", "mkv", "avi", "ts")
Sound = Callable[..., Path]


@dataclass
class Tally:
    """Of readings of one frame each."""

    served: int = 0
    wrong: int = 0
    refused: int = 0
    refused_sound: int = 0  # among the refused ones, those that would have been right


@cache
def _texture(number: int) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(60, 190, (12, 16, 3)).astype(np.uint8)
    return paint_number(np.roll(coarse.repeat(8, 0).repeat(8, 1), 2 * number, 1), number)


def _large(number: int) -> np.ndarray:
    """The same four times as wide and high, with a grain that moves: as many blocks to decode as a recording has."""
    picture = _texture(number).repeat(4, 0).repeat(4, 1).astype(np.int16)
    grain = np.random.default_rng(1).integers(-12, 13, picture.shape, np.int16)
    return np.clip(picture + np.roll(grain, 3 * number, 1), 0, 255).astype(np.uint8)


def _still(number: int) -> np.ndarray:
    """A ramp that never changes and a number: a file so small that its tables are a good part of it."""
    ramp = np.linspace(40, 200, 128).astype(np.uint8)[None, :, None]
    return paint_number(np.broadcast_to(ramp, (96, 128, 3)).copy(), number)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    """Writes a sound file of a codec with a suffix, once."""
    folder = tmp_path_factory.mktemp("sound")

    @cache
    def written(kind: str, suffix: str, draw: Callable[[int], np.ndarray] = _texture) -> Path:
        path = folder / f"{kind}{draw.__name__}.{suffix}"
        return write(path, [draw(number) for number in range(FRAMES)], CODECS[kind])

    return written


def _flipped(sound: Path, damaged: Path, seed: int) -> np.random.Generator:
    """Writes a copy with three bytes inverted, in its middle eight tenths."""
    rng = np.random.default_rng(seed)
    data = bytearray(sound.read_bytes())
    for place in rng.integers(len(data) // 10, len(data) * 9 // 10, FLIPS):
        data[place] ^= 0xFF
    damaged.write_bytes(data)
    return rng


def _readings(path: Path) -> Iterator[tuple[bool, np.ndarray | None]]:
    """For each frame whether it is served, and what was decoded for it, if anything."""
    try:
        info = probe(str(path))
    except UnreadableVideo:
        yield from ((False, None) for _ in range(FRAMES))
        return
    assert info.look is not None
    to_rgb = Normaliser(str(path), info.look, info.height, info.width)
    cursor = Cursor(info, DEFAULT_LIMITS, seek=True, whole=False)
    for number in range(FRAMES):
        shown = None
        for _ in range(2):  # a reading that fails is that of a cursor of its own the next time
            with suppress(UnreadableVideo, av.FFmpegError):
                shown = cursor.at(info.tick(number / RATE))
                break
            cursor.close()
            cursor = Cursor(info, DEFAULT_LIMITS, seek=True, whole=False)
        yield (False, None) if shown is None else (shown.sound, to_rgb(shown.frame))
    cursor.close()


def _differs(picture: np.ndarray, right: np.ndarray) -> bool:
    """Whether a picture is another, or is another moment's. A number that cannot be read is that of no moment."""
    if np.abs(picture.astype(np.int16) - right).mean() > WRONG:
        return True
    with suppress(ValueError):
        return read_number(picture) != read_number(right)
    return False


def _tally(sound: Path, damaged: Path, seeds: range) -> Tally:
    truth = [picture for _, picture in _readings(sound)]
    tally = Tally()
    for seed in seeds:
        _flipped(sound, damaged, seed)
        for (served, picture), right in zip(_readings(damaged), truth, strict=True):
            same = picture is not None and picture.shape == right.shape
            wrong = not same or _differs(picture, right)
            tally.served += served
            tally.wrong += served and wrong
            tally.refused += not served
            tally.refused_sound += not served and not wrong
    return tally


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        *(("plain", suffix) for suffix in SUFFIXES),
        *(("cabac", suffix) for suffix in SUFFIXES),
        ("reordered", "mp4"), ("hevc", "mp4"), ("hevc", "ts"), ("mpeg2", "ts"), ("mpeg4", "avi"), ("mjpeg", "avi"),
    ],
)  # fmt: skip
def test_flipped_bytes_show_few_wrong_pictures(tmp_path: Path, sound: Sound, kind: str, suffix: str):
    seeds = range(8 if suffix == "mkv" else 6)  # three flipped bytes often condemn all of its three clusters
    tally = _tally(sound(kind, suffix), tmp_path / f"x.{suffix}", seeds)
    assert tally.refused > 0, "three flipped bytes must damage something for this test to mean anything"
    assert tally.served > FRAMES
    assert tally.wrong <= 0.05 * tally.served


@pytest.mark.parametrize("kind", ["cabac", "hevc"])
def test_the_sums_of_matroska_find_what_no_decoder_notices(tmp_path: Path, sound: Sound, kind: str):
    tally = _tally(sound(kind, "mkv"), tmp_path / "x.mkv", range(4))
    assert tally.served > FRAMES // 2
    assert tally.wrong == 0


@pytest.mark.parametrize("suffix", ["mkv", "ts"])
def test_what_is_missing_beside_damage_is_not_the_frame_before_it(tmp_path: Path, sound: Sound, suffix: str):
    """A lost keyframe takes those with it that are displayed before it, and a lost stamp begins no new recording."""
    refused = 0
    for seed in (0, 3, 8, 36):
        tally = _tally(sound("gaps", suffix), tmp_path / f"x.{suffix}", range(seed, seed + 1))
        refused += tally.refused
        assert tally.wrong == 0, seed
    assert refused > 0


IN_ALL = [(kind, suffix) for kind in ("plain", "cabac", "cabac in order", "default") for suffix in SUFFIXES]
ELSEWHERE = [("hevc", "mp4"), ("hevc", "mkv"), ("hevc", "ts"), ("mpeg2", "ts"), ("mpeg4", "avi"), ("mjpeg", "avi")]


@pytest.mark.slow
@pytest.mark.parametrize("draw", [_texture, _still])
@pytest.mark.parametrize(("kind", "suffix"), [*IN_ALL, *ELSEWHERE])
def test_forty_seeds_of_flipped_bytes(tmp_path: Path, sound: Sound, kind: str, suffix: str, draw):
    tally = _tally(sound(kind, suffix, draw), tmp_path / f"x.{suffix}", range(40))
    print(f"{kind}, {suffix}, {draw.__name__}: {tally}")
    assert tally.served > FRAMES
    assert tally.wrong <= 0.01 * tally.served


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cabac", "cabac in order", "hevc"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_forty_seeds_in_pictures_of_the_size_of_recordings(tmp_path: Path, sound: Sound, kind: str, suffix: str):
    if (kind, suffix) == ("hevc", "avi"):
        pytest.skip("FFmpeg writes no HEVC to AVI")
    tally = _tally(sound(kind, suffix, _large), tmp_path / f"x.{suffix}", range(40))
    print(f"{kind}, {suffix}, _large: {tally}")
    assert tally.served > FRAMES
    assert tally.wrong <= 0.01 * tally.served


def test_everything_up_to_the_next_keyframe_is_refused(tmp_path: Path, sound: Sound):
    """What follows a damaged frame is predicted from it, though the decoder says nothing."""
    whole, damaged = sound("plain", "mp4"), tmp_path / "x.mp4"
    info = probe(str(whole))
    for seed in range(20):
        _flipped(whole, damaged, seed)
        refused = [not _serves(damaged, info, number) for number in range(100, 200, 7)]
        if any(refused[:-1]):
            first = refused.index(True)
            assert all(refused[first:]), f"seed {seed}: {refused}"
            return
    raise AssertionError("no seed damages the second group of pictures")


def _serves(path: Path, info: VideoInfo, number: int) -> bool:
    try:
        read_frames(str(path), [number / RATE], info=dataclasses.replace(info, path=str(path)))
    except UnreadableVideo:
        return False
    return True


class _Frame:
    """As much of a decoded frame as `Damage` looks at."""

    def __init__(self, key_frame: bool = False, is_corrupt: bool = False, opaque: int | None = None) -> None:
        self.key_frame, self.is_corrupt, self.opaque = key_frame, is_corrupt, opaque


def _judged(damage: Damage, *frames: _Frame) -> list[bool]:
    return [damage.is_sound(cast(VideoFrame, frame)) for frame in frames]


KEY, PREDICTED, MARKED = _Frame(key_frame=True), _Frame(), _Frame(is_corrupt=True)


def test_nothing_is_sound_from_a_marked_frame_to_the_next_keyframe():
    sound = _judged(Damage(), KEY, PREDICTED, MARKED, PREDICTED, PREDICTED, KEY, PREDICTED)
    assert sound == [True, True, False, False, False, True, True]
    assert _judged(Damage(), KEY, _Frame(True, True), PREDICTED, KEY) == [True, False, False, True]


def test_nothing_is_sound_from_a_lost_packet_to_the_next_keyframe():
    damage = Damage()
    assert _judged(damage, KEY, PREDICTED) == [True, True]
    damage.lose(waiting=0)
    assert damage.lost
    assert _judged(damage, PREDICTED, KEY, PREDICTED) == [False, True, True]


def test_a_keyframe_that_went_in_before_what_was_lost_ends_nothing():
    """Decoded I0 P4 I8 P12, where P12 is lost while P4 and I8 wait to be displayed."""
    damage = Damage()
    assert _judged(damage, KEY) == [True]
    damage.lose(waiting=2)
    assert _judged(damage, PREDICTED, KEY, PREDICTED, KEY, PREDICTED) == [False, False, False, True, True]


def test_what_went_in_before_a_lost_packet_is_sound_where_packets_are_numbered():
    """Decoded I0 P1 B2 I3 B4, displayed I0 B2 P1 B4 I3: P1 is lost while I0 waits."""
    damage = Damage()
    damage.lose(waiting=2, number=1)
    frames = [_Frame(True, opaque=0), _Frame(opaque=2), _Frame(opaque=4), _Frame(True, opaque=3), _Frame(opaque=5)]
    assert _judged(damage, *frames) == [True, False, False, True, True]


def test_a_marked_keyframe_ends_nothing():
    damage = Damage()
    damage.mark(waiting=0, number=1)
    damage.mark(waiting=0, number=2)
    frames = [
        _Frame(True, opaque=0),
        _Frame(opaque=1),
        _Frame(True, opaque=2),
        _Frame(opaque=3),
        _Frame(True, opaque=4),
    ]
    assert _judged(damage, *frames) == [True, False, False, False, True]


def test_a_lost_keyframe_ends_nothing_though_a_part_of_it_comes_out():
    damage = Damage()
    damage.lose(waiting=0, number=3)
    frames = [_Frame(opaque=2), _Frame(True, opaque=3), _Frame(opaque=4), _Frame(True, opaque=5)]
    assert _judged(damage, *frames) == [True, False, False, True]


def test_what_went_in_before_a_marked_frame_is_sound_though_it_comes_out_later():
    frames = [_Frame(True, opaque=1), _Frame(is_corrupt=True, opaque=3), _Frame(opaque=2), _Frame(opaque=4)]
    assert _judged(Damage(), *frames) == [True, False, True, False]


def test_nothing_has_its_own_time_where_frames_are_counted_wrong():
    damage = Damage()
    assert _judged(damage, KEY) == [True]
    damage.adrift = True
    assert _judged(damage, PREDICTED, KEY, PREDICTED) == [False, False, False]


def test_a_gap_beside_damage_is_judged_by_the_frames_before_it(monkeypatch: pytest.MonkeyPatch):
    """Where frames follow each other fast, a gap as long as the average distance has room for some that are lost."""

    def decoded(*_: object) -> Iterator[SimpleNamespace]:
        for tick in (0, 1, 2, 3, 6, 7):
            yield _decoded_at(tick, is_corrupt=tick == 6)

    shown = _stamped(monkeypatch, decoded, rate=10)
    assert [(one.tick, one.sound, one.missing) for one in shown] == [
        *((tick, True, False) for tick in range(4)), (4, False, True), (6, False, False), (7, False, False),
        (8, False, True),
    ]  # fmt: skip


def test_the_last_frame_before_a_loss_is_on_display_for_its_own_time_only(monkeypatch: pytest.MonkeyPatch):
    """Decoded I0 P4 B2 B3, of which B2 is lost, and then all up to the next keyframe."""

    def decoded(*arguments: object) -> Iterator[SimpleNamespace]:
        damage = arguments[-1]
        assert isinstance(damage, Damage)
        yield _decoded_at(0, key_frame=True, opaque=1)
        damage.lose(0, number=3, stamp=2)
        yield _decoded_at(4, opaque=2)
        yield _decoded_at(9, key_frame=True, opaque=9)

    shown = _stamped(monkeypatch, decoded, rate=30)
    assert [(one.tick, one.sound, one.missing) for one in shown] == [
        (0, True, False), (1, False, True), (4, True, False), (5, False, True), (9, True, False),
    ]  # fmt: skip


def _decoded_at(tick: int, **told: object) -> SimpleNamespace:
    frame = {"pts": tick, "dts": tick, "key_frame": False, "is_corrupt": False, "opaque": None}
    return SimpleNamespace(**(frame | told), width=8, height=8)


def _stamped(monkeypatch: pytest.MonkeyPatch, decoded: Callable[..., Iterator[SimpleNamespace]], rate: int):
    stream = SimpleNamespace(
        average_rate=rate, time_base=Fraction(1, 30), codec_context=SimpleNamespace(has_b_frames=False)
    )
    monkeypatch.setattr(container, "_decoded", decoded)
    box = SimpleNamespace(format=SimpleNamespace(name="matroska,webm"))
    return list(container.stamped_frames("x.mkv", box, stream, DEFAULT_LIMITS, container.Passage((8, 8))))


def test_time_begins_with_the_first_frame_also_where_it_is_lost(tmp_path: Path, sound: Sound):
    """Else all later frames would be on display too early."""
    for kind, suffix in (("cabac in order", "avi"), ("cabac in order", "mp4"), ("plain", "mp4"), ("cabac", "mkv")):
        data = bytearray(sound(kind, suffix).read_bytes())
        first = next(iter(_packets_at(sound(kind, suffix))))
        for place in range(first[0] + 40, first[0] + first[1] - 40, 7):
            data[place] ^= 0xFF
        damaged = tmp_path / f"x.{suffix}"
        damaged.write_bytes(data)
        info = probe(str(damaged))
        assert not _serves(damaged, info, 0)
        (frame,) = read_frames(str(damaged), [250 / RATE], info=info)
        assert read_number(frame) == 250, suffix
        assert info.look is not None
        assert info.look.strict, "what a strict decoder refuses once is no habit of the encoder"


def _packets_at(path: Path) -> Iterator[tuple[int, int]]:
    with av.open(str(path)) as box:
        yield from ((packet.pos, packet.size) for packet in box.demux(video=0) if packet.size)


def test_a_stream_that_comes_up_on_the_way_is_left_alone():
    """As PyAV does it: an empty packet for each stream that it knows, then an error at one that it does not."""

    def demux(*_: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(size=5, dts=0)
        yield SimpleNamespace(size=0, dts=1)
        yield SimpleNamespace(size=7, dts=2)
        yield SimpleNamespace(size=0, dts=None)
        raise IndexError("list index out of range")

    box = SimpleNamespace(demux=demux)
    assert [packet.size for packet in container.packets_of(box)] == [5, 7]


def test_words_that_are_no_text_are_no_reason_to_refuse_a_file(tmp_path: Path, sound: Sound):
    data = bytearray(sound("plain", "mp4").read_bytes())
    data[data.index(b"VideoHandler")] = 0xA9
    damaged = tmp_path / "x.mp4"
    damaged.write_bytes(data)
    assert probe(str(damaged)).frames == FRAMES


def test_video_that_nobody_can_decode_is_named(tmp_path: Path, sound: Sound):
    data = sound("plain", "mp4").read_bytes().replace(b"avc1", b"\xfe\x01\x02\x03")
    damaged = tmp_path / "x.mp4"
    damaged.write_bytes(data)
    with pytest.raises(
        UnreadableVideo, match=r"x.mp4: video of a kind that nobody here can decode, or a damaged header"
    ):
        probe(str(damaged))
