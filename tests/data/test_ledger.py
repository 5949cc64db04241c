"""What went into a decoder and did not come out of it."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from surgmotion_jax.data.damage import Damage, Number
from surgmotion_jax.data.ledger import Ledger


def _frame(number: int | None, key: bool = False, corrupt: bool = False) -> VideoFrame:
    return cast(VideoFrame, SimpleNamespace(opaque=number, key_frame=key, is_corrupt=corrupt))


def _packet(pts: int | None = None, key: bool = False, discard: bool = False) -> Packet[VideoStream]:
    return cast("Packet[VideoStream]", SimpleNamespace(pts=pts, is_keyframe=key, is_discard=discard))


def _passed(
    steps: Sequence[tuple[int | None, list[VideoFrame]]], *, holds: bool = False, reordered: bool = False
) -> tuple[list[tuple[object, bool]], Damage]:
    """The frames that come out with their numbers, and whether each is sound, for packets that go in with frames."""
    damage = Damage()
    ledger = Ledger(damage, holds)
    out = []
    for number, frames in steps:
        if number is not None:
            ledger.enter(number, _packet())
        out += [(frame.opaque, damage.is_sound(frame)) for frame in ledger.released(frames, reordered)]
    out += [(frame.opaque, damage.is_sound(frame)) for frame in ledger.rest([], reordered)]
    return out, damage


def test_what_comes_out_at_once_is_passed_on_at_once():
    out, damage = _passed([(1, [_frame(1, key=True)]), (2, [_frame(2)]), (3, [_frame(3)])])
    assert out == [(1, True), (2, True), (3, True)]
    assert not damage.lost


def test_packets_without_frames_are_missing_before_the_next_frame():
    silent = [(number, []) for number in (2, 3, 4)]
    out, damage = _passed([(1, [_frame(1, key=True)]), *silent, (5, [_frame(5)]), (6, [_frame(6, key=True)])])
    assert out == [(1, True), (5, False), (6, True)]
    assert damage.lost


def test_packets_without_frames_are_missing_at_the_end():
    _, damage = _passed([(1, [_frame(1, key=True)]), (2, []), (3, [])])
    assert damage.lost


def test_every_other_packet_may_be_a_field():
    steps = [(number, [_frame(number, key=number == 1)] if number % 2 else []) for number in range(1, 12)]
    out, damage = _passed(steps)
    assert all(sound for _, sound in out)
    assert not damage.lost


def test_reordered_frames_are_waited_for():
    """Decoded I1 P2 B3 P4 B5, displayed I1 B3 P2 B5 P4."""
    steps = [(1, []), (2, []), (3, [_frame(1, key=True)]), (4, [_frame(3)]), (5, [_frame(2)])]
    out, damage = _passed([*steps, (None, [_frame(5), _frame(4)])], reordered=True)
    assert [number for number, _ in out] == [1, 3, 2, 5, 4]
    assert not damage.lost


def test_a_frame_waits_for_what_it_is_predicted_from():
    """Decoded I1 P2 B3 B4, displayed I1 B3 B4 P2, and P2 turns out to be damaged when it is displayed."""
    steps = [
        (1, []),
        (2, []),
        (3, [_frame(1, key=True)]),
        (4, [_frame(3)]),
        (None, [_frame(4), _frame(2, corrupt=True)]),
    ]
    believed, _ = _passed(steps, reordered=True)
    held, _ = _passed(steps, holds=True, reordered=True)
    assert believed == [(1, True), (3, True), (4, True), (2, False)]
    assert held == [(1, True), (3, False), (4, False), (2, False)]


def test_what_no_frame_is_to_come_of_is_not_missing():
    """Pictures before the first keyframe, of which a recording that was cut holds some, and what an edit leaves out."""
    damage = Damage()
    ledger = Ledger(damage, holds=False)
    ledger.enter(1, _packet(pts=9, key=True))
    assert len(list(ledger.released([_frame(1, key=True)], reordered=True))) == 1
    for number in range(2, 40):
        ledger.enter(number, _packet(pts=5) if number % 2 else _packet(pts=50, discard=True))
    assert len(list(ledger.released([_frame(41, key=True)], reordered=True))) == 1
    assert not damage.lost


def test_numbers_are_objects_of_their_own():
    """PyAV finds what came with a packet by its address, and forgets it with the packet."""
    first, second = Number(5), Number(5)
    assert first == second == 5
    assert first is not second
