"""Recordings as recorders leave them: what is painted is known, and so is each way in which it is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import av.filter
import numpy as np
from av.video.stream import VideoStream

from surgmotion_jax.simulate.number_strip import paint_number

PATCHES = ((200, 50, 40), (30, 200, 30), (40, 60, 200), (180, 180, 180), (200, 160, 140))
RATE = 25

KR_KB = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
TAGS = {"bt601": 6, "bt709": 1, "bt2020": 9}
"""FFmpeg's numbers of the matrices."""


def painted(number: int, height: int = 96, width: int = 128) -> np.ndarray:
    """A picture with its number along the top, and patches of colour below."""
    picture = np.full((height, width, 3), 100, np.uint8)
    for index, colour in enumerate(PATCHES):
        picture[height // 2 :, index * width // len(PATCHES) : (index + 1) * width // len(PATCHES)] = colour
    return paint_number(picture, number)


def patches_of(picture: np.ndarray) -> np.ndarray:
    """The mean colour in the middle of each patch, [patches, 3]."""
    height, width = picture.shape[:2]
    row = slice(height * 5 // 8, height * 7 // 8)
    columns = [(2 * index + 1) * width // (2 * len(PATCHES)) for index in range(len(PATCHES))]
    return np.array([picture[row, column - 3 : column + 4].mean((0, 1)) for column in columns])


@dataclass(frozen=True)
class Storage:
    """How pictures are written."""

    codec: str = "libx264"
    options: Mapping[str, str] = field(default_factory=lambda: {"g": "10", "bf": "2", "crf": "10"})
    matrix: str = "bt601"
    full: bool = False
    tagged: bool = True  # with the matrix; full range is always said, as it cannot be read off otherwise
    pixel_aspect: Fraction = Fraction(1)
    turn: int = 0  # degrees to the left, by the display matrix
    fields: str = ""  # "tff" or "bff": flags each frame as interlaced
    rate: int = RATE
    first: int = 0  # number of frame times before the first frame
    transfer: int | None = None
    container: Mapping[str, str] = field(default_factory=dict)  # options of FFmpeg's writer


ORDINARY = Storage()


def write(path: Path, pictures: Sequence[np.ndarray], how: Storage = ORDINARY) -> Path:
    """Writes pictures, uint8 [H, W, 3] of even sizes, as they are to be stored."""
    with av.open(str(path), "w", container_options=dict(how.container)) as container:
        stream = container.add_stream(how.codec, rate=how.rate, options=dict(how.options))
        _describe(stream, pictures[0].shape, how)
        graph: av.filter.Graph | None = None
        for number, picture in enumerate(pictures):
            frame = _stored(picture, how)
            frame.pts, frame.time_base = how.first + number, Fraction(1, how.rate)
            if how.fields:
                graph = graph or _flagging(frame, how)
                graph.vpush(frame)
                frame = graph.vpull()
                frame.pict_type = 0  # the encoder chooses
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _flagging(frame: av.VideoFrame, how: Storage) -> av.filter.Graph:
    """What marks frames as interlaced, with the field that comes first."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    graph.link_nodes(source, graph.add("setfield", f"mode={how.fields}"), graph.add("buffersink")).configure()
    return graph


def woven(scenes: Sequence[np.ndarray], fields: str) -> list[np.ndarray]:
    """Interlaced frames of a scene at twice their rate: even rows of one moment, odd rows of the other."""
    frames = []
    for first, second in zip(scenes[0::2], scenes[1::2], strict=True):
        top, bottom = (first, second) if fields == "tff" else (second, first)
        frame = top.copy()
        frame[1::2] = bottom[1::2]
        frames.append(frame)
    return frames


def _describe(stream: VideoStream, shape: tuple[int, ...], how: Storage) -> None:
    stream.height, stream.width = shape[:2]
    stream.pix_fmt = "yuvj420p" if how.codec == "mjpeg" else "yuv420p"
    context = stream.codec_context
    context.time_base = Fraction(1, how.rate)
    if how.pixel_aspect != 1:
        context.sample_aspect_ratio = how.pixel_aspect
    if how.tagged:
        context.colorspace = TAGS[how.matrix]
    if how.tagged or how.full:
        context.color_range = 2 if how.full else 1
    if how.transfer is not None:
        context.color_trc = how.transfer
    if how.turn:
        stream.set_display_rotation(how.turn)


def _stored(picture: np.ndarray, how: Storage) -> av.VideoFrame:
    """Converted here and not by FFmpeg, which the reader uses for the way back."""
    red, green, blue = np.moveaxis(picture.astype(np.float64) / 255, 2, 0)
    kr, kb = KR_KB[how.matrix]
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    differences = ((blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr)))
    low, span, reach = (0, 255, 255) if how.full else (16, 219, 224)
    planes = [low + span * luma, *(128 + reach * _quartered(difference) for difference in differences)]
    height, width = picture.shape[:2]
    frame = av.VideoFrame(width, height, "yuvj420p" if how.codec == "mjpeg" else "yuv420p")
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((values.shape[0], plane.line_size), np.uint8)
        rows[:, : values.shape[1]] = np.clip(np.round(values), 0, 255)
        plane.update(rows.tobytes())
    if how.tagged:
        frame.colorspace = TAGS[how.matrix]
    if how.tagged or how.full:
        frame.color_range = 2 if how.full else 1
    if how.transfer is not None:
        frame.color_trc = how.transfer
    return frame


def _quartered(plane: np.ndarray) -> np.ndarray:
    height, width = plane.shape
    return plane.reshape(height // 2, 2, width // 2, 2).mean((1, 3))
