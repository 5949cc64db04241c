"""The task of a benchmark, and what is known of its moments. Letters: B moments, S side of the square."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.benchmarks.benchmark import Benchmark, Case, Contents
from surgmotion_jax.benchmarks.dense import read_depth, read_mask
from surgmotion_jax.evaluate.features.window_frames import fit
from surgmotion_jax.evaluate.features.windows_of_cases import Position, WindowReader
from surgmotion_jax.evaluate.results import Results
from surgmotion_jax.evaluate.tasks.action import ActionTask
from surgmotion_jax.evaluate.tasks.depth import DepthTask
from surgmotion_jax.evaluate.tasks.presence import PresenceTask
from surgmotion_jax.evaluate.tasks.segmentation import SegmentationTask
from surgmotion_jax.evaluate.tasks.skill import SkillTask
from surgmotion_jax.evaluate.tasks.task import Task, Truth
from surgmotion_jax.evaluate.tasks.triplet import TripletTask, parts_of
from surgmotion_jax.evaluate.tasks.workflow import WorkflowTask

DENSE = ("segmentation", "depth")
RELAXED = "cholec80"  # for whose phases the relaxed convention is defined


def make_task(benchmark: Benchmark, contents: Contents) -> Task:
    """The definitions of a benchmark's family, with its classes."""
    classes = contents.classes
    if benchmark.family == "workflow":
        return WorkflowTask(tuple(classes[benchmark.label]), relaxed=benchmark.name == RELAXED)
    if benchmark.family == "action":
        return ActionTask(tuple(classes[benchmark.label]))
    if benchmark.family == "presence":
        return PresenceTask(tuple(classes[benchmark.label]))
    if benchmark.family == "triplet":
        return TripletTask(tuple(classes[benchmark.label]), parts_of(classes))
    if benchmark.family == "skill":
        return SkillTask(tuple(classes.get("task", ("all",))))
    return SegmentationTask() if benchmark.family == "segmentation" else DepthTask()


class Truths:
    """What is known of the moments of a list of cases, read when it is asked for."""

    def __init__(self, benchmark: Benchmark, cases: Sequence[Case], reader: WindowReader) -> None:
        self._benchmark, self._cases, self._reader = benchmark, cases, reader

    def rows(self, positions: Sequence[Position]) -> Truth:
        """`label` and `mask` of each moment (and `task` of trials); masks and depths are [B,S,S]."""
        if self._benchmark.family in DENSE:
            pictures = [self._picture(self._cases[p.case], p.row) for p in positions]
            return {"label": np.stack([p[0] for p in pictures]), "mask": np.stack([p[1] for p in pictures])}
        labels = [self._cases[p.case].labels for p in positions]
        truth = {
            "label": np.stack(
                [label[self._benchmark.label][p.row] for label, p in zip(labels, positions, strict=True)]
            ),
            "mask": np.ones(len(positions), bool),
        }
        if self._benchmark.family == "skill":
            tasks = [label["task"][p.row] if "task" in label else 0 for label, p in zip(labels, positions, strict=True)]
            truth["task"] = np.array(tasks, np.int64)
        return truth

    def _picture(self, case: Case, row: int) -> tuple[np.ndarray, np.ndarray]:
        """(mask or depth, where it is known), [S,S] each, placed as the frame is."""
        _, info = self._reader.clips(case)
        stored, scaled = (info.height, info.width), self._reader.scaled(info)
        within = np.ones(scaled, bool)
        if self._benchmark.family == "segmentation":
            picture = read_mask(case.masks[row], stored, scaled)
        else:
            depth = read_depth(case.depths[row], case.depth_scale, stored, scaled)
            within = np.isfinite(depth)
            if case.masks:
                within &= read_mask(case.masks[row], stored, scaled)
            picture = np.where(within, depth, 0).astype(np.float32)
        return self._squared(picture), self._squared(within)

    def _squared(self, picture_hxw: np.ndarray) -> np.ndarray:
        return fit(picture_hxw[None, ..., None], self._reader.data.size)[0, ..., 0]


def task_of_results(fields: Results) -> Task:
    """The task of a finished evaluation, from the value of its `results.json`."""
    classes = {name: tuple(names) for name, names in fields["classes"].items()}
    benchmark = catalogue.get(fields["benchmark"])
    if benchmark.at is not None:  # its family was that of the data set
        benchmark = dataclasses.replace(benchmark, family=fields["family"])
    return make_task(benchmark, Contents(fields["benchmark"], fields["protocol"], classes, {}))
