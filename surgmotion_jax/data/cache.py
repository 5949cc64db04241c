"""Keeps whole decoded videos in memory while they fit. Changes how fast a clip is read, never what is in it."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from surgmotion_jax.data.media import FrameTable, UnreadableVideo

_HEADROOM = 1.1
"""Frames are counted from the average rate; a video may hold this much more before it is given up."""


@dataclass
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    table: FrameTable | None = None
    refused: bool = False


class VideoCache:
    """At most `limit_bytes` of decoded frames. Threads may share it; a copied or pickled one starts empty."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._lock = threading.Lock()
        self._slots: dict[str, _Slot] = {}

    def __reduce__(self) -> tuple[type["VideoCache"], tuple[int]]:
        return type(self), (self.limit_bytes,)

    def get(self, key: str, frames: int, frame_bytes: int, read: Callable[[int], FrameTable]) -> FrameTable | None:
        """The decoded video, decoding it at the first call; None where it does not fit or decode as a whole.

        Args:
            key: names the video.
            frames: estimated number of its frames.
            frame_bytes: bytes of one decoded frame.
            read: decodes the video, given the most frames it may hold.
        """
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
        # A lock per video: one thread decodes it, those that want the same one wait, all others go on.
        with slot.lock:
            if slot.table is None and not slot.refused:
                slot.table = self._fill(int(frames * _HEADROOM) + 1, frame_bytes, read)
                slot.refused = slot.table is None
            return slot.table

    def _fill(self, most: int, frame_bytes: int, read: Callable[[int], FrameTable]) -> FrameTable | None:
        reserved = most * frame_bytes
        with self._lock:
            if self.used_bytes + reserved > self.limit_bytes:
                return None
            self.used_bytes += reserved
        table: FrameTable | None = None
        # Damaged somewhere: clips elsewhere in the video are still good, and are read from the file.
        with suppress(UnreadableVideo):
            table = read(most)
        with self._lock:
            self.used_bytes -= reserved - (table.video_NxHxWx3.nbytes if table is not None else 0)
        return table
