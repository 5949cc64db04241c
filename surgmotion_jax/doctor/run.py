"""What a config would make of this machine, before anything is compiled."""

from __future__ import annotations

from collections.abc import Iterator

import jax

from surgmotion_jax.doctor.line import Line, Subject
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh
from surgmotion_jax.pretrain.setup.placement import place
from surgmotion_jax.pretrain.setup.preflight import check
from surgmotion_jax.pretrain.setup.summary import summarise


def fault(subject: Subject) -> Iterator[Line]:
    """Why the config that was named cannot be read."""
    yield Line("config", f"config: {subject.fault}", problem=True)


def banner(subject: Subject) -> Iterator[Line]:
    """The start banner of a run, once its config has passed every check made before compiling."""
    assert subject.config is not None
    config, _ = place(subject.config, jax.devices())
    layout = MeshLayout(make_mesh(config.parallel))
    programs, abstract = check(config, layout)
    for label, text in summarise(config, layout, abstract, programs).items():
        yield Line(label, text)
