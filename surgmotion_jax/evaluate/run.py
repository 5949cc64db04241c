"""An evaluation from beginning to end: features, heads, choice, and only then the test labels.

Each stage leaves a file that appears whole, so an evaluation that was interrupted is repeated and goes on: features
by case, `strategy.json`, the sweep by steps, `heads.npz`, `choice.json`, `predictions.csv`, `results.json`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.benchmarks.benchmark import Case
from surgmotion_jax.checkpoints.tree import leaves_by_path
from surgmotion_jax.evaluate.choice import Choice, best, choose, read_choice, write_choice
from surgmotion_jax.evaluate.claim import claim
from surgmotion_jax.evaluate.cohort import Cohort, read_cohort, read_test_cases
from surgmotion_jax.evaluate.config import EvaluateConfig
from surgmotion_jax.evaluate.features.cache import Encoding, Features, bytes_needed, check_room, features_of
from surgmotion_jax.evaluate.features.external import ExternalFeatures
from surgmotion_jax.evaluate.features.windows_of_cases import Position, WindowReader, in_order
from surgmotion_jax.evaluate.fingerprint import fingerprint
from surgmotion_jax.evaluate.heads.fit import (
    HEADS_FILE,
    Batches,
    TrainingSet,
    Zeros,
    plan_heads,
    read_heads,
    train_heads,
    without_lost,
)
from surgmotion_jax.evaluate.heads.of_tasks import KIND_OF_HEAD, check_head, head_for, wanted_features
from surgmotion_jax.evaluate.heads.predictors import (
    HeadPredictor,
    NeighbourPredictor,
    Predictor,
    Tables,
    predict_tables,
    spread,
)
from surgmotion_jax.evaluate.heads.targets import Objective
from surgmotion_jax.evaluate.overlays import write_pictures
from surgmotion_jax.evaluate.results import (
    RESULTS_FILE,
    case_notes,
    scored_json,
    sd_over_cases,
    write_predictions,
    write_results,
)
from surgmotion_jax.evaluate.source import Source
from surgmotion_jax.evaluate.tasks.depth import typical_depth
from surgmotion_jax.evaluate.tasks.families import DENSE, Truths, make_task
from surgmotion_jax.evaluate.tasks.task import Task, Truth, score, value_of
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh

FEATURES_FOLDER = "features"
DENSE_SAMPLE = 64  # training images whose truth decides a typical depth

Say = Callable[[str], None]


def evaluate(
    config: EvaluateConfig,
    source: Source,
    root: str,
    workdir: storage.PathLike,
    *,
    probe: str = "",
    features: storage.PathLike = "",
    say: Say = lambda text: None,
) -> dict[str, Any]:
    """Evaluates frozen features on a benchmark and writes everything to `workdir`; returns the value of results.json.

    Args:
      config: what decides the numbers.
      source: the encoder, or features of another.
      root: the data set.
      workdir: a new folder, or that of the same evaluation, which then goes on.
      probe: the workdir of a finished evaluation whose chosen head is scored, instead of training heads.
      features: a folder for the features, shared with other evaluations; empty: one in the workdir.
      say: told what happens.

    Raises ValueError for data, features or settings that do not fit, and a workdir of another evaluation.
    """
    cohort = read_cohort(config.data, root)
    check_head(cohort.benchmark.family, config.probe.head)
    source = source.using([*cohort.train, *cohort.val, *cohort.test])
    stage = _Stage(config, source, cohort, workdir, features or storage.as_path(workdir) / FEATURES_FOLDER, say)
    seen = fingerprint(cohort)
    if source.encoder is None:  # a head depends on these files alone; another may be scored on other test cases
        seen["features"] = source.digest([*cohort.train, *cohort.val])
    results = storage.as_path(workdir) / RESULTS_FILE
    if not results.exists():  # asked before the workdir is claimed, for the remedy may be another config
        stage.check_features(probe)
    saved = claim(workdir, config, source, cohort.contents.protocol, probe, seen)["probe"]
    if results.exists():
        say("this evaluation is finished")
        return dict(storage.read_json(results))
    learnt = stage.load(probe, saved[0]) if probe else stage.learn()
    choice = read_choice(workdir) or stage.choose(learnt)
    return stage.report(learnt, choice, root)


@dataclass(frozen=True)
class _Learnt:
    predictor: Predictor
    notes: tuple[str, ...]  # what the training labels lack, heads that were lost, whose head it is
    moments: int  # learnt from
    lost: tuple[int, ...] = ()  # heads that diverged: they are neither chosen nor the oracle
    probe: list[Any] | None = None  # the head of another evaluation: its name, sweep and digest


class _Stage:
    """The stages of an evaluation, in the order in which they are called."""

    def __init__(
        self,
        config: EvaluateConfig,
        source: Source,
        cohort: Cohort,
        workdir: storage.PathLike,
        folder: storage.PathLike,
        say: Say,
    ) -> None:
        self.config, self.cohort, self.workdir, self.say = config, cohort, storage.as_path(workdir), say
        self.folder = folder  # of features
        self.source = source
        self.task: Task = make_task(cohort.benchmark, cohort.contents)
        self.reader = WindowReader(config.data)
        self.encoding: Encoding | None = None
        if source.encoder is not None:
            wanted = wanted_features(config, source.encoder.config.depth)
            self.encoding = Encoding(source.encoder, wanted, config.data, config.cache)

    # ---- what every stage needs ----

    @functools.cached_property
    def external(self) -> ExternalFeatures:
        """Another encoder's features of all cases. Raises ValueError for a file that does not serve."""
        cohort, kind = self.cohort, KIND_OF_HEAD[self.config.probe.head]
        return ExternalFeatures(self.source.features, [*cohort.train, *cohort.val, *cohort.test], kind)

    def features(self, cases: Sequence[Case]) -> Features:
        """Features of the cases' moments, computed where they are not there yet."""
        if self.encoding is None:
            return self.external.of(cases)
        if self.config.cache.kind != "none":
            self.say(f"features of {len(cases)} cases: {bytes_needed(cases, self.encoding) / 1e6:.4g} MB on disk")
        return features_of(cases, self.encoding, self.folder, self._progress)

    def check_features(self, probe: str) -> None:
        """Raises ValueError where features of all splits do not fit on the disk, or another encoder's do not serve."""
        if self.encoding is None:
            _ = self.external
            return
        learnt = probe or (self.config.probe.head != "knn" and (self.workdir / HEADS_FILE).exists())
        needed = [*self.cohort.val, *self.cohort.test, *(() if learnt else self.cohort.train)]
        check_room(needed, self.encoding, self.folder)

    def _progress(self, case: str, done: int, total: int) -> None:
        self.say(f"features: {done}/{total} windows, {case} finished")

    def truths(self, cases: Sequence[Case]) -> Truths:
        return Truths(self.cohort.benchmark, cases, self.reader)

    def tables(self, predictor: Predictor, cases: Sequence[Case], labelled: Sequence[Case]) -> Tables:
        """Tables of every candidate; frames are those of `cases`, labels those of `labelled`."""
        whole, batch = self.config.probe.head == "temporal", self.config.cache.batch
        return predict_tables(predictor, self.task, cases, self.features(cases), self.truths(labelled), batch, whole)

    # ---- stages ----

    def learn(self) -> _Learnt:
        """Trains every head on the training cases, or takes them from `heads.npz`."""
        config, cases, positions = self.config, self.cohort.train, self.positions()
        truths = self.truths(cases)
        objective, truth = self.objective(positions, truths)
        for note in objective.notes:
            self.say(f"note: {note}")
        if config.probe.head == "knn":
            data = TrainingSet(positions, self.features(cases), truths)
            near = NeighbourPredictor(data, objective.outputs, config.probe.neighbours)
            return _Learnt(near, objective.notes, len(positions))
        shape = self.shape(cases)
        head = head_for(config, objective, shape, typical_depth(truth) if objective.name == "depth" else 1.0)

        def batches(features: Features) -> Batches:
            data = TrainingSet(positions, features, truths)
            return Batches(data, config.probe.head, config.sweep.batch, config.sweep.seed)

        params = read_heads(self.workdir)
        if params is None:  # planned before features are computed, which may take hours
            planned = plan_heads(
                head, objective, batches(Zeros(shape)), config.sweep, self.layout(), self.workdir, self.say
            )
            params = train_heads(planned, batches(self.features(cases)), config.sweep, self.workdir, self.say)
        names = [f"lr={lr:g} wd={wd:g}" for lr, wd in config.sweep.grid.points]
        params, lost, notes = without_lost(params, names)
        for note in notes:
            self.say(f"note: {note}")
        predictor = HeadPredictor(head, objective, params, names)
        return _Learnt(predictor, (*objective.notes, *notes), len(positions), lost)

    def load(self, probe: str, saved: Mapping[str, Any]) -> _Learnt:
        """The chosen head of another evaluation, with the targets as they were there: those of the training cases."""
        choice, params = read_choice(probe), read_heads(probe)
        assert choice is not None, "looked for when the workdir was claimed"
        assert params is not None, "looked for when the workdir was claimed"
        positions, truths = self.positions(), self.truths(self.cohort.train)
        objective, truth = self.objective(positions, truths)
        scale = typical_depth(truth) if objective.name == "depth" else 1.0
        head = head_for(self.config, objective, self.shape(self.cohort.val), scale)
        _check_shapes(probe, jax.eval_shape(head.init, jax.random.key(0)), params)
        chosen = jax.tree.map(lambda leaf: leaf[choice.number : choice.number + 1], params)
        note = f"the head {saved['head']} was trained and chosen by another evaluation, whose settings are under probe"
        predictor = HeadPredictor(head, objective, chosen, [choice.name])
        return _Learnt(predictor, (*objective.notes, note), len(positions), probe=[dict(saved)])

    def choose(self, learnt: _Learnt) -> Choice:
        """Scores every candidate on the validation cases and writes the choice down."""
        cases = self.cohort.val
        tables = self.tables(learnt.predictor, cases, cases)
        choice = choose(self.task, learnt.predictor.names, tables, [case.id for case in cases], learnt.lost)
        write_choice(self.workdir, choice)
        self.say(f"chosen on {len(cases)} validation cases: {choice.name} ({choice.metric} {_best(choice):.4g})")
        return choice

    def report(self, learnt: _Learnt, choice: Choice, root: str) -> dict[str, Any]:
        """Reads the test labels, scores all candidates in one pass, and writes predictions and results."""
        cases = self.cohort.test
        labelled = read_test_cases(self.config.data, root, cases)
        tables = self.tables(learnt.predictor, cases, labelled)
        names, times = [case.id for case in cases], [case.times_N for case in cases]
        digest = write_predictions(self.workdir, names, times, tables[choice.number])
        if self.cohort.benchmark.family in DENSE:
            features, truths, most = self.features(cases), self.truths(labelled), self.config.report.pictures
            write_pictures(self.workdir, learnt.predictor, choice.number, cases, features, truths, self.reader, most)
        fields = self.fields(learnt, choice, tables) | {"predictions_sha256": digest}
        write_results(self.workdir, fields)
        return fields

    # ---- parts of the stages ----

    def positions(self) -> tuple[Position, ...]:
        """The moments that heads learn from. A temporal head reads whole videos, at the pace at which it is tested."""
        most = 0 if self.config.probe.head == "temporal" else self.config.data.train_windows
        return spread(in_order(self.cohort.train), most)

    def shape(self, cases: Sequence[Case]) -> tuple[int, ...]:
        """Of a moment's features; those of another encoder are read for it."""
        return self.encoding.shape if self.encoding else self.features(cases).shape

    def objective(self, positions: Sequence[Position], truths: Truths) -> tuple[Objective, Truth]:
        """What heads are trained towards, and the truth that decided it."""
        dense = self.cohort.benchmark.family in DENSE
        truth = truths.rows(spread(positions, DENSE_SAMPLE) if dense else positions)
        return self.task.objective(truth, self.config.sweep.class_weights), truth

    def layout(self) -> MeshLayout:
        return self.source.encoder.layout if self.source.encoder else MeshLayout(make_mesh(ParallelConfig()))

    def fields(self, learnt: _Learnt, choice: Choice, tables: Tables) -> dict[str, Any]:
        """The value of results.json."""
        benchmark, contents, report = self.cohort.benchmark, self.cohort.contents, self.config.report
        count = len(self.cohort.test)
        measured = [self.task.measures(candidate) for candidate in tables]
        found = [value_of(measures, self.task.choice, count) for measures in measured]
        values = [float("nan") if n in learnt.lost else value for n, (value, _) in enumerate(found)]
        found_best = best(values, found[0][1])
        oracle = choice.number if found_best is None else found_best
        scored = score(benchmark.name, measured[choice.number], count, report)
        return {
            "benchmark": benchmark.name,
            "title": benchmark.title,
            "family": benchmark.family,
            "protocol": contents.protocol,
            "recipe": self.config.data.recipe,
            "classes": {name: list(names) for name, names in contents.classes.items()},
            "encoder": self.source.identity,
            "config": self.config.result_fields,
            "probe": learnt.probe,
            "cases": {
                "train": [case.id for case in self.cohort.train],
                "val": [case.id for case in self.cohort.val],
                "test": [case.id for case in self.cohort.test],
            },
            "training_moments": learnt.moments,
            "chosen": {"name": choice.name, "number": choice.number, **scored_json(scored)},
            "oracle": {
                "note": "best candidate on the test cases: not a result, shown for how much choosing there adds",
                "name": learnt.predictor.names[oracle],
                **scored_json(score(benchmark.name, measured[oracle], count, None)),
            },
            "candidates": self.candidates(learnt, choice, values),
            "choice": {"metric": choice.metric, "convention": choice.convention},
            "sd_over_cases": sd_over_cases(measured[choice.number], count),
            "notes": [*learnt.notes, *case_notes(self.cohort.test, contents.absent)],
        }

    def candidates(self, learnt: _Learnt, choice: Choice, values: Sequence[float]) -> list[dict[str, Any]]:
        """Every head with what it reached on validation and test cases."""
        shown = [float(value) if np.isfinite(value) else None for value in values]
        rows = zip(learnt.predictor.names, choice.values, shown, strict=True)
        return [{"name": name, "val": val, "test": test} for name, val, test in rows]


def _best(choice: Choice) -> float:
    value = choice.values[choice.number]
    return float("nan") if value is None else value


def _check_shapes(probe: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raises ValueError where a saved head has not the shapes that this encoder and config need."""
    need = {path: list(leaf.shape) for path, leaf in leaves_by_path(wanted).items()}
    have = {path: list(leaf.shape[1:]) for path, leaf in leaves_by_path(found).items()}
    if need != have:
        path = next(path for path in sorted({*need, *have}) if need.get(path) != have.get(path))
        raise ValueError(
            f"{probe}: its heads do not fit this encoder and config: {path} is {have.get(path, 'absent')}, needed is "
            f"{need.get(path, 'absent')}; use the config, encoder and benchmark of that evaluation"
        )
