"""What a workdir's evaluation is, in `config.json`: written by the first command, compared by every repeated one."""

from __future__ import annotations

import json
import os

import jax

from surgmotion_jax import storage
from surgmotion_jax.checkpoints.errors import LISTED
from surgmotion_jax.evaluate.choice import Choice, read_choice
from surgmotion_jax.evaluate.config import EvaluateConfig
from surgmotion_jax.evaluate.features.index import differing
from surgmotion_jax.evaluate.fingerprint import ClaimFields, Fingerprint, check_probe
from surgmotion_jax.evaluate.heads.fit import HEADS_FILE, read_heads
from surgmotion_jax.evaluate.results import CONFIG_FILE, SavedHead
from surgmotion_jax.evaluate.source import Source
from surgmotion_jax.models.architecture import architecture
from surgmotion_jax.models.parameters import Params


def claim(
    workdir: storage.PathLike,
    config: EvaluateConfig,
    source: Source,
    protocol: str,
    probe: str,
    data: Fingerprint | None = None,
    folds: tuple[str, ...] = (),
) -> ClaimFields:
    """Writes what this evaluation is, and returns it.

    Args:
      workdir: a new folder, or that of the same evaluation.
      config: what decides the numbers.
      source: where the features come from.
      protocol: the split or folds.
      probe: the workdir of the evaluation whose heads are scored; empty: heads are trained.
      data: the fingerprint of the cases, where the evaluation has one set of them.
      folds: folders in `probe` that hold the heads, where they are not in it itself.

    Raises ValueError where the workdir is of another evaluation, or the probe does not fit this one.
    """
    found: ClaimFields = {
        "architecture": architecture(source.encoder.config) if source.encoder else None,
        "config": config.result_fields,
        "encoder": source.identity,
        "protocol": protocol,
        "probe": None,
        "data": data,
    }
    fields: ClaimFields = json.loads(json.dumps(found))  # as it is read back
    if probe:
        check_probe(probe, fields)
        fields["probe"] = [saved_head(os.path.join(probe, fold)) for fold in folds or ("",)]
    path = storage.ensure_writable(workdir) / CONFIG_FILE
    if not path.exists():
        storage.write_text_atomic(path, json.dumps(fields, indent=1, sort_keys=True) + "\n")
        return fields
    differences = differing(storage.read_json(path), fields, "evaluation")
    if differences:
        listed = "\n  ".join(differences[:LISTED])
        raise ValueError(f"{path}: the workdir holds another evaluation:\n  {listed}\nChoose another --workdir.")
    return fields


def chosen_head(probe: storage.PathLike) -> tuple[Choice, Params]:
    """The choice of a finished evaluation and the parameters of the head that it names, [1,...]: `saved_head` was asked
    for before, and says what is missing."""
    choice, params = read_choice(probe), read_heads(probe)
    assert choice is not None, "read by saved_head"
    assert params is not None, "looked for by saved_head"
    return choice, jax.tree.map(lambda leaf: leaf[choice.number : choice.number + 1], params)


def saved_head(probe: str) -> SavedHead:
    """The chosen head of a finished evaluation: its name, how it was trained, and a digest of its file.

    Raises ValueError naming what the folder lacks.
    """
    choice, path = read_choice(probe), storage.as_path(probe) / HEADS_FILE
    if choice is None:
        raise ValueError(f"{probe}: no choice.json; --probe names the workdir of a finished surgmotion evaluate")
    if not path.exists():
        raise ValueError(f"{path}: no such file; name the workdir of a finished evaluation")
    return {
        "head": choice.name,
        "sweep": storage.read_json(storage.as_path(probe) / CONFIG_FILE)["config"]["sweep"],
        "sha256": storage.sha256_of(path),
    }
