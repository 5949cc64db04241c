"""Apache Beam as the engine, where one machine is not enough. The only file that imports it; the extra is `ingest`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class BeamEngine:
    """A runner by its name, as FlinkRunner, with pipeline options as Beam spells them.

    Every worker must see the sources and the store under the same paths. Raises ValueError where Beam is missing.
    """

    runner: str
    options: tuple[str, ...] = ()
    tell: Callable[[str], None] = lambda line: None

    def __post_init__(self) -> None:
        if importlib.util.find_spec("apache_beam") is None:
            raise ValueError(
                f"--runner={self.runner} needs Apache Beam: pip install 'surgmotion-jax[ingest]'; --runner=local does "
                "the same work in processes of this machine"
            )

    def each(self, what: str, function: Callable[[T], None], items: Sequence[T]) -> None:
        """As `engine.Engine`. Beam shuffles the items, so that each is done where there is room.

        Raises ValueError where the runner cannot be started, or one of its workers failed, which Beam logs.
        """
        # An optional extra, which takes seconds to import.
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions

        if not items:
            return
        options = PipelineOptions([f"--runner={self.runner}", *self.options])
        self.tell(f"{what}: {len(items)} by {self.runner}")
        try:
            with beam.Pipeline(options=options) as pipeline:
                _ = pipeline | beam.Create(list(items)) | beam.Reshuffle() | beam.Map(function)
        except RuntimeError as error:
            told = str(error).strip().splitlines()
            raise ValueError(
                f"--runner={self.runner}, {what}: {told[-1] if told else type(error).__name__}; what was done is kept: "
                "repeat the command, or use --runner=local"
            ) from error
