"""A place in an open video that moves forward frame by frame, or jumps to a keyframe."""

from __future__ import annotations

from collections.abc import Iterator

import av

from surgmotion_jax.data.container import Passage, Shown, from_keyframe, open_video, stamped_frames
from surgmotion_jax.data.deinterlace import deinterlaced
from surgmotion_jax.data.look import Look
from surgmotion_jax.data.media import Limits, Take, UnreadableVideo, VideoInfo

_LONG_GAP_S = 10.0
"""Without an index, seek over gaps longer than this: the usual longest distance between keyframes."""


class Cursor:
    """Reads one take of a video.

    `_held` is the frame last passed, `_pending` the next one: a time belongs to the held frame only once the pending
    one is known to be later. `whole` says that frames are made whole out of two fields.
    """

    def __init__(self, info: VideoInfo, limits: Limits, seek: bool, whole: bool) -> None:
        assert info.look is not None
        self._info, self._limits, self._seek, self._whole = info, limits, seek, whole
        self._look: Look = info.look
        self._take: Take | None = info.takes[0] if info.takes else None
        self._step = max(1, round(1 / (info.fps * float(info.time_base))))
        self._second = max(1, round(1 / float(info.time_base)))
        self._open()
        if seek and "matroska" in self._container.format.name:
            # Matroska reads its table of keyframes on the first seek.
            self._container.seek(info.origin, stream=self._stream)
            self._restart()

    def _open(self) -> None:
        """Opens the file at the beginning of the take."""
        self._container, self._stream = open_video(self._info.path, self._limits, self._look.strict)
        if self._take:
            self._container.seek(self._take.keyframes[0][1], unsupported_byte_offset=True)
        self._restart()

    def _restart(self, jumped: bool = False, first: int | None = None) -> None:
        """Forgets all frames. The container has been sent to the beginning or, `jumped`, to another keyframe.

        Of a take the keyframe is known, and `first` is its tick.
        """
        first, end = (first or self._info.origin, self._take.end) if self._take else (None, None)
        recheck = self._limits.recheck and self._look.strict
        passage = Passage((self._look.columns, self._look.rows), first, end, jumped, recheck)
        frames = stamped_frames(self._info.path, self._container, self._stream, self._limits, passage)
        if jumped:
            frames = from_keyframe(frames)
        if self._whole:
            frames = deinterlaced(frames, self._look, self._info.time_base, first=not jumped)
        self._source = frames
        self._held: Shown | None = None
        self._pending: Shown | None = None
        self._started = False

    def close(self) -> None:
        self._container.close()

    def rest(self) -> Iterator[Shown]:
        """Every frame from here to the end."""
        return self._source

    def at(self, tick: int) -> Shown:
        """The frame on display at `tick`, with its own tick. Ticks must be asked for in ascending order."""
        if self._seek and self._worth_jumping(tick):
            self._jump(tick)
        if not self._started:
            self._advance()
        while self._pending is not None and self._pending.tick <= tick:
            self._advance()
        shown = self._held or self._pending
        if shown is None:
            raise UnreadableVideo(self._info.path, "no frame could be decoded")
        if self._pending is None:
            self.check_end(tick, shown)
        return shown

    def _advance(self) -> None:
        if self._pending is not None:
            self._held = self._pending
        self._pending = next(self._source, None)
        self._started = True

    def check_end(self, tick: int, shown: Shown) -> None:
        """Refuses to repeat the last frame of a file that ends well before it was found to end."""
        if tick > shown.tick + max(self._step, shown.frame.duration or 0) + self._second:
            second = (shown.tick - self._info.origin) / self._second
            raise UnreadableVideo(
                self._info.path, f"no frame after {second:.1f} s in a video of {self._info.duration_s:.1f} s"
            )

    def _worth_jumping(self, tick: int) -> bool:
        """Whether a keyframe lies between here and `tick`, so that the frames before it need no decoding."""
        here = self._pending.tick if self._pending is not None else self._info.origin
        if self._take:
            return self._keyframe_before(tick)[0] > here
        index = self._stream.index_entries
        # The index counts in decoding time, which runs ahead of display time by a few reordered frames.
        margin = 4 * self._step if self._stream.codec_context.has_b_frames else 0
        entry = index.search_timestamp(tick - margin, backward=True) if len(index) else -1
        if entry >= 0 and index[entry].timestamp > here:
            return True
        covered = len(index) > 1 and index[len(index) - 1].timestamp >= tick - margin - self._step
        return not covered and tick - here > _LONG_GAP_S * self._second

    def _keyframe_before(self, tick: int) -> tuple[int, int]:
        assert self._take is not None
        return max((key for key in self._take.keyframes if key[0] < tick), default=self._take.keyframes[0])

    def _jump(self, tick: int) -> None:
        """Moves to a keyframe displayed no later than `tick`; failing that, back to the start of the take."""
        back = 0
        while tick - back > self._info.origin:
            if self._take and self._keyframe_before(tick - back)[0] == self._info.origin:
                break
            try:
                first = self._seek_to(tick - back)
            except av.FFmpegError:
                break
            self._restart(jumped=True, first=first)
            self._advance()
            if self._pending is not None and self._pending.tick <= tick:
                return
            back = max(2 * back, self._second)
        self._container.close()
        self._open()

    def _seek_to(self, tick: int) -> int | None:
        """Sends the container to a keyframe before `tick`; the keyframe's own tick, where that is known."""
        if not self._take:
            self._container.seek(tick, stream=self._stream)
            return None
        first, position = self._keyframe_before(tick)
        self._container.seek(position, unsupported_byte_offset=True)
        return first
