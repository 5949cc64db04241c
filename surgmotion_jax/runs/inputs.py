"""Everything that a run needs and that can be found wrong, before a program is compiled."""

from __future__ import annotations

from dataclasses import dataclass

from surgmotion_jax.data import ClipDataset
from surgmotion_jax.pretrain.monitor.alarms import check_monitoring
from surgmotion_jax.pretrain.monitor.probing import ProbeSet, probe_facts
from surgmotion_jax.pretrain.sample.masks import MaskProgram
from surgmotion_jax.pretrain.setup.agreement import DATA, listing_facts
from surgmotion_jax.pretrain.setup.initial import Initial, plan_initial
from surgmotion_jax.pretrain.setup.preflight import check
from surgmotion_jax.pretrain.setup.teacher import plan_teacher
from surgmotion_jax.pretrain.state import TrainState
from surgmotion_jax.runs.clips import image_dataset
from surgmotion_jax.runs.probe import read_probe_set
from surgmotion_jax.runs.session import Session


@dataclass(frozen=True)
class Inputs:
    """What a run is made of.

    Attributes:
      masks: the mask programs, one training step each.
      abstract: shapes, dtypes and shardings of the state.
      notes: what is to be known of the alarms.
      initial: the weights that a new run starts from, where the config names some.
      teacher: the weights of a frozen teacher, for a new run that has one.
      dataset: the clips.
      images: the images beside them, where the config asks for some.
      probed: the labelled windows to probe, where the config names a set.
    """

    masks: tuple[MaskProgram, ...]
    abstract: TrainState
    notes: tuple[str, ...]
    initial: Initial | None
    teacher: Initial | None
    dataset: ClipDataset
    images: ClipDataset | None
    probed: ProbeSet | None


def gather(session: Session) -> Inputs:
    """Checks the config against the devices, and opens data, weights and labelled set. Compiles nothing.

    Raises ValueError naming the field or file that is wrong.
    """
    masks, abstract = check(session.config, session.layout)
    notes = check_monitoring(session.config)
    weights, dataset = (find_initial(session), find_teacher(session)), open_data(session)
    images = open_images(session, dataset)
    return Inputs(masks, abstract, notes, *weights, dataset, images, open_probe(session))


def find_initial(session: Session) -> Initial | None:
    """What a new run starts from. Refuses weights of another architecture."""
    config = session.config
    if session.store.latest() is not None or not config.init.checkpoint:
        return None
    objective = config.objective
    return told(session, plan_initial(config.init, config.model, objective.head, objective.source.averages))


def find_teacher(session: Session) -> Initial | None:
    """The weights of a frozen teacher; a run that goes on has them in its checkpoints."""
    if session.store.latest() is not None or not session.config.objective.source.teacher:
        return None
    return told(session, plan_teacher(session.config))


def told(session: Session, initial: Initial) -> Initial:
    """The same, said line by line."""
    for line in initial.told:
        session.say(f"{'start':>12}  {line}")
    return initial


def open_data(session: Session) -> ClipDataset:
    """The clips, which all processes must find alike."""
    dataset = ClipDataset(session.config.data, session.config.seed)
    session.group.agree(DATA, listing_facts(dataset))
    return dataset


def open_images(session: Session, clips: ClipDataset) -> ClipDataset | None:
    """The images of a run that has some, which all processes must find alike."""
    dataset = image_dataset(session.config, clips)
    if dataset is not None:
        session.group.agree("image listing", listing_facts(dataset))
    return dataset


def open_probe(session: Session) -> ProbeSet | None:
    """The labelled windows to probe, which all processes must find alike."""
    found = read_probe_set(session.config, session.layout)
    if found is not None:
        session.group.agree("probe listing", probe_facts(found))
    return found
