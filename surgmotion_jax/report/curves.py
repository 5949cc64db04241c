"""The curves: which metrics share a chart, and how each chart is drawn. A new chart is one line of a table.

Letters: N logged points of one series.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surgmotion_jax.records import METRICS_FILE
from surgmotion_jax.report.axis import format_number
from surgmotion_jax.report.html import Section, escape, sentence, within
from surgmotion_jax.report.run import RunRecord
from surgmotion_jax.report.svg import Chart, Line, Look, Mark, chart_figure
from surgmotion_jax.report.verdict import THRESHOLDS, thresholds_of

_SMOOTHED_FROM = 60


@dataclass(frozen=True)
class Curve:
    """One metric on a chart."""

    kind: str
    name: str
    label: str
    look: Look = "solid"


@dataclass(frozen=True)
class Panel:
    """One chart: its metrics, and how to draw them. `scale` multiplies every value (100 for percent); `limit` names
    the threshold to draw.
    """

    title: str
    curves: tuple[Curve, ...]
    unit: str = ""
    log: bool = False
    scale: float = 1.0
    smooth: bool = False
    limit: str = ""
    digits: int = 3
    wide: bool = False
    often_constant: bool = False


def _train(name: str, label: str, look: Look = "solid") -> Curve:
    return Curve("train", name, label, look)


def _heldout(name: str, label: str, look: Look = "solid") -> Curve:
    return Curve("heldout", name, label, look)


LOSS = (
    Panel(
        "Held-out masked loss",
        (
            _heldout("heldout/loss", "model"),
            _heldout("heldout/constant", "best constant", "dash"),
            _heldout("heldout/shuffled", "another clip's context", "dot"),
        ),
        unit="L1",
        wide=True,
    ),
    Panel("Training loss", (_train("loss/total", "total"),), smooth=True),
)
COLLAPSE = (
    Panel(
        "RankMe of the targets",
        (_heldout("gauge/rankme", "held-out"),),
        unit="dimensions",
        limit="rankme",
    ),
    Panel(
        "Spread of the features",
        (
            _heldout("gauge/prediction_std", "prediction"),
            _heldout("gauge/target_std", "target", "dash"),
        ),
        unit="std, held-out",
        limit="prediction_std",
    ),
    Panel("LiDAR", (_heldout("gauge/lidar", "held-out"),), unit="dimensions"),
    Panel("Alignment of the moments of a clip", (_heldout("gauge/alignment", "held-out"),), unit="squared distance"),
    Panel("Uniformity of clips", (_heldout("gauge/uniformity", "held-out"),), unit="log potential"),
    Panel("Context and target", (_heldout("gauge/context_target_cosine", "cosine"),), unit="held-out", limit="cosine"),
)
PROBE = (
    Panel(
        "Frozen probe: accuracy",
        (
            _heldout("probe/knn", "nearest neighbours"),
            _heldout("probe/linear", "linear", "dash"),
            _heldout("probe/chance", "commonest class", "dot"),
        ),
        unit="% of validation windows",
        scale=100,
    ),
    Panel(
        "Frozen probe: mean recall",
        (
            _heldout("probe/knn_balanced", "nearest neighbours"),
            _heldout("probe/linear_balanced", "linear", "dash"),
            _heldout("probe/chance_balanced", "commonest class", "dot"),
        ),
        unit="% over classes",
        scale=100,
    ),
)
TRAINING = (
    Panel("Active dimensions", (_train("gauge/active_dims", "share"),), unit="%", scale=100),
    Panel("Gradient norm", (_train("optim/grad_norm", "norm"),), log=True, smooth=True),
    Panel("Learning rate", (_train("optim/lr", "rate"),), often_constant=True),
    Panel("Weight decay", (_train("optim/weight_decay", "decay"),), often_constant=True),
    Panel("EMA momentum", (_train("ema/momentum", "momentum"),), digits=5, often_constant=True),
    Panel("Encoder to EMA distance", (_train("ema/distance", "distance"),)),
)
SPEED = (
    Panel("Speed", (_train("speed/clips_per_s", "clips per second"),), smooth=True),
    Panel("Model FLOPs utilisation", (_train("speed/mfu", "share"),), unit="% of the peak", scale=100, smooth=True),
    Panel("Step time", (_train("time/step_s", "step"),), unit="s", smooth=True),
    Panel(
        "Waiting for data",
        (_train("time/data_wait_share", "share"),),
        unit="% of the step",
        scale=100,
        smooth=True,
        limit="data_wait_percent",
    ),
    Panel("Memory", (_train("memory/gb", "peak"),), unit="GB", often_constant=True),
)
NAMED = {curve.name for panels in (LOSS, COLLAPSE, PROBE, TRAINING, SPEED) for p in panels for curve in p.curves}


def loss_terms(run: RunRecord) -> Panel:
    """Every term that the run logged, under its own name, and the unweighted error beside them."""
    own = ("loss/", "image/")
    names = sorted(name for name in run.names("train") if name.startswith(own) and name not in NAMED)
    terms = [_train(n, n.removeprefix("loss/").replace("/", " ")) for n in names if not n.endswith("/l1")]
    return Panel("Loss terms", (*terms, _train("loss/l1", "plain L1", "dash")), unit="before weighting", log=True)


def other_gauges(run: RunRecord) -> Panel:
    """Gauges of terms that have no chart of their own."""
    names = [name for name in run.names("train") if name.startswith("gauge/") and name not in NAMED]
    curves = tuple(_train(name, name.removeprefix("gauge/").replace("_", " ")) for name in names)
    return Panel("Other gauges", curves, unit="in training")


def levels(run: RunRecord) -> tuple[Panel, ...]:
    """The ranks of each level of an encoder that has several."""
    panels = []
    for name, title in (("rankme", "RankMe of each level"), ("lidar", "LiDAR of each level")):
        start = f"gauge/{name}_level"
        found = sorted(logged for logged in run.names("heldout") if logged.startswith(start))
        curves = tuple(_heldout(logged, f"level {logged.removeprefix(start)}") for logged in found)
        panels.append(Panel(title, curves, unit="dimensions"))
    return tuple(panels)


def groups(run: RunRecord) -> tuple[tuple[str, tuple[Panel, ...]], ...]:
    """All charts but those of speed."""
    training = (loss_terms(run), *TRAINING, other_gauges(run))
    return (
        ("Loss", LOSS),
        ("Frozen probe", PROBE),
        ("Collapse gauges", (*COLLAPSE, *levels(run))),
        ("Training", training),
    )


def curves(run: RunRecord) -> Section:
    """Every chart that has data, in groups."""
    blocks = []
    for name, panels in groups(run):
        figures = figures_of(run, panels)
        if figures:
            blocks.append(f"<h3>{escape(name)}</h3>{figures}")
    return Section("Curves", "".join(blocks) or sentence(nothing_logged(run)))


def throughput(run: RunRecord) -> Section:
    """How fast, how much of it spent waiting for data, and how much memory."""
    figures = figures_of(run, SPEED)
    return Section("Throughput", f"{_speed_sentence(run)}{figures}" if figures else sentence(nothing_logged(run)))


def nothing_logged(run: RunRecord) -> str:
    """Why there is nothing to draw."""
    return run.problems.get(METRICS_FILE, "Nothing has been logged for this yet.")


def figures_of(run: RunRecord, panels: tuple[Panel, ...]) -> str:
    """The charts of the panels for which the run logged anything.

    What often stays constant and did is said in a sentence instead: a level line is no news.
    """
    figures, constants = [], []
    for panel in panels:
        chart = panel_chart(run, panel)
        if panel.often_constant and _is_level(chart):
            value = format_number(float(np.nanmax(chart.lines[0].value_N)), panel.digits)
            constants.append(f"{within(panel.title)} {value} {panel.unit}".strip())
        elif chart.lines:
            figures.append(chart_figure(chart))
    drawn = f'<div class="charts">{"".join(figures)}</div>' if figures else ""
    return drawn + (sentence(f"Constant throughout: {', '.join(constants)}.") if constants else "")


def panel_chart(run: RunRecord, panel: Panel) -> Chart:
    """A panel filled with the run's numbers; metrics that were never logged are left out."""
    lines: list[Line] = []
    for colour, curve in enumerate(panel.curves):
        step_N, value_N = run.series(curve.kind, curve.name)
        if step_N.size == 0:
            continue
        value_N = value_N * panel.scale
        if panel.smooth and step_N.size >= _SMOOTHED_FROM:
            lines.append(Line(f"{curve.label}, every value", step_N, value_N, colour, "faint"))
            label = f"{curve.label}, running median" if len(panel.curves) == 1 else curve.label
            lines.append(Line(label, step_N, running_median(value_N), colour, curve.look))
        else:
            lines.append(Line(curve.label, step_N, value_N, colour, curve.look))
    bound = getattr(thresholds_of(run), panel.limit) if panel.limit else None
    limit = None if bound is None else (bound, f"threshold {bound:g}")
    return Chart(
        panel.title,
        tuple(lines),
        unit=panel.unit,
        log=panel.log,
        limit=limit,
        marks=event_marks(run),
        steps=(0, run.last_step or 1),
        digits=panel.digits,
        wide=panel.wide,
    )


def running_median(value_N: np.ndarray) -> np.ndarray:
    """The median of the finite values around each point (a fortieth of the run); NaN where the point is NaN."""
    reach = max(2, value_N.size // 80)
    padded = np.pad(value_N, reach, constant_values=np.nan)
    window_NxK = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    median_N = np.full(value_N.size, np.nan)
    present_N = np.isfinite(value_N)
    median_N[present_N] = np.nanmedian(window_NxK[present_N], axis=1)
    return median_N


def event_marks(run: RunRecord) -> tuple[Mark, ...]:
    """Resumes, alarms and what followed them, for every chart."""
    words = {"resume": "resumed", "alarm": "alarm", "rollback": "rollback", "stopped": "stopped"}
    # One mark a step: what followed an alarm stands for it.
    marks = {e.step: Mark(e.step, words[e.word], alarm=e.word != "resume") for e in run.events if e.word in words}
    return tuple(marks.values())


def _is_level(chart: Chart) -> bool:
    if len(chart.lines) != 1:
        return False
    value_N = chart.lines[0].value_N
    finite_N = value_N[np.isfinite(value_N)]
    return finite_N.size > 1 and np.ptp(finite_N) == 0


def _speed_sentence(run: RunRecord) -> str:
    _, speed_N = run.series("train", "speed/clips_per_s")
    _, wait_N = run.series("train", "time/data_wait_share")
    speed_N, wait_N = speed_N[np.isfinite(speed_N)], wait_N[np.isfinite(wait_N)]
    parts = [f"{np.median(speed_N):.3g} clips per second (median)"] if speed_N.size else []
    if wait_N.size:
        percent = 100 * float(np.median(wait_N))
        slow = percent > THRESHOLDS.data_wait_percent
        advice = "more than it should: add loader workers or ingest the videos" if slow else "data keeps up"
        parts.append(f"{percent:.1f} % of the step spent waiting for data; {advice}")
    return f'<p class="lead" style="margin:0 0 1rem">{escape(", ".join(parts))}.</p>' if parts else ""
