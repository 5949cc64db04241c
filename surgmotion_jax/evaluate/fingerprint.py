"""What heads were trained and chosen on, in a few digests: a repeated command must find the same, and so must a head
that is scored elsewhere.

Digests of labels are of their values; files of masks and depth are known by name and size, since reading them all
would take as long as training. Of the test cases only frames and moments count, never what is known of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.benchmarks.benchmark import Case
from surgmotion_jax.checkpoints.errors import LISTED
from surgmotion_jax.evaluate.cohort import Cohort, unlabelled
from surgmotion_jax.evaluate.config import UNTRAINED_HEADS, ConfigFields, trained_part
from surgmotion_jax.evaluate.features.cache import file_name
from surgmotion_jax.evaluate.features.index import differing
from surgmotion_jax.evaluate.results import CONFIG_FILE, SavedHead
from surgmotion_jax.evaluate.source import Identity

DIGITS = 16  # of a sha256 that are kept: enough to see a change
SEEN_BY_HEAD = ("benchmark", "recipe", "frames", "fps", "size", "resize", "train_windows")
"""Fields of the config's `data` on which a head's input and targets depend."""
NOT_OF_HEAD = ("neighbours", "attention", "remat")
"""Fields of the config's `probe` that no trained head reads, or that change its numbers by rounding alone."""


class Fingerprint(TypedDict):
    """A digest of the class names, and of each case of a split by what it digests."""

    classes: str
    train: dict[str, dict[str, str]]
    val: dict[str, dict[str, str]]
    test: dict[str, dict[str, str]]
    features: NotRequired[str]  # of another encoder: digest of the files


class ClaimFields(TypedDict):
    """The value of `config.json`: what an evaluation is."""

    architecture: dict[str, object] | None  # None for features of others
    config: ConfigFields
    encoder: Identity
    protocol: str
    probe: list[SavedHead] | None  # heads of another evaluation
    data: Fingerprint | None  # None where folds are pooled: each has its own


def fingerprint(cohort: Cohort) -> Fingerprint:
    """Plain JSON values, equal where classes, training and validation cases are, and the moments to be tested."""
    return {
        "classes": _digest([json.dumps(cohort.contents.classes, sort_keys=True).encode()]),
        "train": {case.id: case_digests(case) for case in cohort.train},
        "val": {case.id: case_digests(case) for case in cohort.val},
        "test": {case.id: case_digests(unlabelled(case)) for case in cohort.test},
    }


def case_digests(case: Case) -> dict[str, str]:
    """Of a case's frames and scored moments (the name of its file of features), and of what is known of them."""
    found = {"frames": file_name(case)}
    if case.labels:
        found["labels"] = _digest(part for name in sorted(case.labels) for part in _array(name, case.labels[name]))
    if case.masks:
        found["masks"] = _digest(_file(path) for path in case.masks)
    if case.depths:
        found["depths"] = _digest([repr(case.depth_scale).encode(), *map(_file, case.depths)])
    return found


def check_probe(probe: storage.PathLike, fields: ClaimFields) -> None:
    """Raises ValueError unless the head of the workdir `probe` was made for the evaluation that `fields` describe.

    `fields` are those of `config.json`. Compared are the weights of the encoder, how windows are made, the head, and
    the cases that it was trained and chosen on: targets are scaled by the training cases, and a test case must not
    be one of them. Where an evaluation lies, how heads were optimised and how results are reported may differ.
    """
    head = fields["config"]["probe"]["head"]
    if head in UNTRAINED_HEADS:
        raise ValueError(f"--probe has nothing to load for probe.head={head}, which has no parameters")
    path = storage.as_path(probe) / CONFIG_FILE
    if not path.exists():
        raise ValueError(f"{path}: no such file; --probe names the workdir of a finished surgmotion evaluate")
    try:
        saved = _of_head(storage.read_json(path))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not the settings of an evaluation ({error!r}); evaluate again") from None
    differences = differing(saved, _of_head(fields), "head")
    if differences:
        listed = "\n  ".join(differences[:LISTED])
        raise ValueError(
            f"{path}: the head was made for other features or cases:\n  {listed}\n"
            "Repeat the settings of that evaluation, or train heads here without --probe."
        )


def _of_head(fields: ClaimFields) -> dict[str, object]:
    """What a head depends on, of the fields of `config.json`."""
    encoder, config = fields["encoder"], fields["config"]
    return {
        "encoder": {name: value for name, value in encoder.items() if name in ("digest", "features")},
        "architecture": fields["architecture"],
        "data": {name: config["data"][name] for name in SEEN_BY_HEAD},
        "probe": {name: value for name, value in config["probe"].items() if name not in NOT_OF_HEAD},
        "finetune": {"blocks": trained_part(config)},
        "cases": {name: part for name, part in (fields["data"] or {}).items() if name != "test"},
    }


def _array(name: str, array: np.ndarray) -> Sequence[bytes]:
    return [f"{name} {array.dtype.str} {array.shape}".encode(), array.tobytes()]


def _file(path: Path) -> bytes:
    return f"{path.name}:{path.stat().st_size if path.is_file() else 0}".encode()


def _digest(parts: Iterable[bytes]) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "big") + part)  # the length keeps neighbours apart
    return whole.hexdigest()[:DIGITS]
