"""An evaluation from beginning to end: features, heads, choice, and only then the test labels.

Each stage leaves a file that appears whole, so an evaluation that was interrupted is repeated and goes on: features
by case, the sweep by steps, `heads.npz`, `choice.json`, `predictions.csv`, `results.json`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.benchmarks.benchmark import Case
from surgmotion_jax.checkpoints.errors import LISTED
from surgmotion_jax.checkpoints.tree import leaves_by_path
from surgmotion_jax.evaluate.choice import Choice, best, choose, read_choice, write_choice
from surgmotion_jax.evaluate.cohort import Cohort, read_cohort, read_test_cases
from surgmotion_jax.evaluate.config import EvaluateConfig
from surgmotion_jax.evaluate.external import ExternalFeatures, digest_of_files
from surgmotion_jax.evaluate.feature_cache import Encoding, Features, bytes_needed, features_of
from surgmotion_jax.evaluate.feature_index import differing
from surgmotion_jax.evaluate.fingerprint import check_probe, fingerprint
from surgmotion_jax.evaluate.fit import HEADS_FILE, Batches, TrainingSet, load_tree, train_heads
from surgmotion_jax.evaluate.frozen import FrozenEncoder
from surgmotion_jax.evaluate.heads_of_tasks import KIND_OF_HEAD, check_head, head_for, wanted_features
from surgmotion_jax.evaluate.overlays import write_pictures
from surgmotion_jax.evaluate.predictors import (
    HeadPredictor,
    NeighbourPredictor,
    Predictor,
    Tables,
    predict_tables,
    spread,
)
from surgmotion_jax.evaluate.results import (
    CONFIG_FILE,
    RESULTS_FILE,
    case_notes,
    scored_json,
    sd_over_cases,
    write_predictions,
    write_results,
)
from surgmotion_jax.evaluate.targets import Objective
from surgmotion_jax.evaluate.tasks.depth import typical_depth
from surgmotion_jax.evaluate.tasks.families import DENSE, Truths, make_task
from surgmotion_jax.evaluate.tasks.task import Task, Truth, score, value_of
from surgmotion_jax.evaluate.windows_of_cases import WindowReader, in_order
from surgmotion_jax.models.architecture import architecture
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh

FEATURES_FOLDER = "features"
DENSE_SAMPLE = 64  # training images whose truth decides a typical depth

Say = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """Where features come from: an encoder, or a folder of another encoder's features."""

    encoder: FrozenEncoder | None = None
    features: str = ""  # folder
    files: str = ""  # digest of the files of the folder that are used
    known: dict[str, str] = dataclasses.field(default_factory=dict, repr=False, compare=False)  # of each file read

    def digest(self, cases: Sequence[Case]) -> str:
        """Of the cases' files of features; an encoder has none. Raises ValueError for a case without a file."""
        return "" if self.encoder else digest_of_files(self.features, cases, self.known)

    def using(self, cases: Sequence[Case]) -> Source:
        """The same, identified by the contents of the cases' files too: folders of one name may differ."""
        return dataclasses.replace(self, files=self.digest(cases))

    @property
    def identity(self) -> dict[str, Any]:
        """What tells one encoder from another, as plain JSON values."""
        if self.encoder is None:
            name = {"features": os.path.basename(os.path.abspath(self.features))}
            return name | ({"files": self.files} if self.files else {})
        origin = self.encoder.origin
        return {
            "name": origin.name,
            "weights": list(origin.weights),
            "step": origin.step,
            "digest": origin.digest,
            "dtype": self.encoder.config.dtype,
        }


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
    claim(workdir, config, source, cohort.contents.protocol, probe, seen)
    if (storage.as_path(workdir) / RESULTS_FILE).exists():
        say("this evaluation is finished")
        return dict(storage.read_json(storage.as_path(workdir) / RESULTS_FILE))
    learnt = stage.learn() if not probe else stage.load(probe)
    choice = read_choice(workdir) or stage.choose(learnt)
    return stage.report(learnt, choice, root)


@dataclass(frozen=True)
class _Learnt:
    predictor: Predictor
    notes: tuple[str, ...]  # what the training labels lack
    moments: int  # learnt from


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

    def features(self, cases: Sequence[Case]) -> Features:
        """Features of the cases' moments, computed where they are not there yet."""
        if self.encoding is None:
            return ExternalFeatures(self.source.features, cases, KIND_OF_HEAD[self.config.probe.head])
        if self.config.cache.kind != "none":
            self.say(f"features of {len(cases)} cases: {bytes_needed(cases, self.encoding) / 1e6:.4g} MB on disk")
        return features_of(cases, self.encoding, self.folder, self._progress)

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
        config, data = self.config, self.training_set()
        objective, truth = self.objective(data)
        for note in objective.notes:
            self.say(f"note: {note}")
        if config.probe.head == "knn":
            predictor: Predictor = NeighbourPredictor(data, objective.outputs, config.probe.neighbours)
            return _Learnt(predictor, objective.notes, len(data.positions))
        scale = typical_depth(truth) if objective.name == "depth" else 1.0
        head = head_for(config, objective, data.features.shape, scale)
        batches = Batches(data, config.probe.head, config.sweep.batch, config.sweep.seed)
        params = train_heads(head, objective, batches, config.sweep, self.layout(), self.workdir, self.say)
        names = [f"lr={lr:g} wd={wd:g}" for lr, wd in config.sweep.grid.points]
        return _Learnt(HeadPredictor(head, objective, params, names), objective.notes, len(data.positions))

    def load(self, probe: str) -> _Learnt:
        """The chosen head of another evaluation, with the targets as they were there: those of the training cases."""
        choice = read_choice(probe)
        if choice is None:
            raise ValueError(f"{probe}: no choice.json; --probe names the workdir of a finished surgmotion evaluate")
        params, _ = load_tree(storage.as_path(probe) / HEADS_FILE)
        data = self.training_set()
        objective, truth = self.objective(data)
        scale = typical_depth(truth) if objective.name == "depth" else 1.0
        head = head_for(self.config, objective, data.features.shape, scale)
        _check_shapes(probe, jax.eval_shape(head.init, jax.random.key(0)), params)
        chosen = jax.tree.map(lambda leaf: leaf[choice.number : choice.number + 1], params)
        return _Learnt(HeadPredictor(head, objective, chosen, [choice.name]), objective.notes, len(data.positions))

    def choose(self, learnt: _Learnt) -> Choice:
        """Scores every candidate on the validation cases and writes the choice down."""
        cases = self.cohort.val
        tables = self.tables(learnt.predictor, cases, cases)
        choice = choose(self.task, learnt.predictor.names, tables, [case.id for case in cases])
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

    def training_set(self) -> TrainingSet:
        cases = self.cohort.train
        positions = spread(in_order(cases), self.config.data.train_windows)
        return TrainingSet(positions, self.features(cases), self.truths(cases))

    def objective(self, data: TrainingSet) -> tuple[Objective, Truth]:
        """What heads are trained towards, and the truth that decided it."""
        dense = self.cohort.benchmark.family in DENSE
        truth = data.truths.rows(spread(data.positions, DENSE_SAMPLE) if dense else data.positions)
        return self.task.objective(truth, self.config.sweep.class_weights), truth

    def layout(self) -> MeshLayout:
        return self.source.encoder.layout if self.source.encoder else MeshLayout(make_mesh(ParallelConfig()))

    def fields(self, learnt: _Learnt, choice: Choice, tables: Tables) -> dict[str, Any]:
        """The value of results.json."""
        benchmark, contents, report = self.cohort.benchmark, self.cohort.contents, self.config.report
        count = len(self.cohort.test)
        measured = [self.task.measures(candidate) for candidate in tables]
        values = [value_of(measures, self.task.choice, count) for measures in measured]
        oracle = best([value for value, _ in values], values[0][1])
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
            "cases": {
                "train": [case.id for case in self.cohort.train],
                "val": [case.id for case in self.cohort.val],
                "test": [case.id for case in self.cohort.test],
            },
            "training_moments": learnt.moments,
            "chosen": {"name": choice.name, "number": choice.number, **scored_json(scored)},
            "oracle": {
                "note": "best candidate on the test cases: not a result, shown for how much choosing there adds",
                "name": learnt.predictor.names[oracle or 0],
                **scored_json(score(benchmark.name, measured[oracle or 0], count, None)),
            },
            "candidates": self.candidates(learnt, choice, [value for value, _ in values]),
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


def claim(
    workdir: storage.PathLike,
    config: EvaluateConfig,
    source: Source,
    protocol: str,
    probe: str,
    data: Mapping[str, Any] | None = None,
) -> None:
    """Writes what this evaluation is, or raises ValueError where the workdir or the probe is of another.

    `data` is the fingerprint of training and validation cases, where the evaluation has one set of them.
    """
    found = {
        "architecture": architecture(source.encoder.config) if source.encoder else None,
        "config": config.result_fields,
        "encoder": source.identity,
        "protocol": protocol,
        "probe": os.path.basename(os.path.abspath(probe)) if probe else "",
        "data": data,
    }
    text = json.dumps(found, indent=1, sort_keys=True)
    fields = json.loads(text)  # as it is read back
    if probe:
        check_probe(probe, fields)
    path = storage.ensure_writable(workdir) / CONFIG_FILE
    if not path.exists():
        storage.write_text_atomic(path, text + "\n")
        return
    differences = differing(storage.read_json(path), fields, "evaluation")
    if differences:
        listed = "\n  ".join(differences[:LISTED])
        raise ValueError(f"{path}: the workdir holds another evaluation:\n  {listed}\nChoose another --workdir.")


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
