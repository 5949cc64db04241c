"""The clips section: for each held-out clip its frames, and below them what the method saw in them.

Letters: B clips, T frames, H, W pixels, t tubelets, gh, gw rows and columns of the patch grid, h, w pixels
of a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from surgmotion_jax.report import pictures
from surgmotion_jax.report.axis import format_number
from surgmotion_jax.report.html import Section, escape, sentence
from surgmotion_jax.report.run import SNAPSHOT, RunRecord
from surgmotion_jax.report.snapshot import Snapshot

FRAME_WIDTH = 176
# All pictures together; base64 adds a third, which keeps the page under 3 MB.
MOST_PICTURE_BYTES = 1_900_000
_ROWS_AT_MOST = 5

Paint = Callable[[int, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Row:
    """One strip: a label, its explanation (escaped HTML), and what it makes of each frame."""

    label: str
    legend_html: str
    paint: Paint


def clips(run: RunRecord) -> Section:
    """Frames, motion score, masks and features of the held-out clips kept aside."""
    shot = run.snapshot
    if shot is None:
        reason = run.problems.get(SNAPSHOT, "")
        return Section("Clips", sentence(f"No clips to show. {reason}"))
    frames = pictures.shown_frames(shot.video_BxTxHxWx3.shape[1], shot.tubelet)
    colours = None
    if shot.features_BxtxghxgwxD is not None:
        colours = pictures.feature_colours(shot.features_BxtxghxgwxD, shot.fov_Bxghxgw)
    count = shot.video_BxTxHxWx3.shape[0]
    rows_B = [list(_rows(shot, clip, colours)) for clip in range(count)]
    budget = MOST_PICTURE_BYTES // (count * len(frames) * _ROWS_AT_MOST)
    strips = "".join(_clip(shot, clip, rows, frames, budget) for clip, rows in enumerate(rows_B))
    legend = "".join(f"<dt>{escape(row.label)}</dt><dd>{row.legend_html}</dd>" for row in rows_B[0])
    notes = "".join(sentence(note) for note in shot.notes)
    return Section("Clips", f'{_intro(shot)}{notes}<dl class="legend">{legend}</dl>{strips}')


def _intro(shot: Snapshot) -> str:
    count, frames, height, width = shot.video_BxTxHxWx3.shape[:4]
    number = f"{count} of {shot.clips_kept}" if shot.clips_kept > count else str(count)
    when = f" at step {shot.step:,}" if shot.step >= 0 else ""
    rate = f" at {shot.fps:.3g} frames per second" if shot.fps > 0 else ""
    noun = "clip" if shot.clips_kept == 1 else "clips"
    return sentence(
        f"{number} held-out {noun} as the model saw them{when}: {frames} frames of {width} by {height} pixels{rate}, "
        f"patches of {shot.patch} pixels, tubelets of {shot.tubelet} frames."
    )


def _rows(shot: Snapshot, clip: int, colours_Bxtxghxgwx3: np.ndarray | None) -> Iterator[Row]:
    yield Row("Frames", "The input, after cropping.", lambda _, picture: picture)
    if shot.saliency_Bxghxgw is not None:
        yield _score_row(shot, clip, shot.saliency_Bxghxgw[clip])
    if shot.target_Bxtxghxgw is not None:
        yield _mask_row(shot, clip, shot.target_Bxtxghxgw[clip])
    if shot.error_Bxtxghxgw is not None:
        yield _error_row(shot, shot.error_Bxtxghxgw[clip])
    if colours_Bxtxghxgwx3 is not None:
        yield _feature_row(shot, colours_Bxtxghxgwx3[clip])


def _score_row(shot: Snapshot, clip: int, score_ghxgw: np.ndarray) -> Row:
    everywhere = np.ones(score_ghxgw.shape, bool)
    fov_ghxgw = everywhere if shot.fov_Bxghxgw is None else shot.fov_Bxghxgw[clip]
    top_ghxgw = ~everywhere if shot.top_Bxghxgw is None else shot.top_Bxghxgw[clip]
    level_ghxgw = pictures.spread(score_ghxgw, fov_ghxgw)

    def paint(_: int, picture: np.ndarray) -> np.ndarray:
        heated = pictures.lay_heat(picture, level_ghxgw, fov_ghxgw)
        return pictures.outline_cells(pictures.outline_region(heated, fov_ghxgw), top_ghxgw)

    return Row(
        "Motion score",
        f"How much a tube changes in time and differs from its neighbours, {_ramp()} "
        "scaled per clip. " + _fov_legend(shot) + _top_legend(shot),
        paint,
    )


def _mask_row(shot: Snapshot, clip: int, target_txghxgw: np.ndarray) -> Row:
    def paint(frame: int, picture: np.ndarray) -> np.ndarray:
        return pictures.dim(picture, target_txghxgw[frame // shot.tubelet])

    swatch = _swatch(pictures.MASKED_COLOUR)
    legend = f"{swatch}Hidden from the encoder, to be predicted (first mask set); the rest is its context."
    return Row("Masked", legend, paint)


def _error_row(shot: Snapshot, error_txghxgw: np.ndarray) -> Row:
    known_txghxgw = np.isfinite(error_txghxgw)
    level_txghxgw = pictures.spread(error_txghxgw, known_txghxgw, percent=1)

    def paint(frame: int, picture: np.ndarray) -> np.ndarray:
        tubelet = frame // shot.tubelet
        faint = pictures.dim(picture, ~known_txghxgw[tubelet])
        return pictures.lay_cells(faint, level_txghxgw[tubelet], known_txghxgw[tubelet])

    return Row(
        "Error",
        f"L1 of the prediction for each masked token, {_ramp()} scaled per clip; grey is not predicted.",
        paint,
    )


def _feature_row(shot: Snapshot, colour_txghxgwx3: np.ndarray) -> Row:
    def paint(frame: int, picture: np.ndarray) -> np.ndarray:
        return pictures.colour_picture(colour_txghxgwx3[frame // shot.tubelet], picture.shape)

    legend = (
        "Features of the EMA encoder: their first three principal components as red, green and blue, one basis for "
        "all clips. Parts in the same colour look alike to the model."
    )
    return Row("Features", legend, paint)


def _clip(shot: Snapshot, clip: int, rows: list[Row], frames: list[int], budget: int) -> str:
    origin = shot.origin[clip] if clip < len(shot.origin) else ""
    title = f"<h3>Clip {clip + 1}<span>{escape(origin)}</span></h3>"
    small = [pictures.shrink(shot.video_BxTxHxWx3[clip, frame], FRAME_WIDTH) for frame in frames]
    times = "".join(f"<span>{_moment(shot, frame)}</span>" for frame in frames)
    strips = f'<div class="label"></div><div class="cells times">{times}</div>'
    for row in rows:
        images = "".join(
            f'<img alt="" src="{pictures.jpeg_uri(row.paint(frame, picture), budget)}">'
            for frame, picture in zip(frames, small, strict=True)
        )
        told = escape(f"{row.label} of clip {clip + 1}, {len(frames)} moments")
        strips += f'<div class="label">{escape(row.label)}</div>'
        strips += f'<div class="cells" role="img" aria-label="{told}">{images}</div>'
    return f'<div class="clip">{title}<div class="scroll"><div class="strip">{strips}</div></div></div>'


def _moment(shot: Snapshot, frame: int) -> str:
    return f"{frame / shot.fps:.1f} s" if shot.fps > 0 else f"frame {frame}"


def _ramp() -> str:
    stops = ",".join(_hex(stop) for stop in pictures.HEAT_STOPS)
    return f'low<span class="ramp" style="background:linear-gradient(90deg,{stops})"></span>high,'


def _swatch(colour: tuple[int, int, int]) -> str:
    code = _hex(colour)
    return f'<span class="swatch" style="border-color:{code};background:{code}33"></span>'


def _hex(colour: tuple[int, int, int]) -> str:
    return "#" + bytes(colour).hex()


def _fov_legend(shot: Snapshot) -> str:
    if shot.fov_Bxghxgw is None:
        return ""
    if shot.fov_Bxghxgw.all():
        return "The field of view fills every frame. "
    percent = 100 * float(shot.fov_Bxghxgw.mean())
    return f"White line: the field of view ({percent:.0f} % of the tubes shown); nothing outside it counts. "


def _top_legend(shot: Snapshot) -> str:
    if shot.top_Bxghxgw is None:
        return ""
    count = format_number(float(shot.top_Bxghxgw.sum(axis=(1, 2)).max()), 1)
    return (
        f"{_swatch(pictures.TOP_COLOUR)}The {count} masked tubes with the highest score, which the motion loss weighs."
    )
