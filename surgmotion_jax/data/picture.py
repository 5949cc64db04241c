"""What a picture is: upright, with square pixels, in RGB. The one step between the decoder and everything else.

`look_of` finds out how a stream stores its pictures, `Normaliser` undoes it. Whole frames out of two fields are made
before, by `deinterlace`. Letters: H rows and W columns as displayed.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import cast

import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from surgmotion_jax.data.look import UPRIGHT, Look, Turn
from surgmotion_jax.data.media import UnreadableVideo

HD_ROWS = 720
"""Pictures without a colour tag follow BT.709 from this many stored rows up, BT.601 below: what recorders do."""

# FFmpeg's numbers (AVColorSpace, AVColorTransferCharacteristic, AVFieldOrder).
_UNTAGGED = (0, 2, 3)  # RGB (wrong for luma and colour differences), unspecified, reserved
_BT709 = 1
_MATRICES = {1: "BT.709", 4: "FCC", 5: "BT.601", 6: "BT.601", 7: "SMPTE 240M", 9: "BT.2020"}
_HIGH_DYNAMIC_RANGE = {16: "PQ (SMPTE ST 2084, HDR10)", 18: "HLG (ARIB STD-B67)"}
_INTERLACED_ORDERS = (2, 3, 4, 5)

_ASPECTS = (Fraction(1, 4), Fraction(4))
"""Pixel aspect ratios beyond these are mistakes of a header: the widest in use is 2, the narrowest 1/2."""

_FIELDS_UNMARKED = ("mjpeg", "rawvideo", "ffv1", "huffyuv", "ffvhuff", "v210", "jpeg2000")
"""Codecs whose frames do not say whether they are interlaced: what the container says holds for all."""


def look_of(path: str, stream: VideoStream, frame: VideoFrame, strict: bool, interlaced: bool) -> Look:
    """How a stream stores its pictures, from its header and its first frame.

    Args:
        path: for messages.
        stream: open.
        frame: its first.
        strict: whether the decoder is.
        interlaced: whether any of the frames seen so far is.

    Raises:
        UnreadableVideo: high dynamic range, a colour matrix that nobody here can undo, a turn by less than 90 degrees,
            or fields that are stored as pictures of their own.
    """
    _check_transfer(path, frame)
    tagged = frame.format.is_rgb or frame.colorspace not in _UNTAGGED
    aspect = stream.sample_aspect_ratio or Fraction(1)
    credible = _ASPECTS[0] <= aspect <= _ASPECTS[1]
    by_stream = not interlaced and _stream_says_interlaced(stream)
    if interlaced and stream.codec_context.name == "hevc":
        # One picture a field, of half the height: FFmpeg does not join them.
        raise UnreadableVideo(path, "interlaced HEVC, whose fields are pictures of their own; convert it to H.264")
    return Look(
        rows=frame.height,
        columns=frame.width,
        pixel_aspect=aspect if credible else Fraction(1),
        ignored_aspect=None if credible else aspect,
        turn=_turn_of(path, frame),
        matrix=_matrix_of(path, frame) if tagged else ("BT.709" if frame.height >= HD_ROWS else "BT.601"),
        tagged=tagged,
        full_range=frame.format.is_rgb or frame.color_range == ColorRange.JPEG,
        interlaced=interlaced or by_stream,
        fields_from="stream" if by_stream else "frames",
        strict=strict,
    )


class Normaliser:
    """Decoded frames to RGB as displayed, at one size.

    Scaling, the pixel aspect ratio and the colours are one call of swscale, whose context serves all frames of a read:
    making one costs more than a frame.
    """

    def __init__(self, path: str, look: Look, height: int, width: int) -> None:
        self._path, self._look, self._scaler = path, look, VideoReformatter()
        self._height, self._width = (width, height) if look.turn.swapped else (height, width)

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        """uint8 [H, W, 3]."""
        _check_transfer(self._path, frame)
        untagged = not frame.format.is_rgb and frame.colorspace in _UNTAGGED
        small = self._scaler.reformat(
            frame,
            self._width,
            self._height,
            "rgb24",
            # Left alone, swscale takes what is untagged for BT.601.
            src_colorspace=Colorspace.ITU709 if untagged and self._look.rows >= HD_ROWS else None,
            interpolation="BILINEAR",
            threads=1,
        )
        return self._look.turn.apply(small.to_ndarray())


def _check_transfer(path: str, frame: VideoFrame) -> None:
    if frame.color_trc in _HIGH_DYNAMIC_RANGE:
        raise UnreadableVideo(
            path,
            f"high dynamic range, {_HIGH_DYNAMIC_RANGE[frame.color_trc]}: shown as it is, its colours are wrong; "
            "convert it to BT.709 with a tone-mapping program",
        )


def _matrix_of(path: str, frame: VideoFrame) -> str:
    if frame.format.is_rgb:
        return "RGB"
    if frame.colorspace not in _MATRICES:
        allowed = ", ".join(dict.fromkeys(_MATRICES.values()))
        raise UnreadableVideo(
            path, f"colours by matrix number {frame.colorspace} of H.273; allowed are {allowed}: convert it"
        )
    return _MATRICES[frame.colorspace]


def _stream_says_interlaced(stream: VideoStream) -> bool:
    context = stream.codec_context
    return context.name in _FIELDS_UNMARKED and context.field_order in _INTERLACED_ORDERS


def _turn_of(path: str, frame: VideoFrame) -> Turn:
    """The turn that the display matrix asks for: (x, y) is shown at (a x + c y, b x + d y), up to a shift."""
    # PyAV's own annotation names one kind of side data out of many.
    stored = cast(SideDataContainer, frame.side_data).get(Type.DISPLAYMATRIX)
    if stored is None:
        return UPRIGHT
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(stored))
    if max(abs(b), abs(c)) <= 0.01 * min(abs(a), abs(d)):
        return Turn(False, d < 0, a < 0)
    if max(abs(a), abs(d)) <= 0.01 * min(abs(b), abs(c)):
        return Turn(True, b < 0, c < 0)
    if not any((a, b, c, d)):
        return UPRIGHT
    raise UnreadableVideo(
        path, f"its display matrix turns pictures by {frame.rotation} degrees; allowed are multiples of 90: convert it"
    )
