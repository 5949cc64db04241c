"""Several folds as one evaluation: every fold has its own heads and choice, its test cases are scored together.

A folder for each fold lies in the workdir, and the features that they share. Fold by fold, heads are chosen on
validation cases of that fold; measures are computed once, over the test cases of all folds.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from surgmotion_jax import storage
from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.evaluate.cohort import read_cohort
from surgmotion_jax.evaluate.config import EvaluateConfig
from surgmotion_jax.evaluate.heads_of_tasks import check_head
from surgmotion_jax.evaluate.results import (
    RESULTS_FILE,
    read_predictions,
    read_results,
    scored_json,
    write_predictions,
    write_results,
)
from surgmotion_jax.evaluate.run import FEATURES_FOLDER, Say, Source, claim, evaluate
from surgmotion_jax.evaluate.tasks.families import task_of_results
from surgmotion_jax.evaluate.tasks.task import Table, score

ONE_A_FOLD = "one a fold"


def evaluate_protocol(
    config: EvaluateConfig,
    source: Source,
    root: str,
    workdir: storage.PathLike,
    *,
    probe: str = "",
    say: Say = lambda text: None,
) -> dict[str, Any]:
    """`run.evaluate` for a protocol that may pool several folds, such as `louo` of JIGSAWS.

    Raises ValueError as `run.evaluate` does, and where two folds test the same case.
    """
    benchmark = catalogue.get(config.data.benchmark)
    members = benchmark.pooled.get(config.data.protocol)
    if members is None:
        return evaluate(config, source, root, workdir, probe=probe, say=say)
    check_head(benchmark.family, config.probe.head)
    of_fold = {member: dataclasses.replace(config.data, protocol=member) for member in members}
    for data in of_fold.values():  # a fold that cannot be must not leave a workdir begun
        read_cohort(data, root)
    claim(workdir, config, source, config.data.protocol, probe)
    path = storage.as_path(workdir)
    found: dict[str, dict[str, Any]] = {}
    for member, data in of_fold.items():
        say(f"fold {member}")
        fold = dataclasses.replace(config, data=data)
        head = os.path.join(probe, member) if probe else ""
        features = path / FEATURES_FOLDER
        found[member] = evaluate(fold, source, root, path / member, probe=head, features=features, say=say)
    if (path / RESULTS_FILE).exists():  # asked for last: each fold has checked its data by now
        say("this evaluation is finished")
        return read_results(path)
    return pool(config, found, path)


def pool(config: EvaluateConfig, found: Mapping[str, Mapping[str, Any]], path: Any) -> dict[str, Any]:
    """Writes and returns the results over the test cases of all folds."""
    tables: dict[str, Table] = {}
    for member in found:
        for case, table in read_predictions(path / member).items():
            if case in tables:
                raise ValueError(f"{path / member}: case {case!r} is tested in two folds; a case must count once")
            tables[case] = table
    times = [table.pop("time") for table in tables.values()]
    digest = write_predictions(path, list(tables), times, list(tables.values()))
    first = next(iter(found.values()))
    scored = score(
        first["benchmark"], task_of_results(first).measures(list(tables.values())), len(tables), config.report
    )
    shared = ("benchmark", "title", "family", "recipe", "classes", "encoder", "choice")
    fields = {name: first[name] for name in shared} | {
        "protocol": config.data.protocol,
        "config": config.result_fields,
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
        "notes": _distinct([f"{member}: {note}" for note in fold["notes"]] for member, fold in found.items()),
        "predictions_sha256": digest,
    }
    write_results(path, fields)
    return fields


def _of_fold(member: str, fold: Mapping[str, Any]) -> dict[str, Any]:
    """The chosen head of a fold."""
    chosen = fold["candidates"][fold["chosen"]["number"]]
    return {"name": f"{member}: {chosen['name']}", "val": chosen["val"], "test": chosen["test"]}


def _distinct(lists: Any) -> list[str]:
    """Entries of all lists, each once, in the order in which they come."""
    parts: Sequence[Sequence[str]] = list(lists)
    return list(dict.fromkeys(entry for part in parts for entry in part))
