"""The test cases scored: predictions and pictures on disk, and the value of results.json."""

from __future__ import annotations

import math
from collections.abc import Sequence

from surgmotion_jax.benchmarks.benchmark import Case
from surgmotion_jax.evaluate.choice import Choice, best
from surgmotion_jax.evaluate.evaluation import Evaluation
from surgmotion_jax.evaluate.features.windows_of_cases import WindowReader
from surgmotion_jax.evaluate.heads.predictors import Tables
from surgmotion_jax.evaluate.learning import Learnt
from surgmotion_jax.evaluate.overlays import write_pictures
from surgmotion_jax.evaluate.results import (
    Candidate,
    Results,
    case_notes,
    scored_json,
    sd_over_cases,
    write_predictions,
    write_results,
)
from surgmotion_jax.evaluate.tasks.families import DENSE
from surgmotion_jax.evaluate.tasks.task import score, value_of

ORACLE = "best candidate on the test cases: not a result, shown for how much choosing there adds"


def report(work: Evaluation, learnt: Learnt, choice: Choice, labelled: Sequence[Case]) -> Results:
    """Scores all candidates in one pass over the test cases, which `labelled` has with their labels, and writes
    predictions and results."""
    cases, config = work.cohort.test, work.config
    tables = work.tables(learnt.predictor, cases, labelled)
    names, times = [case.id for case in cases], [case.times_N for case in cases]
    digest = write_predictions(work.workdir, names, times, tables[choice.number])
    if work.cohort.benchmark.family in DENSE:
        features, truths, reader = work.features.of(cases), work.truths(labelled), WindowReader(config.data)
        most = config.report.pictures
        write_pictures(work.workdir, learnt.predictor, choice.number, cases, features, truths, reader, most)
    results = results_of(work, learnt, choice, tables, digest)
    write_results(work.workdir, results)
    return results


def results_of(work: Evaluation, learnt: Learnt, choice: Choice, tables: Tables, digest: str) -> Results:
    """The value of results.json. `digest` is that of the predictions."""
    benchmark, contents, cohort = work.cohort.benchmark, work.cohort.contents, work.cohort
    count = len(cohort.test)
    measured = [work.task.measures(candidate) for candidate in tables]
    found = [value_of(measures, work.task.choice, count) for measures in measured]
    values = [math.nan if n in learnt.lost else value for n, (value, _) in enumerate(found)]
    found_best = best(values, found[0][1])
    oracle = choice.number if found_best is None else found_best
    scored = score(benchmark.name, measured[choice.number], count, work.config.report)
    return {
        "benchmark": benchmark.name,
        "title": benchmark.title,
        "family": benchmark.family,
        "protocol": contents.protocol,
        "recipe": work.config.data.recipe,
        "classes": {name: list(names) for name, names in contents.classes.items()},
        "encoder": work.features.source.identity,
        "config": work.config.result_fields,
        "probe": learnt.probe,
        "cases": cohort.ids,
        "training_moments": learnt.moments,
        "chosen": {"name": choice.name, "number": choice.number, **scored_json(scored)},
        "oracle": {
            "note": ORACLE,
            "name": learnt.predictor.names[oracle],
            **scored_json(score(benchmark.name, measured[oracle], count, None)),
        },
        "candidates": _candidates(choice, values),
        "choice": {"metric": choice.metric, "convention": choice.convention},
        "sd_over_cases": sd_over_cases(measured[choice.number], count),
        "notes": [*learnt.notes, *case_notes(cohort.test, contents.absent)],
        "predictions_sha256": digest,
    }


def _candidates(choice: Choice, values: Sequence[float]) -> list[Candidate]:
    """Every candidate with what it reached on validation and test cases."""
    shown = [value if math.isfinite(value) else None for value in values]
    rows = zip(choice.names, choice.values, shown, strict=True)
    return [{"name": name, "val": val, "test": test} for name, val, test in rows]
