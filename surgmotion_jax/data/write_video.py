"""Writes H.264 video, frame by frame; the file appears under its name only when it is whole."""

from __future__ import annotations

import os
from fractions import Fraction
from types import TracebackType

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream

from surgmotion_jax import storage

_LIMITED_RANGE, _BT601 = 1, 6  # FFmpeg's AVCOL_RANGE_MPEG and AVCOL_SPC_SMPTE170M
_COARSEST_CRF = 51


class VideoWriter:
    """A context manager that takes uint8 RGB frames at a steady rate and publishes an mp4 when it is left.

    The file is written beside its place and renamed once complete: left by an exception, or killed, it leaves
    an earlier file as it was. The encoder does not always give the same bytes for the same frames. Only local paths.

      with VideoWriter("clip.mp4", fps=25) as writer:
          writer.add(frame_HxWx3)

    Raises ValueError for a path that is remote or not .mp4, a rate or `crf` out of range, and on leaving
    without a frame; `add` for a frame of another dtype or shape than allowed; OSError where the folder
    cannot be written.
    """

    def __init__(self, path: storage.PathLike, fps: float, crf: float = 18) -> None:
        """`fps` in frames a second; `crf` is x264's quality, 0 (lossless) to 51, of which 18 looks like the source."""
        name = os.fspath(path)
        if not storage.is_local(path) or not name.lower().endswith(".mp4"):
            raise ValueError(f"{name}: video is written to local .mp4 files; choose such a path and copy it from there")
        if not 0 < fps <= 1000 or not 0 <= crf <= _COARSEST_CRF:
            raise ValueError(
                f"{name}: found fps={fps}, crf={crf}; allowed are 0 < fps <= 1000 and 0 <= crf <= {_COARSEST_CRF}"
            )
        self._draft = storage.Draft(path, ".mp4")
        self._target = self._draft.target
        self._rate, self._crf = Fraction(fps).limit_denominator(10_000), crf
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._count = 0

    def __enter__(self) -> VideoWriter:
        self._container = av.open(str(self._draft.__enter__()), "w", options={"movflags": "faststart"})
        return self

    def add(self, frame_HxWx3: np.ndarray) -> None:
        """Appends a frame: uint8 [H, W, 3] RGB, even height and width, all of one size."""
        container = self._container
        if container is None:
            raise ValueError(f"{self._target}: not open; use VideoWriter in a with statement")
        self._check(frame_HxWx3)
        if self._stream is None:
            self._stream = self._open_stream(container, *frame_HxWx3.shape[:2])
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HxWx3), "rgb24")
        frame.pts, frame.time_base = self._count, 1 / self._rate
        container.mux(self._stream.encode(frame))
        self._count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        container, self._container = self._container, None
        assert container is not None
        try:
            if kind is None and self._stream is None:
                raise ValueError(f"{self._target}: no frame was added, and a video needs at least one")
            if kind is None and self._stream is not None:
                container.mux(self._stream.encode())
                container.close()
                self._draft.publish()
        finally:
            container.close()
            self._draft.discard()

    def _open_stream(self, container: OutputContainer, height: int, width: int) -> VideoStream:
        stream = container.add_stream("libx264", rate=self._rate, options={"crf": f"{self._crf:g}"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        context = stream.codec_context
        context.time_base = 1 / self._rate
        context.thread_count = 1  # x264 cuts frames by the number of threads
        # Untagged, players guess the colour matrix from the height.
        context.colorspace, context.color_range = _BT601, _LIMITED_RANGE
        return stream

    def _check(self, frame: np.ndarray) -> None:
        good = frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3
        if not good or frame.shape[0] % 2 or frame.shape[1] % 2 or not frame.size:
            raise ValueError(
                f"{self._target}: frame {self._count} is {frame.dtype} {frame.shape}; allowed is uint8 [H, W, 3] "
                "with even H and W, which 4:2:0 video needs: crop or pad it by a row or column"
            )
        stream = self._stream
        if stream is not None and frame.shape[:2] != (stream.height, stream.width):
            raise ValueError(
                f"{self._target}: frame {self._count} has {frame.shape[0]} x {frame.shape[1]} pixels (rows x columns), "
                f"the first had {stream.height} x {stream.width}; a video has one size"
            )
