"""Damage: flipped bytes anywhere in a file, and no wrong picture is served where it is noticed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from surgmotion_jax.data.damage import DamageLedger
from surgmotion_jax.data.decode import probe, read_frames
from surgmotion_jax.data.media import UnreadableVideo, VideoInfo
from surgmotion_jax.simulate.number_strip import paint_number
from tests.data.recordings import RATE, Storage, write

FRAMES, READINGS, FLIPS = 300, 10, 3
WRONG = 6.0
"""Mean difference to the sound picture, in grey levels, above which a picture is wrong. Neighbours differ by more."""

CODECS = {
    "plain": Storage(options={"g": "100", "bf": "0", "preset": "ultrafast"}),
    "reordered": Storage(options={"g": "50", "bf": "3", "preset": "veryfast"}),
}
SUFFIXES = ("mp4", "mkv", "avi", "ts")


@dataclass
class Tally:
    """Of readings of one frame each."""

    served: int = 0
    wrong: int = 0
    refused: int = 0


def _texture(number: int) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(60, 190, (12, 16, 3)).astype(np.uint8)
    return paint_number(np.roll(coarse.repeat(8, 0).repeat(8, 1), 2 * number, 1), number)


@pytest.fixture(scope="module")
def sound_files(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    folder = tmp_path_factory.mktemp("sound")
    pictures = [_texture(number) for number in range(FRAMES)]
    return {
        (kind, suffix): write(folder / f"{kind}.{suffix}", pictures, how)
        for kind, how in CODECS.items()
        for suffix in SUFFIXES
    }


def _flipped(sound: Path, damaged: Path, seed: int) -> np.random.Generator:
    """Writes a copy with three bytes inverted, in its middle eight tenths."""
    rng = np.random.default_rng(seed)
    data = bytearray(sound.read_bytes())
    for place in rng.integers(len(data) // 10, len(data) * 9 // 10, FLIPS):
        data[place] ^= 0xFF
    damaged.write_bytes(data)
    return rng


def _tally(sound: Path, damaged: Path, seeds: range) -> Tally:
    truth = read_frames(str(sound), [number / RATE for number in range(FRAMES)]).astype(int)
    tally = Tally()
    for seed in seeds:
        rng = _flipped(sound, damaged, seed)
        for number in rng.integers(0, FRAMES, READINGS).tolist():
            try:
                frame = read_frames(str(damaged), [number / RATE])[0].astype(int)
            except UnreadableVideo:
                tally.refused += 1
                continue
            tally.served += 1
            tally.wrong += np.abs(frame - truth[number]).mean() > WRONG
    return tally


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_flipped_bytes_show_no_wrong_picture(tmp_path: Path, sound_files, suffix: str):
    tally = _tally(sound_files["plain", suffix], tmp_path / f"x.{suffix}", range(6))
    assert tally.refused > 0, "three flipped bytes must damage something for this test to mean anything"
    assert tally.served > 20
    assert tally.wrong <= 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_forty_seeds_of_flipped_bytes(tmp_path: Path, sound_files, kind: str, suffix: str):
    tally = _tally(sound_files[kind, suffix], tmp_path / f"x.{suffix}", range(40))
    print(f"{kind} {suffix}: {tally}")
    assert tally.wrong <= 0.01 * tally.served


def test_everything_up_to_the_next_keyframe_is_refused(tmp_path: Path, sound_files):
    """What follows a damaged frame is predicted from it, though the decoder says nothing."""
    sound, damaged = sound_files["plain", "mp4"], tmp_path / "x.mp4"
    info = probe(str(sound))
    for seed in range(20):
        _flipped(sound, damaged, seed)
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


def test_a_failed_packet_damages_what_is_displayed_before_it():
    """Decoded I0 P4 B2 I8, displayed I0 B2 P4 I8: B2 is predicted from P4, which cannot be decoded."""
    ledger = DamageLedger()
    i0, p4, b2, i8 = (ledger.send(keyframe, False) for keyframe in (True, False, False, True))
    ledger.damage(p4)
    assert [ledger.receive(sent, False) for sent in (i0, b2, i8)] == [True, False, True]


def test_a_frame_that_the_decoder_marks_damages_those_decoded_after_it():
    ledger = DamageLedger()
    sent = [ledger.send(keyframe, False) for keyframe in (True, False, False, False, True, False)]
    marked = [False, False, True, False, False, False]
    sound = [ledger.receive(packet, corrupt) for packet, corrupt in zip(sent, marked, strict=True)]
    assert sound == [True, True, False, False, True, True]


def test_leading_pictures_of_a_damaged_group_are_damaged():
    """Decoded I0 P2 I6 B5, displayed I0 P2 B5 I6: B5 is predicted from P2 as well."""
    ledger = DamageLedger()
    i0, p2, i6, b5 = (ledger.send(keyframe, False) for keyframe in (True, False, True, False))
    ledger.damage(p2)
    assert [ledger.receive(sent, False) for sent in (i0, b5, i6)] == [True, False, True]
