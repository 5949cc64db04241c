"""A pretraining run from its config to its ending."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO

from surgmotion_jax import storage
from surgmotion_jax.models.architecture import architecture
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.loop import last_step
from surgmotion_jax.pretrain.setup.initial import start_from
from surgmotion_jax.pretrain.state import TrainState, create_state
from surgmotion_jax.records import latest_metrics
from surgmotion_jax.runs.announcement import announce
from surgmotion_jax.runs.clips import DatasetClips
from surgmotion_jax.runs.configuration import Named, as_config_dict, read_config, with_data
from surgmotion_jax.runs.ending import Ending
from surgmotion_jax.runs.inputs import Inputs, gather
from surgmotion_jax.runs.programs import compile_programs
from surgmotion_jax.runs.resumption import check_resumable
from surgmotion_jax.runs.session import Session, opened
from surgmotion_jax.runs.training import Ready, train_ready


def pretrain(
    config: PretrainConfig | Named,
    workdir: storage.PathLike,
    *,
    data: str = "",
    overrides: Mapping[str, object] | None = None,
    command: str = "surgmotion_jax.pretrain(...)",
    stream: TextIO | None = None,
) -> Ending:
    """As `surgmotion_jax.pretrain`; `command` is what the report says made the run."""
    named = with_data(as_config_dict(config), data) if data else config
    with opened(read_config(PretrainConfig, named, overrides or {}), workdir, command, stream) as session:
        return train_session(session)


def train_session(session: Session) -> Ending:
    """Trains in a session from checks to the last checkpoint."""
    check_resumable(session)
    last = last_step(session.config)
    if session.store.latest() == last:
        session.say(f"{session.workdir} has finished its {last} steps; nothing to do")
        metrics = latest_metrics(session.workdir)
        return Ending("nothing-to-do", last, session.workdir, best=session.store.best(), metrics=metrics)
    inputs = gather(session)
    announce(session, inputs)
    return train_ready(*make_ready(session, inputs))


def make_ready(session: Session, inputs: Inputs) -> tuple[Ready, TrainState]:
    """Compiles the programs, and makes or restores the state. The state comes apart: the first step donates it."""
    programs = compile_programs(session, inputs)
    session.group.meet("programs compiled")
    state = first_state(session, inputs)
    session.group.meet("state made")
    clips = DatasetClips(session.config, session.layout, inputs.dataset, inputs.images)
    return Ready(session, programs, clips, inputs.abstract), state


def first_state(session: Session, inputs: Inputs) -> TrainState:
    """The newest sound checkpoint, or a fresh state (from `init.checkpoint` if given)."""
    store = session.store
    if store.latest() is not None:
        restored = store.restore(inputs.abstract, architecture=architecture(session.config.model))
        session.say(f"{'resumed':>12}  from step {restored.step} of {store.directory}")
        return TrainState(*restored.state)
    state = create_state(session.config, session.layout)
    for initial in filter(None, (inputs.initial, inputs.teacher)):
        state = start_from(initial, state)
        session.say(f"{'weights':>12}  from {initial.checkpoint}")
    return state
