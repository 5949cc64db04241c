"""Drawings of an evaluation as inline SVG and pictures: phase ribbons, curves, scatter, overlays.

Letters: N moments or points, S side of a picture.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np

from surgmotion_jax.evaluate.metrics.segments import segments
from surgmotion_jax.evaluate.overlays import Pictures
from surgmotion_jax.report.axis import fit_axis, format_number
from surgmotion_jax.report.html import escape
from surgmotion_jax.report.pictures import heat_colours, jpeg_uri

RIBBON_WIDTH, RIBBON_HEIGHT = 752, 14
SIDE, MARGIN = 260, 34
ENLARGED = 160  # pixels of the side of an overlay on the page
PICTURE_BYTES = 30_000


def colour(number: int, classes: int) -> str:
    """A colour of its own for each class; neighbours differ in hue and lightness."""
    red, green, blue = colorsys.hls_to_rgb(number / max(classes, 1), 0.42 if number % 2 else 0.6, 0.62)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def ribbons(truth_N: np.ndarray, predicted_N: np.ndarray, names: Sequence[str], title: str) -> str:
    """Ground truth above prediction, a rectangle a segment."""
    rows = "".join(_ribbon(labels_N, y, names) for labels_N, y in ((truth_N, 0), (predicted_N, RIBBON_HEIGHT + 4)))
    box = f"0 0 {RIBBON_WIDTH} {2 * RIBBON_HEIGHT + 4}"
    return f'<svg viewBox="{box}" role="img" aria-label="{escape(title)}: ground truth above prediction">{rows}</svg>'


def _ribbon(label_N: np.ndarray, y: int, names: Sequence[str]) -> str:
    scale = RIBBON_WIDTH / max(len(label_N), 1)
    return "".join(
        f'<rect x="{start * scale:.2f}" y="{y}" width="{(end - start) * scale:.2f}" height="{RIBBON_HEIGHT}" '
        f'fill="{colour(label, len(names))}"><title>{escape(names[label])}, {start} to {end - 1}</title></rect>'
        for label, start, end in segments(label_N)
    )


def legend(names: Sequence[str]) -> str:
    """Class names beside their colours."""
    return "".join(
        f'<span class="key"><i style="border-color:{colour(number, len(names))}"></i>{escape(name)}</span> '
        for number, name in enumerate(names)
    )


def precision_recall(label_N: np.ndarray, score_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(recall, precision) at every distinct score, highest first; precision 1 at recall 0."""
    order = np.argsort(-score_N, kind="stable")
    hits_N = np.cumsum(label_N[order])
    last_N = np.append(np.diff(score_N[order]) != 0, True)
    hits, counts = hits_N[last_N], np.flatnonzero(last_N) + 1
    return np.append(0, hits / max(hits_N[-1], 1)), np.append(1, hits / counts)


def curve(recall_N: np.ndarray, precision_N: np.ndarray, title: str) -> str:
    """Precision over recall, both from 0 to 1."""
    x_N, y_N = MARGIN + recall_N * (SIDE - MARGIN), (1 - precision_N) * (SIDE - MARGIN)
    # Steps: between two thresholds the precision is that of the next one.
    path = "".join(f"{'M' if n == 0 else 'L'}{x:.1f},{y:.1f}" for n, (x, y) in enumerate(zip(x_N, y_N, strict=True)))
    return _plot(title, f'<path class="line" d="{path}"/>', ("0", "1"), ("0", "1"), "recall", "precision")


def scatter(truth_N: np.ndarray, predicted_N: np.ndarray, group_N: np.ndarray, title: str) -> str:
    """Predicted over true scores, a colour a group, on axes of one range with the line of agreement."""
    axis = fit_axis(np.concatenate([truth_N, predicted_N]), MARGIN, SIDE)
    x_N, y_N = axis.place(truth_N), SIDE - axis.place(predicted_N)
    points = "".join(
        f'<circle class="point c{int(group) % 5}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
        for x, y, group in zip(x_N, y_N, group_N, strict=True)
    )
    line = f'<line class="limit" x1="{MARGIN}" y1="{SIDE - MARGIN}" x2="{SIDE}" y2="0"/>'
    ends = (format_number(axis.low, 3), format_number(axis.high, 3))
    return _plot(title, line + points, ends, ends, "true score", "predicted score")


def _plot(title: str, inner: str, x_ends: Sequence[str], y_ends: Sequence[str], x_name: str, y_name: str) -> str:
    bottom = SIDE - MARGIN
    frame = (
        f'<line class="base" x1="{MARGIN}" x2="{SIDE}" y1="{bottom}" y2="{bottom}"/>'
        f'<line class="base" x1="{MARGIN}" x2="{MARGIN}" y1="0" y2="{bottom}"/>'
        f'<text x="{MARGIN}" y="{bottom + 14}">{escape(x_ends[0])}</text>'
        f'<text x="{SIDE}" y="{bottom + 14}" text-anchor="end">{escape(x_ends[1])}</text>'
        f'<text x="{(SIDE + MARGIN) / 2}" y="{bottom + 28}" text-anchor="middle">{escape(x_name)}</text>'
        f'<text x="{MARGIN - 4}" y="{bottom}" text-anchor="end">{escape(y_ends[0])}</text>'
        f'<text x="{MARGIN - 4}" y="10" text-anchor="end">{escape(y_ends[1])}</text>'
    )
    label = f"{escape(title)}: {escape(y_name)} over {escape(x_name)}"
    drawing = f'<svg viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="{label}">{frame}<g class="c0">{inner}</g></svg>'
    return (
        f'<figure class="chart"><figcaption><b>{escape(title)}<span>{y_name}</span></b></figcaption>{drawing}</figure>'
    )


def overlays(pictures: Pictures, depth: bool) -> str:
    """Frame, truth and prediction of each image side by side."""
    parts = []
    for number, name in enumerate(pictures.names_K):
        frame, known = pictures.frame_KxSxSx3[number], pictures.known_KxSxS[number]
        truth, predicted = pictures.truth_KxSxS[number], pictures.predicted_KxSxS[number]
        if depth:
            shown = np.concatenate([truth[known], predicted[known]])
            low, high = (float(shown.min()), float(shown.max())) if shown.size else (0.0, 1.0)
            views = [_depth(truth, known, low, high), _depth(predicted, np.ones_like(known), low, high)]
        else:
            views = [_tinted(frame, truth > 0.5), _tinted(frame, predicted >= 0.5)]
        images = "".join(
            f'<img src="{jpeg_uri(view, PICTURE_BYTES)}" width="{ENLARGED}" height="{ENLARGED}" alt="{what}">'
            for what, view in zip(("frame", "truth", "prediction"), (frame, *views), strict=True)
        )
        parts.append(f"<h3>{escape(name)}<span>frame, truth, prediction</span></h3><div>{images}</div>")
    return "".join(parts)


def _tinted(frame_SxSx3: np.ndarray, mask_SxS: np.ndarray) -> np.ndarray:
    tint = np.array([56, 232, 255])
    return np.where(mask_SxS[..., None], 0.5 * frame_SxSx3 + 0.5 * tint, 0.75 * frame_SxSx3).astype(np.uint8)


def _depth(depth_SxS: np.ndarray, known_SxS: np.ndarray, low: float, high: float) -> np.ndarray:
    level = np.clip((depth_SxS - low) / max(high - low, 1e-9), 0, 1)
    return np.where(known_SxS[..., None], heat_colours(level), 118).astype(np.uint8)
