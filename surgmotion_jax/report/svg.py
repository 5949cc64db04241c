"""Line charts as inline SVG: thin axes, round ticks, gaps where a value is missing, event markers.

Letters: N points of one line. Coordinates keep two decimals, 1/100 of a drawing unit.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from surgmotion_jax.report.axis import Axis, fit_axis, format_number
from surgmotion_jax.report.html import escape
from surgmotion_jax.report.style import DRAWING, LIGHT

WIDTH, WIDE, HEIGHT = 360, 752, 206
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 20, 24
HEAD, LETTER = 44, 7  # above the drawing of a file, and the width of a letter in its legend
MOST_POINTS = 600
_DOTTED_UP_TO = 40
_LABELLED_MARKS = 3

Look = Literal["solid", "dash", "dot", "faint"]


@dataclass(frozen=True)
class Line:
    """One named line; `colour` 0 to 4. A faint line is drawn behind and has no legend entry."""

    label: str
    step_N: np.ndarray
    value_N: np.ndarray
    colour: int = 0
    look: Look = "solid"


@dataclass(frozen=True)
class Mark:
    """Something that happened at a step: a resume, or an alarm."""

    step: int
    label: str
    alarm: bool = False


@dataclass(frozen=True)
class Chart:
    """What a chart shows.

    `limit` is a (value, label) drawn across, such as a threshold; `steps` the range of the step axis, by default
    that of the lines; `digits` the significant digits of the legend's values; a `wide` chart takes two columns;
    `along` names what the other axis shows.
    """

    title: str
    lines: tuple[Line, ...]
    unit: str = ""
    log: bool = False
    limit: tuple[float, str] | None = None
    marks: tuple[Mark, ...] = ()
    steps: tuple[int, int] | None = None
    digits: int = 3
    wide: bool = False
    along: str = "step"

    @property
    def right(self) -> int:
        """Where the plotting area ends, in drawing units."""
        return (WIDE if self.wide else WIDTH) - RIGHT


def chart_figure(chart: Chart) -> str:
    """The chart under its title and legend; the legend gives the last finite value of each line.

    A wide chart is drawn twice, and the style sheet shows the one that suits the screen.
    """
    detail = ", ".join(part for part in (chart.unit, "log scale" if chart.log else "") if part)
    unit = f"<span>{escape(detail)}</span>" if detail else ""
    keys = "".join(_key(line, chart.digits) for line in chart.lines if line.look != "faint")
    caption = f"<figcaption><b>{escape(chart.title)}{unit}</b>{keys}</figcaption>"
    drawings = chart_svg(chart)
    if chart.wide:
        narrow = chart_svg(dataclasses.replace(chart, wide=False))
        drawings = f'<div class="roomy">{drawings}</div><div class="snug">{narrow}</div>'
    return f'<figure class="chart{" wide" if chart.wide else ""}">{caption}{drawings}</figure>'


def chart_svg(chart: Chart) -> str:
    """The drawing alone."""
    lines = [thin(line) for line in chart.lines]
    step_N = np.concatenate([line.step_N for line in lines] + [np.zeros(0)])
    value_N = np.concatenate([line.value_N for line in lines] + [np.zeros(0)])
    limit_N = [] if chart.limit is None else [chart.limit[0]]
    x = _step_axis(step_N if chart.steps is None else np.array(chart.steps, np.float64), chart.right)
    y = fit_axis(np.concatenate([value_N, limit_N]), HEIGHT - BOTTOM, TOP, log=chart.log)
    # Faint lines first, so that nothing hides behind noise.
    drawn = sorted(lines, key=lambda line: line.look != "faint")
    parts = [
        _axes(x, y, chart.along, wanted=8 if chart.wide else 5),
        *(_mark(mark, x, len(chart.marks) <= _LABELLED_MARKS) for mark in chart.marks),
        _limit(chart.limit, x, y),
        *(_line(line, x, y, chart.along) for line in drawn),
    ]
    name = escape(chart.title)
    opening = f'<svg viewBox="0 0 {chart.right + RIGHT} {HEIGHT}" role="img" aria-label="{name}">'
    return f"{opening}{''.join(parts)}</svg>"


def chart_file(chart: Chart) -> str:
    """A chart as a file of its own, with title, unit and legend: light, and without the values of the legend."""
    width, place = chart.right + RIGHT, LEFT
    title = f'<text x="{LEFT}" y="16" style="font-weight:600;fill:var(--ink)">{escape(chart.title)}</text>'
    parts = [title, f'<text x="{width - RIGHT}" y="16" text-anchor="end">{escape(chart.unit)}</text>']
    for line in chart.lines:
        if line.look == "faint":
            continue
        ends = f'x1="{place}" x2="{place + 22}" y1="33" y2="33"'
        parts.append(f'<g class="c{line.colour}"><line class="line {line.look}" {ends}/></g>')
        parts.append(f'<text x="{place + 28}" y="37">{escape(line.label)}</text>')
        place += 44 + LETTER * len(line.label)
    drawing = chart_svg(chart)
    moved = f'<g transform="translate(0,{HEAD})">{drawing[drawing.index(">") + 1 : -len("</svg>")]}</g>'
    beside = LETTER * len(chart.along)  # what the axis shows stands before its first number
    left, height = min(0, LEFT - 24 - beside), HEIGHT + HEAD
    size = f'viewBox="{left} 0 {width - left} {height}" width="{width - left}" height="{height}"'
    style = f"<style>{DRAWING}text{{font-family:sans-serif}}</style>"
    paper = '<rect x="-100%" width="200%" height="100%" style="fill:var(--paper)"/>'
    named = f'role="img" aria-label="{escape(chart.title)}"'
    drawn = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {named}>{style}{paper}{"".join(parts)}{moved}</svg>\n'
    # Not all who draw files of this kind know variables.
    colours = dict(re.findall(r"--(\w+):(#\w+)", LIGHT))
    return re.sub(r"var\(--(\w+)\)", lambda found: colours[found[1]], drawn)


def thin(line: Line, most: int = MOST_POINTS) -> Line:
    """At most about `most` points, keeping the ends, every gap, and the lowest and highest of each bin."""
    count = line.step_N.size
    if count <= most:
        return line
    kept = {0, count - 1}
    edges = np.linspace(0, count, max(1, most // 4) + 1).astype(int)
    for first, after in itertools.pairwise(edges.tolist()):
        part = line.value_N[first:after]
        missing = np.flatnonzero(~np.isfinite(part))
        kept.update(first + missing[:1])
        if missing.size < part.size:
            kept.update((first + int(np.nanargmin(part)), first + int(np.nanargmax(part))))
    index_K = np.array(sorted(kept))
    return Line(line.label, line.step_N[index_K], line.value_N[index_K], line.colour, line.look)


def _step_axis(step_N: np.ndarray, right: int) -> Axis:
    low, high = (float(step_N.min()), float(step_N.max())) if step_N.size else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return Axis(low, high, LEFT, right)


def _key(line: Line, digits: int) -> str:
    finite_N = line.value_N[np.isfinite(line.value_N)]
    last = format_number(float(finite_N[-1]), digits) if finite_N.size else "no value"
    sign = f'<i class="c{line.colour} {line.look}"></i>'
    return f'<span class="key">{sign}{escape(line.label)}<strong>{last}</strong></span>'


def _axes(x: Axis, y: Axis, along: str, wanted: int) -> str:
    bottom, right = HEIGHT - BOTTOM, int(x.end)
    parts = []
    for value, label in y.ticks():
        at = float(y.place(np.array(value)))
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{at:.2f}" y2="{at:.2f}"/>')
        parts.append(f'<text class="ytick" x="{LEFT - 7}" y="{at + 4:.2f}" text-anchor="end">{label}</text>')
    parts.append(f'<line class="base" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    for value, label in x.ticks(wanted):
        if value != round(value):
            continue
        at = float(x.place(np.array(value)))
        parts.append(f'<line class="base" x1="{at:.2f}" x2="{at:.2f}" y1="{bottom}" y2="{bottom + 4}"/>')
        anchor = "end" if at > right - 8 else "middle"
        told = label if along == "step" else f"{value:g}"
        parts.append(f'<text class="xtick" x="{at:.2f}" y="{bottom + 17}" text-anchor="{anchor}">{told}</text>')
    parts.append(f'<text x="{LEFT - 7}" y="{bottom + 17}" text-anchor="end">{escape(along)}</text>')
    return "".join(parts)


def _line(line: Line, x: Axis, y: Axis, along: str) -> str:
    x_N, y_N = x.place(line.step_N), y.place(line.value_N)
    finite_N = np.isfinite(y_N)
    commands: list[str] = []
    lonely: list[int] = []
    for index in np.flatnonzero(finite_N).tolist():
        joined = index > 0 and finite_N[index - 1]
        commands.append(f"{'L' if joined else 'M'}{x_N[index]:.2f},{y_N[index]:.2f}")
        if not joined and not (index + 1 < finite_N.size and finite_N[index + 1]):
            lonely.append(index)
    few = finite_N.size <= _DOTTED_UP_TO and line.look != "faint"
    pointed = np.flatnonzero(finite_N).tolist() if few else lonely
    path = f'<path class="line {line.look}" d="{"".join(commands)}"/>' if commands else ""
    points = "".join(_point(line, x_N[i], y_N[i], i, along) for i in pointed)
    return f'<g class="c{line.colour}" data-line="{escape(line.label)}">{path}{points}</g>'


def _point(line: Line, x: float, y: float, index: int, along: str) -> str:
    told = f"{line.label}, {along} {int(line.step_N[index]):,}: {format_number(float(line.value_N[index]), 4)}"
    return f'<circle class="point" cx="{x:.2f}" cy="{y:.2f}" r="2.5"><title>{escape(told)}</title></circle>'


def _mark(mark: Mark, x: Axis, labelled: bool) -> str:
    at = float(x.place(np.array(mark.step)))
    if not x.start - 1 <= at <= x.end + 1:
        return ""
    kind = " alarm" if mark.alarm else ""
    told = f"<title>{escape(mark.label)}, step {mark.step:,}</title>"
    line = f'<line class="event{kind}" x1="{at:.2f}" x2="{at:.2f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}">{told}</line>'
    anchor = "start" if at < x.start + 30 else "end" if at > x.end - 30 else "middle"
    place = f'x="{at:.2f}" y="{TOP - 5}" text-anchor="{anchor}"'
    text = f'<text class="halo{kind}" {place}>{escape(mark.label)}</text>' if labelled else ""
    return line + text


def _limit(limit: tuple[float, str] | None, x: Axis, y: Axis) -> str:
    if limit is None:
        return ""
    at = float(y.place(np.array(limit[0])))
    line = f'<line class="limit" x1="{LEFT}" x2="{x.end:.0f}" y1="{at:.2f}" y2="{at:.2f}"/>'
    # Under its line where there is no room above, which is where event labels stand.
    text_at = at - 4 if at > TOP + 10 else at + 12
    text = f'<text class="halo limit" x="{x.end - 2:.0f}" y="{text_at:.2f}" text-anchor="end">{escape(limit[1])}</text>'
    return line + text
