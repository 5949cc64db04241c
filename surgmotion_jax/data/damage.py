"""Which decoded frames are sound: none from a damaged one up to the next keyframe.

Frames are predicted from others in the order of decoding, and come out of the decoder in the order of display. So each
is known by the packet that it was sent as, and a packet that fails damages frames that are displayed before its own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sent:
    """A packet that went into the decoder, by numbers in the order of decoding."""

    number: int
    keyframe: int  # number of the last keyframe up to this packet
    before: int  # number of the keyframe before that


class DamageLedger:
    """What went into a decoder and came out of it, and from where on each group of pictures is damaged."""

    def __init__(self) -> None:
        self._last = Sent(-1, -1, -1)
        self._arrived = -1  # number of the last keyframe that has come out
        self._damaged_from: dict[int, int] = {}  # keyframe -> number of the first damaged packet after it

    def send(self, is_keyframe: bool, is_corrupt: bool) -> Sent:
        """Notes a packet, before it is decoded."""
        last, number = self._last, self._last.number + 1
        self._last = Sent(number, number, last.keyframe) if is_keyframe else Sent(number, last.keyframe, last.before)
        if is_corrupt:
            self.damage(self._last)
        return self._last

    def damage(self, sent: Sent) -> None:
        """Notes that a packet cannot be decoded, or not as it was recorded."""
        first = self._damaged_from.get(sent.keyframe, sent.number)
        self._damaged_from[sent.keyframe] = min(first, sent.number)

    def receive(self, sent: Sent, is_corrupt: bool) -> bool:
        """Notes the frame of a packet, as it comes out; whether it is sound."""
        # Displayed before its keyframe, it is predicted from pictures before that too.
        leading = self._arrived < sent.keyframe < sent.number
        if sent.number == sent.keyframe:
            self._arrived = sent.number
        if is_corrupt:
            self.damage(sent)
        if leading and sent.before in self._damaged_from:
            return False
        return sent.number < self._damaged_from.get(sent.keyframe, sent.number + 1)
