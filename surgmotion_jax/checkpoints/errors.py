"""Why a checkpoint cannot be used. All are ValueErrors whose message says which, why and what to do."""

from __future__ import annotations

from collections.abc import Sequence

LISTED = 20  # differences spelled out in an error; a wrong variant can have hundreds


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message says which, why and what to do."""


class CheckpointMissing(CheckpointError):
    """There is no checkpoint where one was asked for."""


class CheckpointMismatch(CheckpointError):
    """A sound checkpoint of another architecture, tree, shape or dtype. `differences` lists them all."""

    def __init__(self, where: str, differences: Sequence[str]) -> None:
        self.differences = tuple(differences)
        listed = "\n  ".join(differences[:LISTED])
        more = f"\n  and {len(differences) - LISTED} more" if len(differences) > LISTED else ""
        super().__init__(
            f"{where}: does not fit what was requested:\n  {listed}{more}\n"
            "Use the configuration that wrote it, or another workdir."
        )


class CheckpointOfAnotherSchema(CheckpointError):
    """A checkpoint that another version of the package wrote, in a schema that this one does not read."""


class CheckpointDamaged(CheckpointError):
    """Files are damaged or missing; the message names the leaf or the file."""


class WeightFileRefused(CheckpointError):
    """A file of weights is damaged, unsafe or of a kind that is not read; the message says what was found."""
