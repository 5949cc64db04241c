"""The table of probes: each looks at one thing and yields a line for each finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from surgmotion_jax.doctor import machine, run, videos
from surgmotion_jax.doctor.line import NO_DATA, Line, Subject


class Probe(NamedTuple):
    """A look at one thing."""

    name: str  # begins the line of an error that ends the probe
    look: Callable[[Subject], Iterator[Line]]
    applies: Callable[[Subject], bool] = lambda subject: True


def _has_config(subject: Subject) -> bool:
    return subject.config is not None


def _has_videos(subject: Subject) -> bool:
    config = subject.config
    named = config is not None and any(source.path != NO_DATA for source in config.data.sources.values())
    return bool(subject.data) or named


PROBES = (
    Probe("packages", machine.packages),
    Probe("devices", machine.devices),
    Probe("host", machine.host),
    Probe("compilation cache", machine.compilation_cache),
    Probe("extras", machine.extras),
    Probe("config", run.fault, lambda subject: bool(subject.fault)),
    Probe("config", run.banner, _has_config),
    Probe("data", videos.look, _has_videos),
)
"""In the order to print."""


def examine(subject: Subject) -> Iterator[Line]:
    """The findings of every probe that applies; an error ends its probe with a problem instead of ending all."""
    for probe in PROBES:
        if not probe.applies(subject):
            continue
        try:
            yield from probe.look(subject)
        except (ValueError, RuntimeError, OSError) as error:  # JAX raises RuntimeError for a device it cannot start
            yield Line(probe.name, f"{probe.name}: {error}", problem=True)
