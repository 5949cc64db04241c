"""Where the index of an AVI says that its frames lie."""

from __future__ import annotations

from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

_CHUNK_HEAD = 8
"""Bytes from where the index of an AVI says that a chunk begins to its data."""


class AviIndex:
    """Where the frames of an AVI lie, which counts them: a chunk whose head is damaged is passed over, and this shows.

    Nothing is missed in files of other formats, without an index, or with one that does not fit from the beginning.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self.counts = container.format.name == "avi"  # frames, which have no stamps of their own
        self._entries = stream.index_entries if self.counts else ()
        self._length, self._fits = len(self._entries), False

    def misses(self, packet: Packet[VideoStream]) -> bool:
        """Whether a packet lies elsewhere than its number says, and so has another's."""
        if packet.pos is None or packet.dts is None or not 0 <= packet.dts < self._length:
            return False
        entry = self._entries[packet.dts]
        there = entry.timestamp == packet.dts and entry.pos + _CHUNK_HEAD == packet.pos
        missed, self._fits = self._fits and not there, self._fits or there
        return missed
