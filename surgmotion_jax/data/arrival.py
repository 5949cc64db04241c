"""The packets behind a keyframe at which decoding begins in the middle of a recording."""

from __future__ import annotations

from av.packet import Packet
from av.video.stream import VideoStream


class Arrival:
    """Tells which packets behind the keyframe that was jumped to lack what they are predicted from.

    Those that are displayed before it are not shown. The first one that is displayed after them decodes, but a strict
    decoder misses the pictures that it was told to forget with it.
    """

    def __init__(self, jumped: bool) -> None:
        self.over = not jumped
        self._first: int | None = None
        self._open = False  # whether some are displayed before the keyframe

    def excuses(self, packet: Packet[VideoStream]) -> bool:
        """Whether an error in decoding a packet is no sign of damage."""
        if self.over or packet.pts is None:
            return False
        if self._first is None:
            self._first = packet.pts if packet.is_keyframe else None
            return False
        self.over = packet.pts > self._first
        self._open = self._open or not self.over
        return self._open
