"""Which decoded frames are sound: none from a damaged one up to the next keyframe.

Frames are predicted from others in the order of decoding, and come out of the decoder in the order of display. So
each is known by the packet that it was sent as, and is held back until all that it may be predicted from have come
out: where frames are not reordered, nothing waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from av.video.frame import VideoFrame

_LONGEST_WAIT = 17
"""Frames held back for one that does not come: codecs reorder up to 16, and some packets never make a frame."""


@dataclass(frozen=True)
class Sent:
    """A packet that went into the decoder, by numbers in the order of decoding."""

    number: int
    keyframe: int  # number of the last keyframe up to this packet
    before: int  # number of the keyframe before that


class DamageLedger:
    """What went into a decoder and came out of it, and from where on each group of pictures is damaged."""

    def __init__(self) -> None:
        self._last: Sent | None = None
        self._missing: dict[int, None] = {}  # numbers of packets whose frames have not come out, ascending
        self._damaged_from: dict[int, int] = {}  # keyframe -> number of the first damaged packet after it
        self._held: deque[tuple[Sent | None, VideoFrame, bool]] = deque()
        self._arrived = -1  # number of the last keyframe that has come out

    def send(self, is_keyframe: bool, is_corrupt: bool) -> Sent:
        """Notes a packet, before it is decoded."""
        last = self._last or Sent(-1, -1, -1)
        number = last.number + 1
        self._last = Sent(number, number, last.keyframe) if is_keyframe else Sent(number, last.keyframe, last.before)
        self._missing[number] = None
        if is_corrupt:
            self._damage(self._last)
        return self._last

    def fail(self, sent: Sent) -> None:
        """Notes that a packet cannot be decoded."""
        self._damage(sent)
        self._missing.pop(sent.number, None)

    def receive(self, sent: Sent | None, frame: VideoFrame, is_corrupt: bool) -> Iterator[tuple[VideoFrame, bool]]:
        """Notes a decoded frame, and gives those, in order of display, of which it is now known if they are sound."""
        leading = sent is not None and self._arrived < sent.keyframe < sent.number
        if sent is not None:
            self._missing.pop(sent.number, None)
            if is_corrupt:
                self._damage(sent)
            if sent.number == sent.keyframe:
                self._arrived = sent.number
        self._held.append((sent, frame, leading))
        while self._held and (len(self._held) > _LONGEST_WAIT or self._decided(self._held[0][0])):
            yield self._judged(*self._held.popleft())

    def rest(self) -> Iterator[tuple[VideoFrame, bool]]:
        """The frames still held back, once nothing more comes."""
        while self._held:
            yield self._judged(*self._held.popleft())

    def _damage(self, sent: Sent) -> None:
        first = self._damaged_from.get(sent.keyframe, sent.number)
        self._damaged_from[sent.keyframe] = min(first, sent.number)

    def _decided(self, sent: Sent | None) -> bool:
        if sent is None:
            return True
        while self._missing and next(iter(self._missing)) < sent.keyframe:
            del self._missing[next(iter(self._missing))]
        return not self._missing or next(iter(self._missing)) > sent.number

    def _judged(self, sent: Sent | None, frame: VideoFrame, leading: bool) -> tuple[VideoFrame, bool]:
        if sent is None:
            return frame, not frame.is_corrupt
        # Displayed before its keyframe, it is predicted from pictures before that too.
        sound = not (leading and sent.before in self._damaged_from)
        return frame, sound and sent.number < self._damaged_from.get(sent.keyframe, sent.number + 1)
