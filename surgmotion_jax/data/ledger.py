"""What has gone into a decoder and not come out of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from surgmotion_jax.data.damage import Damage

_MOST_KEPT = 64
"""Packets that are waited for at most, where no keyframe comes."""

MOST_REORDERED = 16
"""Frames that may go in before a frame and come out after it (H.264, A.3.1)."""

_SILENT = {False: 1, True: 8}
"""Packets in a row that may go in and have not come out yet, by whether frames are reordered.

One alone may be a field, which comes out with the other one.
"""


class Ledger:
    """Passes frames on, and tells `damage` what their order shows. They have the numbers of their packets as `opaque`.

    After a picture that is missing, FFmpeg takes packets in without a word and gives nothing for them. Where it `holds`
    frames, each waits for those that went in before it: it may be predicted from one of them, which comes out later and
    is marked.
    """

    def __init__(self, damage: Damage, holds: bool) -> None:
        self._damage, self._holds = damage, holds
        self._inside: list[int] = []
        self._waiting: deque[VideoFrame] = deque()
        self._begun = False  # whether any frame has come out
        self._first: int | None = None  # the stamp of the first keyframe

    def enter(self, number: int, packet: Packet[VideoStream]) -> None:
        """Notes that a packet has gone in whose frame is to come out.

        None comes of what an edit leaves out, or of what is displayed before the first keyframe.
        """
        if self._first is None and packet.is_keyframe:
            self._first = packet.pts
        early = packet.pts is not None and self._first is not None and packet.pts < self._first
        if not (early or packet.is_discard):
            self._inside = [*self._inside[-_MOST_KEPT:], number]

    def released(self, frames: Iterable[VideoFrame], reordered: bool) -> Iterator[VideoFrame]:
        """Those that can be judged now, with the ones that have come out before and waited."""
        self._take(frames, reordered)
        # What went in long before the newest will not come out any more.
        near = [one for one in self._inside if one > self._inside[-1] - MOST_REORDERED] if self._holds else []
        while self._waiting and (not near or _number_of(self._waiting[0]) < near[0]):
            yield self._waiting.popleft()

    def rest(self, frames: Iterable[VideoFrame], reordered: bool) -> Iterator[VideoFrame]:
        """All that are left, with those that have come out at the end."""
        self._take(frames, reordered)
        yield from self._waiting
        self._miss(_run_of(self._inside, 1))

    def _take(self, frames: Iterable[VideoFrame], reordered: bool) -> None:
        for frame in frames:
            number = _number_of(frame)
            if frame.is_corrupt and self._holds:
                self._damage.mark(0, number)
            if number in self._inside:
                self._inside.remove(number)
            # Before a keyframe is displayed all has come out that went in before it.
            missing = _run_of([one for one in self._inside if one < number], _SILENT[reordered and not frame.key_frame])
            self._miss(missing)
            if missing or frame.key_frame:
                self._inside = [one for one in self._inside if one > number]
            self._waiting.append(frame)
            self._begun = True

    def _miss(self, numbers: list[int]) -> None:
        if numbers and self._begun:
            self._damage.lose(0, numbers[0])


def _run_of(numbers: list[int], most: int) -> list[int]:
    """The first numbers that follow one another and are more than `most`."""
    run: list[int] = []
    for number in numbers:
        if run and number != run[-1] + 1:
            if len(run) > most:
                break
            run = []
        run.append(number)
    return run if len(run) > most else []


def _number_of(frame: VideoFrame) -> int:
    """The number of its packet; 0 for a frame that the decoder made up in the place of a damaged one."""
    return frame.opaque if isinstance(frame.opaque, int) else 0
