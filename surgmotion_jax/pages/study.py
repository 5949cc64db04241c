"""The page of a study: what was found first, then the figure, the tables, and what each arm cost. HTML and Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from surgmotion_jax.evaluate.anchors import RANDOM, TUNED
from surgmotion_jax.evaluate.compare.comparison import SIGNIFICANT
from surgmotion_jax.evaluate.compare.strengths import Curve, Place, Scores
from surgmotion_jax.evaluate.metrics.bootstrap import Difference
from surgmotion_jax.pages.evaluation import rows_table
from surgmotion_jax.report.html import Section, escape, page, sentence
from surgmotion_jax.report.pictures import jpeg_uri
from surgmotion_jax.report.svg import Chart, Line, Look, chart_figure

Table = tuple[tuple[str, ...], Sequence[tuple[str, ...]]]
LOOKS: tuple[Look, ...] = ("solid", "dash", "dot")
COLOURS = 5
STRIP_BYTES = 60_000


@dataclass(frozen=True)
class Learnt:
    """What pretraining an arm came to. NaN where nothing was logged."""

    clips: int  # seen in all steps
    tflop: float
    heldout: float
    over_constant: float  # percent
    rankme: float
    collapsed: str  # from which step on, if it has
    curve: tuple[tuple[int, float, float], ...] = ()  # step, percent better than a constant, RankMe


@dataclass(frozen=True)
class StudyPage:
    """What is shown."""

    scores: Scores
    values: Mapping[Place, float]  # means over seeds
    fewer: Mapping[Place, float]  # the same with a share of the labelled cases in the place of a strength
    learnt: Mapping[str, Learnt | None]  # by cell; None for a run that did not reach its last step
    failures: Mapping[str, str]  # cells without results, and why
    strips: Mapping[str, np.ndarray]  # uint8 [H,W,3]: the windows' last frames, then by arm their features as colours
    compared: tuple[str, str]
    hours: float  # of work, those of processes side by side added up
    done: int  # cells
    cells: int
    command: str


def as_html(study: StudyPage) -> str:
    """One self-contained page."""
    first = f"{study.done} of {study.cells} cells, {study.hours:.1f} hours"
    sections = [
        Section("What was found", "".join(map(sentence, verdict(study))) + figure(study.scores)),
        Section("Scores", rows_table(*score_table(study.scores)) + sentence(SCORE)),
        Section("Differences", rows_table(*difference_table(study))),
        Section("Measures", rows_table(*value_table(study))),
        *([Section("Fewer labels", rows_table(*fewer_table(study)))] if study.fewer else []),
        *([Section("Features", strips_html(study.strips))] if study.strips else []),
        Section("Pretraining", pretraining_html(study)),
        Section("Again", sentence(study.command)),
    ]
    return page("Study", first, sections, "study report")


def as_markdown(study: StudyPage) -> str:
    """The same without the figure."""
    parts = ["# Study", "", *verdict(study), "", f"`{study.command}`: {study.done} of {study.cells} cells so far, "]
    parts[-1] += f"{study.hours:.1f} hours in all."
    tables = {
        "Scores": score_table(study.scores),
        "Differences": difference_table(study),
        "Measures": value_table(study),
        "Fewer labels": fewer_table(study),
        "Pretraining": learnt_table(study),
    }
    for title, (header, rows) in tables.items():
        if rows:
            parts += ["", f"## {title}", "", *_markdown(header, rows)]
    return "\n".join([*parts, "", SCORE]) + "\n"


SCORE = (
    "A score is 0 for random weights under the same head and 100 for training end to end, on the same task at the same "
    "strength, averaged over tasks. Intervals are of draws of operations and seeds."
)
LEARNT = (
    "Lines are means over seeds and strengths of runs that reached their last step. Each arm has an error of its own, "
    "of features or of pixels; the gain over the best constant can be compared. RankMe is of what is evaluated."
)
COLOURED = (
    "The same windows of one task, and the first three principal components of their last tokens as red, green and "
    "blue. Each arm has components of its own: look at what is set apart, not at the colour."
)


def verdict(study: StudyPage) -> list[str]:
    """Sentences: whether the lead of the first arm over the second grows with nuisance, and who is above random."""
    first, second = study.compared
    growth = study.scores.growth
    if growth is None:
        said = [f"Whether the lead of {first} over {second} grows with nuisance cannot be said yet."]
    else:
        p = growth.p
        settled = p is not None and p < SIGNIFICANT
        word = ("grows" if growth.value > 0 else "shrinks") if settled else "neither grows nor shrinks demonstrably"
        said = [f"The lead of {first} over {second} {word} with nuisance; points a unit of strength: {_text(growth)}."]
    if study.scores.curves:
        above = _told(study.scores, lambda curve, g: bool(curve.low_G[g] > 0))
        below = _told(study.scores, lambda curve, g: bool(curve.high_G[g] < 0))
        said.append(f"Above random weights, by their intervals: {above or 'none'}.")
        said += [f"Below random weights: {below}."] if below else []
    if study.scores.without:
        said.append(
            f"No part of any mean, since end to end is not above random there: {', '.join(study.scores.without)}."
        )
    return said


def _told(scores: Scores, which: Callable[[Curve, int], bool]) -> str:
    """Arms with the strengths at which something holds: 'pixel at 0, 1 and 2; all at 1'."""
    found = []
    for curve in scores.curves:
        at = [f"{strength:g}" for g, strength in enumerate(scores.strengths) if which(curve, g)]
        if at:
            found.append(f"{curve.arm} at {' and '.join([', '.join(at[:-1]), at[-1]] if at[:-1] else at)}")
    return "; ".join(found)


def figure(scores: Scores) -> str:
    """Score against strength; nothing while there is no arm."""
    return chart_figure(chart_of(scores)) if scores.curves else ""


def chart_of(scores: Scores) -> Chart:
    """A line an arm, its interval faint."""
    strength_G = np.array(scores.strengths)
    lines = []
    for number, curve in enumerate(scores.curves):
        colour, look = number % COLOURS, LOOKS[number // COLOURS % len(LOOKS)]
        lines.append(Line(curve.arm, strength_G, curve.score_G, colour, look))
        lines += [Line(curve.arm, strength_G, bound_G, colour, "faint") for bound_G in (curve.low_G, curve.high_G)]
    unit = "0 random, 100 end to end"
    return Chart("Score against nuisance", tuple(lines), unit, wide=True, along="strength")


def strips_html(strips: Mapping[str, np.ndarray]) -> str:
    """The same windows as each arm sees them, one above the other."""
    shown = [
        f'<figure><img src="{jpeg_uri(strip_HxWx3, STRIP_BYTES)}" width="{strip_HxWx3.shape[1]}" alt="{escape(name)}">'
        f"<figcaption>{escape(name)}</figcaption></figure>"
        for name, strip_HxWx3 in strips.items()
    ]
    return sentence(COLOURED) + "".join(shown)


def score_table(scores: Scores) -> Table:
    """A row an arm and strength: the mean and each task, with intervals."""
    rows = [
        (
            curve.arm,
            f"{strength:g}",
            _span(curve.score_G[g], curve.low_G[g], curve.high_G[g]),
            *map(_span, curve.score_KxG[:, g], curve.low_KxG[:, g], curve.high_KxG[:, g]),
            str(curve.seeds),
        )
        for curve in scores.curves
        for g, strength in enumerate(scores.strengths)
    ]
    return ("arm", "strength", "score", *scores.tasks, "seeds"), rows


def difference_table(study: StudyPage) -> Table:
    """A row an arm: its score less that of the first compared, with p values."""
    rows = [
        (row.arm, _text(row.difference), "-" if row.holm is None else f"{row.holm:.3g}") for row in study.scores.against
    ]
    return ("arm", f"score minus {study.compared[0]}, mean over strengths", "p after Holm"), rows


def value_table(study: StudyPage) -> Table:
    """A row a task and strength: the measure of every arm, anchors first."""
    return _values(study.values, "strength", study.scores.strengths)


def fewer_table(study: StudyPage) -> Table:
    """A row a task and share of the labelled cases, at the strength in the middle."""
    return _values(study.fewer, "share of labels", sorted({share for _, _, share in study.fewer}))


def _values(values: Mapping[Place, float], by: str, steps: Sequence[float]) -> Table:
    """Tasks and steps down, arms across."""
    arms = dict.fromkeys(arm for arm, _, _ in values)
    order = [*(arm for arm in (RANDOM, TUNED) if arm in arms), *(arm for arm in arms if arm not in (RANDOM, TUNED))]
    rows = [
        (task, f"{step:g}", *(_number(values.get((arm, task, step)), 3) for arm in order))
        for task in dict.fromkeys(task for _, task, _ in values)
        for step in steps
    ]
    return ("task", by, *order), rows


def pretraining_html(study: StudyPage) -> str:
    """How the arms learnt, a line an arm, and a row a run."""
    if not study.learnt:
        return sentence("Not begun.")
    return learning_figures(study) + rows_table(*learnt_table(study)) + sentence(LEARNT)


def learning_figures(study: StudyPage) -> str:
    """Held-out gains and ranks against steps, means over the runs of an arm."""
    runs: dict[str, list[np.ndarray]] = {}
    for name, learnt in study.learnt.items():
        if learnt and learnt.curve:
            runs.setdefault(arm_of(name), []).append(np.array(learnt.curve))
    charts = []
    for column, title, unit in ((1, "Held out, better than a constant", "%"), (2, "RankMe of held-out features", "")):
        lines = []
        for number, (arm, curve) in enumerate(runs.items()):
            step_N = curve[0][:, 0]
            value_N = np.mean([one[:, column] for one in curve if np.array_equal(one[:, 0], step_N)], 0)
            lines.append(Line(arm, step_N, value_N, number % COLOURS, LOOKS[number // COLOURS % len(LOOKS)]))
        charts.append(chart_figure(Chart(title, tuple(lines), unit)) if lines else "")
    return "".join(charts)


def arm_of(run: str) -> str:
    """`plain` of `1/plain-0`."""
    return run.rpartition("/")[2].rpartition("-")[0]


def learnt_table(study: StudyPage) -> Table:
    """A row a run of pretraining: clips, operations, held-out error, ranks, and whether it collapsed or failed."""
    rows = [
        (name, *("-",) * 5, "did not reach its last step")
        if one is None
        else (
            name,
            f"{one.clips:,}",
            _number(one.tflop, 1),
            _number(one.heldout, 3),
            _number(one.over_constant, 1),
            _number(one.rankme, 1),
            one.collapsed,
        )
        for name, one in study.learnt.items()
    ]
    rows += [(name, *("-",) * 5, why) for name, why in study.failures.items()]
    return ("run", "clips", "TFLOP", "held-out error", "better than a constant, %", "RankMe", "collapsed"), rows


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{' --- |' * len(header)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _text(difference: Difference) -> str:
    if not np.isfinite(difference.value):
        return "-"
    bounds = "" if difference.interval is None else " ({:+.1f} to {:+.1f})".format(*difference.interval)
    return f"{difference.value:+.1f}{bounds}" + ("" if difference.p is None else f", p {difference.p:.3g}")


def _span(value: float, low: float, high: float) -> str:
    return "-" if not np.isfinite(value) else f"{value:.1f} ({low:.1f} to {high:.1f})"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"
