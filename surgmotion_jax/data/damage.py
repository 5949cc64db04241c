"""Which decoded frames are sound: none from a sign of damage up to the next keyframe.

Frames are predicted from others, and damage shows in all that are predicted from a damaged one, of which the decoder
says nothing. What is displayed after a keyframe is predicted from it and from what comes after it.
"""

from __future__ import annotations

from av.video.frame import VideoFrame


class Number(int):
    """The number of a packet, which comes back with its frame as its `opaque`.

    PyAV knows what travels with a packet by its address only, and small whole numbers share theirs.
    """


class Damage:
    """What is known of the damage to the frames that come out of a decoder, one after another.

    Where packets are numbered, as their `opaque`, it is known which frames went in before what was lost, and these are
    sound. Elsewhere up to `waiting` frames may have, and none of them is believed.
    """

    def __init__(self) -> None:
        self.lost = False  # whether a frame was lost since the one before
        self.lost_at: int | None = None  # when it was due, where that is known
        self.adrift = False  # whether frames are counted wrong from here on, so that none has its own time
        self._sent = 0
        self.damaged = False  # whether the end of the damage has not come out yet
        self._waiting = 0
        self._number: int | None = None  # of the packet that was lost or marked, where this is known
        self._marked = 0  # the number of the last packet that was lost or marked

    def number(self) -> Number:
        """The number of the next packet that goes in."""
        self._sent += 1
        return Number(self._sent)

    def lose(self, waiting: int, number: int | None = None, stamp: int | None = None) -> None:
        """Notes that a packet could not be decoded: its frame does not come out."""
        if not self.lost:
            self.lost, self.lost_at = True, stamp
        self._begin(waiting, number)
        self._marked = max(self._marked, number or 0)  # a part of it may come out after all

    def mark(self, waiting: int, number: int) -> None:
        """Notes that a packet is not as it was recorded, though its frame may come out."""
        self._begin(waiting, number)
        self._marked = max(self._marked, number)

    def _begin(self, waiting: int, number: int | None) -> None:
        if not self.damaged:
            self._number = number
        elif self._number is not None and number is not None:
            self._number = min(self._number, number)  # one that went in earlier may be found later
        self.damaged, self._waiting = True, waiting

    def is_sound(self, frame: VideoFrame) -> bool:
        """Whether the next frame that comes out is what was recorded."""
        if not (self.damaged or self.adrift or frame.is_corrupt):
            return True
        if frame.is_corrupt:
            if isinstance(frame.opaque, int):
                self.mark(0, frame.opaque)
            else:
                self.damaged, self._number = True, None
            return False
        sound = not self.damaged or self._is_outside(frame)
        self._waiting = max(0, self._waiting - 1)
        return sound and not self.adrift

    def _is_outside(self, frame: VideoFrame) -> bool:
        """Whether a frame went in before what was lost, or ends the damage."""
        number = frame.opaque
        if isinstance(number, int) and self._number is not None:
            if number < self._number:
                return True
            ends = frame.key_frame and number > self._marked
        else:
            ends = frame.key_frame and not self._waiting
        if not ends:
            return False
        self.damaged = False
        return True
