"""Several folds as one evaluation: every fold has its own heads and choice, its test cases are scored together.

A folder for each fold lies in the workdir, and the features that they share. Fold by fold, heads are chosen on
validation cases of that fold; measures are computed once, over the test cases of all folds.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence

import jax
import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.evaluate.claim import claim
from surgmotion_jax.evaluate.cohort import read_cohort
from surgmotion_jax.evaluate.config import EvaluateConfig
from surgmotion_jax.evaluate.features.external import ExternalFeatures
from surgmotion_jax.evaluate.features.of_cohort import Say
from surgmotion_jax.evaluate.finetune.scope import check_encoder
from surgmotion_jax.evaluate.heads.of_tasks import KIND_OF_HEAD, check_head, with_attention
from surgmotion_jax.evaluate.results import (
    CONFIG_FILE,
    ONE_CASE,
    RESULTS_FILE,
    Candidate,
    FoldMean,
    Results,
    SavedHead,
    read_predictions,
    read_results,
    scored_json,
    sd_over_cases,
    write_predictions,
    write_results,
)
from surgmotion_jax.evaluate.run import FEATURES_FOLDER, evaluate
from surgmotion_jax.evaluate.source import Source
from surgmotion_jax.evaluate.tasks.families import task_of_results
from surgmotion_jax.evaluate.tasks.task import Table, score

ONE_A_FOLD = "one a fold"
SD_NOTE = "mean and standard deviation (divisor n - 1) over the folds that define a measure"
RANKS_NOTE = (
    "a rank correlation over the trials of all folds ranks scores of several heads together, whose scales may differ; "
    "that of each fold, and their mean, are beside it"
)


def evaluate_protocol(
    config: EvaluateConfig,
    source: Source,
    root: str,
    workdir: storage.PathLike,
    *,
    probe: str = "",
    say: Say = lambda text: None,
) -> Results:
    """`run.evaluate` for a protocol that may pool several folds, such as `louo` of JIGSAWS.

    Raises ValueError as `run.evaluate` does, and where two folds test the same case.
    """
    platform = source.encoder.layout.platform if source.encoder else jax.default_backend()
    config = with_attention(config, platform, source.encoder.width if source.encoder else 0)
    benchmark = catalogue.get(config.data.benchmark, root)
    members = benchmark.pooled.get(config.data.protocol)
    if members is None:
        return evaluate(config, source, root, workdir, probe=probe, say=say)
    check_head(benchmark.family, config.probe.head)
    check_encoder(config.finetune, source.encoder.config.encoder.depth if source.encoder else None)
    of_fold = {member: dataclasses.replace(config.data, protocol=member) for member in members}
    # A fold that cannot be must not leave a workdir begun.
    cohorts = [read_cohort(data, root) for data in of_fold.values()]
    used = list({case.id: case for cohort in cohorts for case in cohort.cases}.values())  # most are in every fold
    path = storage.as_path(workdir)
    if source.encoder is None and not (path / RESULTS_FILE).exists():
        ExternalFeatures(source.features, used, KIND_OF_HEAD[config.probe.head])
    saved = claim(workdir, config, source.using(used), config.data.protocol, probe, folds=tuple(members))["probe"]
    found: dict[str, Results] = {}
    for member, data in of_fold.items():
        say(f"fold {member}")
        fold = dataclasses.replace(config, data=data)
        head = os.path.join(probe, member) if probe else ""
        features = path / FEATURES_FOLDER
        found[member] = evaluate(fold, source, root, path / member, probe=head, features=features, say=say)
    if (path / RESULTS_FILE).exists():  # asked for last: each fold has checked its data by now
        say("this evaluation is finished")
        return read_results(path)
    return pool(config, found, path, saved)


def pool(
    config: EvaluateConfig,
    found: Mapping[str, Results],
    workdir: storage.PathLike,
    saved: list[SavedHead] | None = None,
) -> Results:
    """Writes and returns the results over the test cases of all folds; `saved` are heads of another evaluation."""
    path = storage.as_path(workdir)
    tables: dict[str, Table] = {}
    for member in found:
        for case, table in read_predictions(path / member).items():
            if case in tables:
                raise ValueError(f"{path / member}: case {case!r} is tested in two folds; a case must count once")
            tables[case] = table
    times = [table.pop("time") for table in tables.values()]
    digest = write_predictions(path, list(tables), times, list(tables.values()))
    first = next(iter(found.values()))
    measures = task_of_results(first).measures(list(tables.values()))
    scored = score(first["benchmark"], measures, len(tables), config.report)
    fields: Results = {
        "benchmark": first["benchmark"],
        "title": first["title"],
        "family": first["family"],
        "recipe": first["recipe"],
        "classes": first["classes"],
        "choice": first["choice"],
        "encoder": storage.read_json(path / CONFIG_FILE)["encoder"],  # with the files of all folds
        "protocol": config.data.protocol,
        "config": config.result_fields,
        "probe": saved,
        "cases": {split: _distinct(fold["cases"][split] for fold in found.values()) for split in first["cases"]},
        "training_moments": sum(fold["training_moments"] for fold in found.values()),
        "chosen": {"name": ONE_A_FOLD, "number": None, **scored_json(scored)},
        "oracle": {
            "name": ONE_A_FOLD,
            "note": "the results of each fold, in its folder, have one",
            "results": [],
            "undefined": [],
        },
        "candidates": [_of_fold(member, fold) for member, fold in found.items()],
        "folds": {member: fold["chosen"]["results"] for member, fold in found.items()},
        "folds_mean_sd": {"note": SD_NOTE, "results": over_folds(found)},
        "sd_over_cases": sd_over_cases(measures, len(tables)),
        "notes": notes_of_folds({member: fold["notes"] for member, fold in found.items()})
        + ([RANKS_NOTE] if first["family"] == "skill" else []),
        "predictions_sha256": digest,
    }
    write_results(path, fields)
    return fields


def over_folds(found: Mapping[str, Results]) -> list[FoldMean]:
    """Mean and standard deviation over folds of each measure, with the number of folds; one fold has no deviation."""
    values: dict[tuple[str, str], list[float]] = {}
    for fold in found.values():
        for row in fold["chosen"]["results"]:
            values.setdefault((row["metric"], row["convention"]), []).append(row["value"])
    return [
        {
            "metric": metric,
            "convention": convention,
            "mean": float(np.mean(each)),
            "sd": float(np.std(each, ddof=1)) if len(each) > 1 else None,
            "folds": len(each),
        }
        for (metric, convention), each in values.items()
    ]


def notes_of_folds(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """Each note once, after the folds that have it. That a fold has one test case says nothing of all cases."""
    members: dict[str, list[str]] = {}
    for member, of_member in notes.items():
        for note in of_member:
            if note != ONE_CASE:
                members.setdefault(note, []).append(member)
    return [f"{'all folds' if len(m) == len(notes) else ', '.join(m)}: {note}" for note, m in members.items()]


def _of_fold(member: str, fold: Results) -> Candidate:
    """The chosen head of a fold."""
    number = fold["chosen"]["number"]
    assert number is not None, "a fold has one head"
    chosen = fold["candidates"][number]
    return {"name": f"{member}: {chosen['name']}", "val": chosen["val"], "test": chosen["test"]}


def _distinct(lists: Iterable[Sequence[str]]) -> list[str]:
    """Entries of all lists, each once, in the order in which they come."""
    return list(dict.fromkeys(entry for part in lists for entry in part))
