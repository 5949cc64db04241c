"""Where the features of an evaluation come from, and what tells one origin from another."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from surgmotion_jax.benchmarks.benchmark import Case
from surgmotion_jax.evaluate.encoder.frozen import FrozenEncoder
from surgmotion_jax.evaluate.features.external import digest_of_files


class Identity(TypedDict, total=False):
    """What tells one encoder from another: of our own all but `features` and `files`, of others these two alone."""

    name: str
    weights: list[str]
    step: int
    digest: str
    dtype: str
    features: str  # name of the folder
    files: str  # digest of the files used


@dataclass(frozen=True)
class Source:
    """Where features come from: an encoder, or a folder of another encoder's features."""

    encoder: FrozenEncoder | None = None
    features: str = ""  # folder
    files: str = ""  # digest of the files of the folder that are used
    known: dict[str, str] = dataclasses.field(default_factory=dict, repr=False, compare=False)  # of each file read

    def digest(self, cases: Sequence[Case]) -> str:
        """Of the cases' files of features; an encoder has none. Raises ValueError for a case without a file."""
        return "" if self.encoder else digest_of_files(self.features, cases, self.known)

    def using(self, cases: Sequence[Case]) -> Source:
        """The same, identified by the contents of the cases' files too: folders of one name may differ."""
        return dataclasses.replace(self, files=self.digest(cases))

    @property
    def identity(self) -> Identity:
        """What tells one encoder from another, as plain JSON values."""
        if self.encoder is None:
            found: Identity = {"features": os.path.basename(os.path.abspath(self.features))}
            return {**found, "files": self.files} if self.files else found
        origin = self.encoder.origin
        return {
            "name": origin.name,
            "weights": list(origin.weights),
            "step": origin.step,
            "digest": origin.digest,
            "dtype": self.encoder.config.dtype,
        }
