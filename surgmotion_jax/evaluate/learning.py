"""What candidates there are: heads trained on the training cases, alone or with the encoder, nearest neighbours among
them, or a head that another evaluation chose."""

from __future__ import annotations

from dataclasses import dataclass

import jax

from surgmotion_jax.checkpoints.tree import leaves_by_path
from surgmotion_jax.evaluate.claim import chosen_head
from surgmotion_jax.evaluate.evaluation import Evaluation
from surgmotion_jax.evaluate.features.cache import Features
from surgmotion_jax.evaluate.features.windows_of_cases import Position, in_order
from surgmotion_jax.evaluate.finetune.network import Network, make_network
from surgmotion_jax.evaluate.finetune.predictor import TunedPredictor
from surgmotion_jax.evaluate.finetune.step import Tuning
from surgmotion_jax.evaluate.finetune.training import plan_candidates, train_candidates
from surgmotion_jax.evaluate.heads.constant import ConstantPredictor
from surgmotion_jax.evaluate.heads.fit import (
    Batches,
    TrainingSet,
    Zeros,
    plan_heads,
    read_heads,
    train_heads,
    without_lost,
)
from surgmotion_jax.evaluate.heads.networks import Head
from surgmotion_jax.evaluate.heads.of_tasks import PIXELS, head_for, wanted_features
from surgmotion_jax.evaluate.heads.predictors import HeadPredictor, NeighbourPredictor, Predictor, spread
from surgmotion_jax.evaluate.heads.targets import Objective
from surgmotion_jax.evaluate.results import SavedHead
from surgmotion_jax.evaluate.tasks.depth import typical_depth
from surgmotion_jax.evaluate.tasks.families import DENSE, Truths
from surgmotion_jax.models.layout import Layout
from surgmotion_jax.models.parameters import Params
from surgmotion_jax.parallel.mesh import OneDevice

DENSE_SAMPLE = 64  # training images whose truth decides a typical depth, or a constant answer


@dataclass(frozen=True)
class Learnt:
    """The candidates, and what is to be known of them."""

    predictor: Predictor
    notes: tuple[str, ...]  # what the training labels lack, heads that were lost, whose head it is
    moments: int  # learnt from
    lost: tuple[int, ...] = ()  # heads that diverged: they are neither chosen nor the oracle
    probe: list[SavedHead] | None = None  # the head of another evaluation


@dataclass(frozen=True, eq=False)
class Lesson:
    """What there is to learn from the training cases."""

    positions: tuple[Position, ...]  # the moments learnt from
    truths: Truths
    objective: Objective
    scale: float  # a typical depth; 1 for what is no depth

    def head(self, work: Evaluation, shape: tuple[int, ...], layout: Layout | None = None) -> Head:
        """The head for features of `shape`; without a layout it is whole on one device."""
        layout = layout or OneDevice(work.features.layout)
        return head_for(work.config, self.objective, shape, self.scale, layout)

    def network(self, work: Evaluation) -> Network:
        """The encoder with the head on it, where both are trained."""
        config, encoder = work.config, work.features.source.encoder
        assert encoder is not None, "looked for when the evaluation began"
        wanted = wanted_features(config, encoder.config.encoder.depth)
        head = self.head(work, wanted.shape(encoder, config.data), encoder.layout)
        return make_network(encoder, head, wanted, config.finetune, config.data)


def lesson_of(work: Evaluation) -> Lesson:
    """A temporal head reads whole videos, at the pace at which it is tested."""
    config, cases = work.config, work.cohort.train
    most = 0 if config.probe.head == "temporal" else config.data.train_windows
    positions, truths = spread(in_order(cases), most), work.truths(cases)
    dense = work.cohort.benchmark.family in DENSE
    truth = truths.rows(spread(positions, DENSE_SAMPLE) if dense else positions)
    objective = work.task.objective(truth, config.sweep.class_weights)
    return Lesson(positions, truths, objective, typical_depth(truth) if objective.name == "depth" else 1.0)


def learn(work: Evaluation) -> Learnt:
    """Trains every head on the training cases, or takes them from `heads.npz`; nearest neighbours learn nothing."""
    lesson = lesson_of(work)
    for note in lesson.objective.notes:
        work.say(f"note: {note}")
    if work.config.finetune.trains:
        return _networks(work, lesson)
    untrained = {"knn": _neighbours, "constant": _constant}
    return untrained.get(work.config.probe.head, _heads)(work, lesson)


def _neighbours(work: Evaluation, lesson: Lesson) -> Learnt:
    data = TrainingSet(lesson.positions, work.features.of(work.cohort.train), lesson.truths)
    near = NeighbourPredictor(data, lesson.objective.outputs, work.config.probe.neighbours)
    return Learnt(near, lesson.objective.notes, len(lesson.positions))


def _constant(work: Evaluation, lesson: Lesson) -> Learnt:
    dense = work.cohort.benchmark.family in DENSE
    truth = lesson.truths.rows(spread(lesson.positions, DENSE_SAMPLE) if dense else lesson.positions)
    constant = ConstantPredictor(truth, lesson.objective.outputs)
    note = "the head looks at nothing: it answers with the mean of the training truth"
    return Learnt(constant, (*lesson.objective.notes, note), len(lesson.positions))


def _heads(work: Evaluation, lesson: Lesson) -> Learnt:
    config, cases, objective = work.config, work.cohort.train, lesson.objective
    shape = work.features.shape(cases)
    head = lesson.head(work, shape)

    def batches(features: Features) -> Batches:
        data = TrainingSet(lesson.positions, features, lesson.truths)
        return Batches(data, config.probe.head, config.sweep.batch, config.sweep.seed)

    params = read_heads(work.workdir)
    if params is None:  # planned before features are computed, which may take hours
        zeros, place = batches(Zeros(shape)), work.workdir
        planned = plan_heads(head, objective, zeros, config.sweep, work.features.layout, place, work.say)
        params = train_heads(planned, batches(work.features.of(cases)), config.sweep, place, work.say)
    params, names, lost, notes = _sound(work, params)
    predictor = HeadPredictor(head, objective, params, names)
    return Learnt(predictor, (*objective.notes, *notes), len(lesson.positions), lost)


def _networks(work: Evaluation, lesson: Lesson) -> Learnt:
    """As `_heads`, with a copy of the encoder in each candidate."""
    config, cases, objective = work.config, work.cohort.train, lesson.objective
    network = lesson.network(work)

    def batches(features: Features) -> Batches:
        data = TrainingSet(lesson.positions, features, lesson.truths)
        return Batches(data, PIXELS, config.sweep.batch, config.sweep.seed)

    params = read_heads(work.workdir)
    if params is None:
        zeros = batches(Zeros(work.features.shape(cases), "uint8"))
        tuning = Tuning(network, objective, config.sweep.epochs * zeros.of_epoch, config.sweep.seed)
        planned = plan_candidates(tuning, zeros, config.sweep, work.workdir, work.say)
        params = train_candidates(planned, batches(work.features.of(cases)), config.sweep, work.say)
    params, names, lost, notes = _sound(work, params)
    predictor = TunedPredictor(network, objective, params, names)
    tuned = f"the encoder was fine-tuned ({config.finetune.blocks}), not frozen"
    return Learnt(predictor, (*objective.notes, tuned, *notes), len(lesson.positions), lost)


def _sound(work: Evaluation, params: Params) -> tuple[Params, list[str], tuple[int, ...], tuple[str, ...]]:
    """(parameters, names of candidates, numbers of those that diverged, a note that names them)."""
    names = [f"lr={lr:g} wd={wd:g}" for lr, wd in work.config.sweep.grid.points]
    params, lost, notes = without_lost(params, names)
    for note in notes:
        work.say(f"note: {note}")
    return params, names, lost, notes


def load(work: Evaluation, probe: str, saved: SavedHead) -> Learnt:
    """The chosen head of another evaluation, with the targets as they were there: those of the training cases."""
    choice, chosen = chosen_head(probe)
    lesson = lesson_of(work)
    note = f"the head {saved['head']} was trained and chosen by another evaluation, whose settings are under probe"
    predictor = _loaded(work, lesson, probe, chosen, choice.name)
    return Learnt(predictor, (*lesson.objective.notes, note), len(lesson.positions), probe=[saved])


def _loaded(work: Evaluation, lesson: Lesson, probe: str, chosen: Params, name: str) -> Predictor:
    """The chosen head, or the encoder that was trained with it. Raises ValueError where it does not fit."""
    if work.config.finetune.trains:
        network = lesson.network(work)
        _check_shapes(probe, network.abstract, chosen)
        return TunedPredictor(network, lesson.objective, chosen, [name])
    head = lesson.head(work, work.features.shape(work.cohort.val))
    _check_shapes(probe, jax.eval_shape(head.init, jax.random.key(0)), chosen)
    return HeadPredictor(head, lesson.objective, chosen, [name])


def _check_shapes(probe: str, wanted: Params, found: Params) -> None:
    """Raises ValueError where a saved head has not the shapes that this encoder and config need."""
    need = {path: list(leaf.shape) for path, leaf in leaves_by_path(wanted).items()}
    have = {path: list(leaf.shape[1:]) for path, leaf in leaves_by_path(found).items()}
    if need != have:
        path = next(path for path in sorted({*need, *have}) if need.get(path) != have.get(path))
        raise ValueError(
            f"{probe}: its heads do not fit this encoder and config: {path} is {have.get(path, 'absent')}, needed is "
            f"{need.get(path, 'absent')}; use the config, encoder and benchmark of that evaluation"
        )
