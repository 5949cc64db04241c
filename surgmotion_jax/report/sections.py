"""The report's sections, in page order.

A section is a function from a `RunRecord` to a `Section`: pure, and never failing for a part that is
missing. To add one, write the function and name it here.
"""

from __future__ import annotations

from collections.abc import Callable

from surgmotion_jax.report.clips import clips
from surgmotion_jax.report.curves import curves, throughput
from surgmotion_jax.report.html import Section
from surgmotion_jax.report.run import RunRecord
from surgmotion_jax.report.tables import config, environment, events, overview
from surgmotion_jax.report.verdict import verdict

SECTIONS: tuple[Callable[[RunRecord], Section], ...] = (
    verdict,
    overview,
    curves,
    clips,
    throughput,
    config,
    environment,
    events,
)
