"""Pictures for people: frames with their truth drawn beside and over them, and a sheet of a whole data set."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from surgmotion_jax import storage
from surgmotion_jax.simulate.case import Frame, triplet_ids
from surgmotion_jax.simulate.layouts.layout import SimulatedCase
from surgmotion_jax.simulate.render import build_scene, render

PREVIEW_FRAMES = 5

_OUTLINES = ((64, 224, 255), (255, 224, 64), (255, 96, 224), (128, 255, 96))  # by slot
_LESION = (96, 255, 128)
_DEPTH = np.array([(253, 231, 37), (94, 201, 98), (33, 145, 140), (59, 82, 139), (68, 1, 84)], np.float32)
_CAPTION_ROWS = 16  # height of one line of text


def write_preview(cases: Sequence[SimulatedCase], path: Path) -> None:
    """A JPEG of a few frames with their labels and truth drawn on: of the first case, or one each of the first cases
    where whole cases are labelled."""
    if cases[0].plan.label is None:
        frames = cases[0].script.frames
        shown = [(cases[0], (2 * n + 1) * frames // (2 * PREVIEW_FRAMES)) for n in range(min(PREVIEW_FRAMES, frames))]
    else:
        shown = [(case, case.script.frames // 2) for case in cases[:PREVIEW_FRAMES]]
    file = io.BytesIO()
    sheet = contact_sheet(list(draw_frames(shown)), [caption(case, number) for case, number in shown])
    Image.fromarray(sheet).save(file, "JPEG", quality=85)
    storage.write_bytes_atomic(path, file.getvalue())


def draw_frames(shown: Sequence[tuple[SimulatedCase, int]]) -> Iterator[Frame]:
    """Single frames of cases; those of one case share its scene."""
    scene = None
    for case, number in shown:
        if scene is None or scene.script is not case.script:
            scene = build_scene(case.script)
        yield from render(case.script, number, number + 1, scene=scene)


def caption(case: SimulatedCase, frame: int) -> str:
    """What the labels say of one frame."""
    label = "" if case.plan.label is None else f", label {case.plan.label}"
    triplets = ", ".join(map(str, triplet_ids(case.script, frame))) or "none"
    return f"{case.id}{label} at {frame / case.fps:.1f} s\nphase {case.script.phase_T[frame]}, triplets {triplets}"


def contact_sheet(frames: Sequence[Frame], captions: Sequence[str]) -> np.ndarray:
    """uint8 picture, a column a frame: as recorded with outlines and tips, depth, flow, and its caption below.

    Depth goes from yellow (near) to violet (far) over each frame's own range. Flow has its direction as hue and its
    length, against the longest of the sheet, as strength.

    Raises:
        ValueError: without frames, or with another number of captions.
    """
    if not frames or len(frames) != len(captions):
        raise ValueError(
            f"{len(frames)} frames and {len(captions)} captions; give one caption to each frame, at least one"
        )
    longest = max(
        (float(np.linalg.norm(f.flow_HxWx2, axis=-1).max()) for f in frames if f.flow_HxWx2 is not None), default=0
    )
    lines = max(len(_lines(caption, frames[0])) for caption in captions)
    columns = []
    for frame, caption in zip(frames, captions, strict=True):
        pictures = [outlined(frame), depth_colours(frame), flow_colours(frame, longest)]
        columns.append(np.concatenate([*pictures, _text(caption, frame, lines)]))
    return np.concatenate(columns, axis=1)


def outlined(frame: Frame) -> np.ndarray:
    """uint8 [H, W, 3]: the frame with outlines of instruments (a colour a slot) and lesion, and crosses at the tips."""
    picture = frame.video_HxWx3.copy()
    for slot in range(len(frame.tip_Mx2)):
        picture[_edge(frame.instrument_HxW == slot + 1)] = _OUTLINES[slot % len(_OUTLINES)]
    picture[_edge(frame.lesion_HxW)] = _LESION
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    for slot, (x, y) in enumerate(frame.tip_Mx2.tolist()):
        if np.isfinite(x):
            for dx, dy in ((4, 0), (0, 4)):
                pen.line((x - dx, y - dy, x + dx, y + dy), fill=_OUTLINES[slot % len(_OUTLINES)])
    return np.asarray(image)


def depth_colours(frame: Frame) -> np.ndarray:
    """uint8 [H, W, 3]: near yellow, far violet, none black."""
    known = frame.depth_HxW > 0
    if not known.any():
        return np.zeros_like(frame.video_HxWx3)
    low, high = np.percentile(frame.depth_HxW[known], [1, 99])
    share = np.clip((frame.depth_HxW - low) / max(high - low, 1e-6), 0, 1) * (len(_DEPTH) - 1)
    step = np.minimum(share.astype(np.int64), len(_DEPTH) - 2)
    between = (share - step)[..., None]
    colours = _DEPTH[step] * (1 - between) + _DEPTH[step + 1] * between
    return np.where(known[..., None], colours, 0).astype(np.uint8)


def flow_colours(frame: Frame, longest: float) -> np.ndarray:
    """uint8 [H, W, 3]: direction as hue, length over `longest` pixels as strength; white where nothing moves.

    Occluded pixels are darker; the last frame of a case, which has no flow, is grey.
    """
    if frame.flow_HxWx2 is None or frame.occluded_HxW is None:
        return np.full_like(frame.video_HxWx3, 96)
    right, down = frame.flow_HxWx2[..., 0], frame.flow_HxWx2[..., 1]
    hue = (np.arctan2(down, right) / (2 * np.pi) + 0.5)[..., None]
    # Short motions would be invisible beside a fast instrument: the root lifts them.
    strength = np.sqrt(np.clip(np.hypot(right, down) / max(longest, 1e-6), 0, 1))[..., None]
    wheel = np.clip(np.abs(np.mod(hue * 6 + np.array([0, 4, 2]), 6) - 3) - 1, 0, 1)
    colours = 255 * (1 - strength * (1 - wheel))
    colours = np.where(frame.occluded_HxW[..., None], 0.6 * colours, colours)
    return np.where((frame.depth_HxW > 0)[..., None], colours, 0).astype(np.uint8)


def _edge(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask with a neighbour outside it."""
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _lines(caption: str, frame: Frame) -> list[str]:
    """The caption in lines that fit under the frame."""
    room = max(8, frame.video_HxWx3.shape[1] // 7)
    lines: list[str] = []
    for paragraph in caption.split("\n"):
        line = ""
        for word in paragraph.split():
            if line and len(line) + 1 + len(word) > room:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}".strip()
        lines.append(line)
    return lines


def _text(caption: str, frame: Frame, lines: int) -> np.ndarray:
    image = Image.new("RGB", (frame.video_HxWx3.shape[1], lines * _CAPTION_ROWS + 6), (18, 18, 20))
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    for row, line in enumerate(_lines(caption, frame)):
        pen.text((5, 3 + row * _CAPTION_ROWS), line, fill=(232, 232, 232), font=font)
    return np.asarray(image)
