"""A decoder beside the one that pictures come from, which shows how their data are read."""

from __future__ import annotations

from typing import cast

from av.codec.context import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream


def second_decoder(codec: str, head: bytes, most_pixels: int, **options: str) -> VideoCodecContext:
    """For a stream that its container describes by `head`. Its pictures are not smoothed."""
    decoder = cast(VideoCodecContext, CodecContext.create(codec, "r"))
    decoder.extradata, decoder.thread_count = head, 1
    decoder.options = {"skip_loop_filter": "all", "max_pixels": str(most_pixels), **options}
    return decoder


def new_head(packet: Packet[VideoStream]) -> bytes | None:
    """The description of the stream from a packet on, where it changes with it."""
    return bytes(packet.get_sidedata("new_extradata")) if packet.has_sidedata("new_extradata") else None
