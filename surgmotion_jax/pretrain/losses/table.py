"""The table of loss terms. Adding a line here is all that a new term needs beside its own file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from surgmotion_jax.pretrain.losses.affinity import AFFINITY
from surgmotion_jax.pretrain.losses.context import CONTEXT
from surgmotion_jax.pretrain.losses.covariance import COVARIANCE
from surgmotion_jax.pretrain.losses.diversity import DIVERSITY
from surgmotion_jax.pretrain.losses.motion import L1, MOTION
from surgmotion_jax.pretrain.losses.pixels import PIXEL, SQUARES
from surgmotion_jax.pretrain.losses.relation import RELATION
from surgmotion_jax.pretrain.losses.sigreg import SIGREG
from surgmotion_jax.pretrain.losses.term import ErrorMeasure, Term, TermConfig

C = TypeVar("C", bound=TermConfig)

# Name in flags (--config.loss.NAME.weight) and metrics (loss/NAME) -> term. They are summed in this order.
TERMS: dict[str, Term[Any]] = {
    "motion": MOTION,
    "diversity": DIVERSITY,
    "affinity": AFFINITY,
    "context": CONTEXT,
    "relation": RELATION,
    "covariance": COVARIANCE,
    "sigreg": SIGREG,
    "pixel": PIXEL,
}
# How held-out predictions are judged, by what is predicted.
ERRORS: dict[str, ErrorMeasure] = {"features": L1, "pixels": SQUARES}


class Active(NamedTuple):
    """A term that is part of a loss, with its settings."""

    name: str
    term: Term[Any]
    settings: TermConfig


def active_terms(loss: Mapping[str, TermConfig], of: str) -> Iterator[Active]:
    """The terms that make up a loss over predictions `of` features or pixels: those with a weight."""
    for name, term in TERMS.items():
        if term.of == of and loss[name].weight:
            yield Active(name, term, loss[name])


def predicts_visible(loss: Mapping[str, TermConfig], of: str) -> bool:
    """Whether a term of this loss judges the predictions of visible tokens."""
    return any(active.term.visible for active in active_terms(loss, of))


def settings_of(loss: Mapping[str, TermConfig], kind: type[C]) -> C:
    """The settings of the term whose class is `kind`."""
    return next(settings for settings in loss.values() if isinstance(settings, kind))


def term_settings() -> Mapping[str, type[TermConfig]]:
    """What the `loss` section of a config holds: a section for each term."""
    return {name: term.settings for name, term in TERMS.items()}


def default_losses() -> Mapping[str, TermConfig]:
    """The `loss` section as it is without any flag."""
    return {name: settings() for name, settings in term_settings().items()}
