"""The features of an evaluation's cases: of our encoder, kept in a folder, or of another one, from its files."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from surgmotion_jax import storage
from surgmotion_jax.benchmarks.benchmark import Case
from surgmotion_jax.evaluate.cohort import Cohort
from surgmotion_jax.evaluate.config import EvaluateConfig
from surgmotion_jax.evaluate.features.cache import (
    Encodes,
    Encoding,
    Features,
    bytes_needed,
    check_room,
    features_of,
)
from surgmotion_jax.evaluate.features.external import ExternalFeatures
from surgmotion_jax.evaluate.features.pixels import Pixels
from surgmotion_jax.evaluate.heads.fit import Zeros
from surgmotion_jax.evaluate.heads.of_tasks import KIND_OF_HEAD, wanted_features
from surgmotion_jax.evaluate.source import Source
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class CohortFeatures:
    """Features as the head reads them, of any cases of the cohort; pixels where the encoder is trained with it."""

    config: EvaluateConfig
    source: Source
    cohort: Cohort
    folder: storage.PathLike  # where those of our encoder are kept
    say: Say

    @functools.cached_property
    def encoding(self) -> Encodes | None:
        """None for another encoder's features. Raises ValueError for windows that ours does not take."""
        encoder = self.source.encoder
        if encoder is None:
            return None
        if self.config.finetune.trains:
            return Pixels(encoder, self.config.data, self.config.cache)
        wanted = wanted_features(self.config, encoder.config.encoder.depth)
        return Encoding(encoder, wanted, self.config.data, self.config.cache)

    @functools.cached_property
    def external(self) -> ExternalFeatures:
        """Another encoder's features of all cases. Raises ValueError for a file that does not serve."""
        return ExternalFeatures(self.source.features, self.cohort.cases, KIND_OF_HEAD[self.config.probe.head])

    @property
    def layout(self) -> MeshLayout:
        """The devices."""
        return self.source.encoder.layout if self.source.encoder else MeshLayout(make_mesh(ParallelConfig()))

    def of(self, cases: Sequence[Case]) -> Features:
        """Features of the cases' moments, computed where they are not there yet; zeros for a head that reads none."""
        if self.config.probe.head == "constant":
            return Zeros((1,))
        if self.encoding is None:
            return self.external.of(cases)
        if self.config.cache.kind != "none":
            self.say(f"features of {len(cases)} cases: {bytes_needed(cases, self.encoding) / 1e6:.4g} MB on disk")
        return features_of(cases, self.encoding, self.folder, self._progress)

    def shape(self, cases: Sequence[Case]) -> tuple[int, ...]:
        """Of a moment's features; those of another encoder are read for it."""
        return self.encoding.shape if self.encoding else self.of(cases).shape

    def check(self, learnt: bool) -> None:
        """Raises ValueError where features of all splits do not fit on the disk, or another encoder's do not serve.

        Where heads are `learnt` already, the features of training cases are not needed any more.
        """
        if self.config.probe.head == "constant":
            return
        if self.encoding is None:
            _ = self.external
            return
        cohort = self.cohort
        check_room([*cohort.val, *cohort.test, *(() if learnt else cohort.train)], self.encoding, self.folder)

    def _progress(self, case: str, done: int, total: int) -> None:
        self.say(f"features: {done}/{total} windows, {case} finished")
