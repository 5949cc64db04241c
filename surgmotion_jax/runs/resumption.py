"""Whether a workdir holds an earlier part of the same run."""

from __future__ import annotations

from surgmotion_jax.checkpoints.errors import CheckpointDamaged
from surgmotion_jax.differences import difference
from surgmotion_jax.models.architecture import architecture
from surgmotion_jax.pretrain.config import RUN_FIELDS, RUN_SECTIONS, as_dict
from surgmotion_jax.records import read_metrics
from surgmotion_jax.runs.session import Session


def check_resumable(session: Session) -> None:
    """Refuses a workdir whose checkpoint was made by another config.

    Raises ValueError with the fields that differ. Fields that change nothing that is learnt may differ; others may
    where `run.accept_changes` is True, unless they change the shapes of the weights.
    """
    if session.store.latest() is None:
        tell_of_lost_checkpoints(session)
        return
    try:
        manifest = session.store.read_manifest()
    except CheckpointDamaged:
        return  # restoring falls back to an earlier step, and checks that one's architecture
    config = session.config
    differing = difference(manifest.config, as_dict(config), (*RUN_SECTIONS, *RUN_FIELDS))
    if not differing:
        return
    listing = "\n  ".join(differing)
    reshaped = difference({"model": manifest.architecture}, {"model": architecture(config.model)})
    decoder = ("objective.decoder",) if config.objective.pixels else ()
    if reshaped or any(line.startswith(("objective.kind", *decoder)) for line in differing):
        raise ValueError(
            f"{session.workdir} holds checkpoints of another architecture (saved -> now):\n  {listing}\n"
            "Use another --workdir or undo the changes. Nothing was changed."
        )
    if not config.run.accept_changes:
        raise ValueError(
            f"{session.workdir} holds a run of another config (saved -> now):\n  {listing}\n"
            "Use another --workdir, undo the changes, or set --config.run.accept_changes=True. Nothing was changed."
        )
    session.say(f"resuming with changes:\n  {listing}")


def tell_of_lost_checkpoints(session: Session) -> None:
    """Says so where a workdir records a run whose checkpoints are gone: it starts again, and its records with it."""
    done = max((record["step"] for record in read_metrics(session.workdir)), default=0)
    if done:
        session.say(
            f"WARNING: {session.workdir} records a run up to step {done}, but {session.store.directory} holds no "
            "checkpoint; training starts again from the first step, and the records of before are dropped"
        )
