"""Whole frames out of two fields, by FFmpeg's bwdif filter: as many as went in, each at its own time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from typing import NamedTuple

import av
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.frame import VideoFrame

from surgmotion_jax.data.container import Shown
from surgmotion_jax.data.look import Look


class _Ends(NamedTuple):
    """Where frames go into a graph and come out; the graph lives as long as they do."""

    graph: Graph
    source: FilterContext
    sink: FilterContext


def deinterlaced(frames: Iterator[Shown], look: Look, time_base: Fraction, first: bool) -> Iterator[Shown]:
    """Frames that follow one another, made whole out of themselves and their neighbours.

    Frames that are not interlaced pass as they are, unless the stream says that all are. A frame next to a damaged
    one is damaged. Unless the `first` frame is the first of its video, it is left out: its neighbour was not seen,
    and it would not be what decoding from the start shows.
    """
    made = _filtered(frames, look, time_base)
    return made if first else islice(made, 1, None)


def _filtered(frames: Iterator[Shown], look: Look, time_base: Fraction) -> Iterator[Shown]:
    ends: _Ends | None = None
    waiting: deque[Shown] = deque()
    before = True  # whether the frame before the one that comes out next is sound
    for item in frames:
        ends = ends or _graph(item.frame, look, time_base)
        waiting.append(item)
        for frame in _run(ends, item.frame):
            shown = waiting.popleft()
            after = waiting[0].sound if waiting else True
            yield Shown(shown.tick, frame, before and shown.sound and after)
            before = shown.sound
    for frame in _run(ends, None) if ends and waiting else ():
        shown = waiting.popleft()
        yield Shown(shown.tick, frame, before and shown.sound)
        before = shown.sound


def _graph(frame: VideoFrame, look: Look, time_base: Fraction) -> _Ends:
    graph = Graph()
    graph.threads = 1
    source = graph.add(
        "buffer",
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base={time_base}"
        f":colorspace={frame.colorspace}:range={frame.color_range}",
    )
    which = "all" if look.fields_from == "stream" else "interlaced"
    sink = graph.add("buffersink")
    graph.link_nodes(source, graph.add("bwdif", f"mode=send_frame:parity=auto:deint={which}"), sink).configure()
    return _Ends(graph, source, sink)


def _run(ends: _Ends, frame: VideoFrame | None) -> Iterator[VideoFrame]:
    ends.source.push(frame)
    while True:
        try:
            made = ends.sink.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        assert isinstance(made, VideoFrame)
        yield made
