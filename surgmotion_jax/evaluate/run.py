"""An evaluation from beginning to end: features, heads, choice, and only then the test labels.

Each stage leaves a file that appears whole, so an evaluation that was interrupted is repeated and goes on: features
by case, `strategy.json`, the sweep by steps, `heads.npz`, `choice.json`, `predictions.csv`, `results.json`.
"""

from __future__ import annotations

from surgmotion_jax import storage
from surgmotion_jax.evaluate.choice import Choice, choose, read_choice, write_choice
from surgmotion_jax.evaluate.claim import claim
from surgmotion_jax.evaluate.cohort import read_cohort, read_test_cases
from surgmotion_jax.evaluate.config import UNTRAINED_HEADS, EvaluateConfig
from surgmotion_jax.evaluate.evaluation import Evaluation
from surgmotion_jax.evaluate.features.of_cohort import CohortFeatures, Say
from surgmotion_jax.evaluate.finetune.scope import check_encoder
from surgmotion_jax.evaluate.fingerprint import fingerprint
from surgmotion_jax.evaluate.heads.fit import HEADS_FILE
from surgmotion_jax.evaluate.heads.of_tasks import check_head
from surgmotion_jax.evaluate.learning import Learnt, learn, load
from surgmotion_jax.evaluate.reporting import report
from surgmotion_jax.evaluate.results import RESULTS_FILE, Results, read_results
from surgmotion_jax.evaluate.source import Source

FEATURES_FOLDER = "features"


def evaluate(
    config: EvaluateConfig,
    source: Source,
    root: str,
    workdir: storage.PathLike,
    *,
    probe: str = "",
    features: storage.PathLike = "",
    say: Say = lambda text: None,
) -> Results:
    """Evaluates an encoder, or features of another one; writes everything to `workdir` and returns results.json.

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
    cohort, path = read_cohort(config.data, root), storage.as_path(workdir)
    check_head(cohort.benchmark.family, config.probe.head)
    check_encoder(config.finetune, source.encoder.config.encoder.depth if source.encoder else None)
    source = source.using(cohort.cases)
    of_cohort = CohortFeatures(config, source, cohort, features or path / FEATURES_FOLDER, say)
    seen, finished = fingerprint(cohort), (path / RESULTS_FILE).exists()
    if source.encoder is None:  # a head depends on these files alone; another may be scored on other test cases
        seen["features"] = source.digest([*cohort.train, *cohort.val])
    if not finished:  # asked before the workdir is claimed, for the remedy may be another config
        trained = config.probe.head not in UNTRAINED_HEADS and (path / HEADS_FILE).exists()
        of_cohort.check(learnt=bool(probe) or trained)
    saved = claim(workdir, config, source, cohort.contents.protocol, probe, seen)["probe"]
    if finished:
        say("this evaluation is finished")
        return read_results(path)
    work = Evaluation(config, cohort, of_cohort, path, say)
    learnt = load(work, probe, saved[0]) if saved else learn(work)
    choice = read_choice(path) or chosen(work, learnt)
    return report(work, learnt, choice, read_test_cases(config.data, root, cohort.test))


def chosen(work: Evaluation, learnt: Learnt) -> Choice:
    """Scores every candidate on the validation cases and writes the choice down."""
    cases = work.cohort.val
    tables = work.tables(learnt.predictor, cases, cases)
    choice = choose(work.task, learnt.predictor.names, tables, [case.id for case in cases], learnt.lost)
    write_choice(work.workdir, choice)
    work.say(f"chosen on {len(cases)} validation cases: {choice.name} ({choice.metric} {choice.value:.4g})")
    return choice
