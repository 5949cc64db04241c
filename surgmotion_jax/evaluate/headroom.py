"""Whether a task can tell encoders apart: what is reached without looking, by pixels, by random weights, end to end.

A task has headroom where training end to end is far above a head on random weights, and random weights are far below
the best that the measure allows. Where it has none, no comparison of pretrained encoders on it decides anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from surgmotion_jax.evaluate.anchors import RANDOM, TUNED
from surgmotion_jax.evaluate.results import Results

ANCHORS = ("chance", "pixels", RANDOM, TUNED)
"""A constant answer; 16 x 16 pixels under a linear head; random weights under the study's head; the same end to end."""
CEILING = 100.0  # points of a perfect answer
ABOVE_RANDOM = 20.0  # points by which training end to end must be above random weights
BELOW_CEILING = 10.0  # points by which random weights must be below a perfect answer
ERRORS = ("mae", "abs_rel")  # measures of which less is better
MEASURES_OF_FAMILY = {"triplet": ("mAP_I", "mAP_V", "mAP_T")}
"""Measures that are tasks of their own (instrument, verb, target); others have the one that heads are chosen by."""


@dataclass(frozen=True)
class Task:
    """One task by the points of its anchors; None where an anchor has no value, or was not asked for."""

    name: str  # benchmark and measure
    points: Mapping[str, float | None]  # by anchor

    @property
    def failure(self) -> str:
        """Why the task cannot enter a comparison; empty where it can."""
        random, tuned = self.points[RANDOM], self.points[TUNED]
        if random is None or tuned is None:
            return f"{'random weights' if random is None else 'end to end'}: the measure is undefined"
        faults = []
        if tuned - random < ABOVE_RANDOM:
            faults.append(f"end to end is {tuned - random:.1f} above random weights, {ABOVE_RANDOM:g} are asked for")
        if CEILING - random < BELOW_CEILING:
            faults.append(
                f"random weights are {CEILING - random:.1f} below the ceiling, {BELOW_CEILING:g} are asked for"
            )
        return "; ".join(faults)


def tasks_of(found: Mapping[str, Results]) -> list[Task]:
    """The tasks of one benchmark, from the results of its anchors; that of chance is among them."""
    family, benchmark = found["chance"]["family"], found["chance"]["benchmark"]
    chosen = found["chance"]["choice"]["metric"]
    return [_task(benchmark, metric, found) for metric in MEASURES_OF_FAMILY.get(family, (chosen,))]


def points_of(value: float | None, chance: float | None, error: bool) -> float | None:
    """100 for a perfect answer: hundredths of a score, or the part of chance's error that is avoided.

    None where there is no value, or no error of chance to compare with.
    """
    if value is None or (error and not chance):
        return None
    return 100 * (1 - value / chance) if error and chance else 100 * value


def _task(benchmark: str, metric: str, found: Mapping[str, Results]) -> Task:
    values = {anchor: _value(results, metric) for anchor, results in found.items()}
    points = {anchor: points_of(values.get(anchor), values["chance"], metric in ERRORS) for anchor in ANCHORS}
    return Task(f"{benchmark} {metric}", points)


def _value(results: Results, metric: str) -> float | None:
    """The first value of that name, that of the convention by which heads are chosen where it is its measure."""
    rows = [row for row in results["chosen"]["results"] if row["metric"] == metric]
    choice = results["choice"]
    own = [row for row in rows if metric != choice["metric"] or row["convention"] == choice["convention"]]
    return own[0]["value"] if own else None
