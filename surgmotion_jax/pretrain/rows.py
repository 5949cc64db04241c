"""The rows of an ablation: which terms each has, what it predicts, and where its targets come from.

Every row is the same run (seed, data order, augmentation, masks, encoder, optimiser, steps) with another objective. A
term that a row has is weighed as the config weighs it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from surgmotion_jax.checks import did_you_mean
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.losses.table import TERMS
from surgmotion_jax.pretrain.losses.term import TermConfig
from surgmotion_jax.pretrain.sample.saliencies import SALIENCIES
from surgmotion_jax.pretrain.targets import SOURCES

Changes = Mapping[str, Mapping[str, Any]]  # name of a term -> field of its settings -> value


@dataclass(frozen=True)
class Row:
    """One run: which terms its loss has, and what is predicted. Terms that are not named are switched off."""

    title: str
    terms: tuple[str, ...] = ()
    changes: Changes = field(default_factory=dict)  # of fields of terms
    kind: str = "latent"
    targets: str = "ema"
    stop_gradient: bool = True
    weigh_motion: bool = False  # the error of pixels, by motion
    saliency: str = ""  # another motion score than the config's
    weights: Mapping[str, float] = field(default_factory=dict)  # of terms that the config gives no weight
    v21: Mapping[str, Any] = field(default_factory=dict)  # fields of model.v21 that the row's objective needs


PAPER = ("motion", "affinity", "diversity")
DENSE = {"motion": {"scope": "dense"}}


def _topk(reduce: str) -> Changes:
    return {"motion": {"scope": "topk", "reduce": reduce}}


# The paper, taken apart.
ROWS: dict[str, Row] = {
    "plain": Row("plain V-JEPA"),
    "motion": Row("+ motion", ("motion",), DENSE),
    "affinity": Row("+ affinity", ("affinity",)),
    "sfdr": Row("+ SFDR", ("diversity",)),
    "all": Row("motion, affinity, SFDR", PAPER, DENSE),
    "pixel": Row("pixels", kind="pixel"),
    "topk": Row("all, K tubes only", PAPER, _topk("sum")),
    "topk_mean": Row("all, K tubes, scale 1", PAPER, _topk("mean")),
}
DEFAULT_ROWS = ("plain", "motion", "affinity", "sfdr", "all", "pixel")

LATE: Changes = {
    "motion": {"scope": "dense", "alpha": 2.0, "reduce": "count", "dense_norm": "none"},
    "relation": {"weight": 0.1},
    "diversity": {"weight": 1.0, "over": "clip", "unbiased": True, "sigma": 1.0},
}
# Other ways to keep features apart and to choose what is predicted.
ARMS: dict[str, Row] = {
    "salt": Row("features of a frozen teacher", targets="frozen"),
    "sigreg": Row("no teacher, SIGReg", ("sigreg",), targets="online", weights={"sigreg": 0.02}),
    "lejepa": Row(
        "no teacher, gradient into targets, SIGReg",
        ("sigreg",),
        {"sigreg": {"of": "targets"}},
        targets="online",
        stop_gradient=False,
        weights={"sigreg": 0.02},
    ),
    "vicreg": Row("+ SFDR, covariance", ("diversity", "covariance"), weights={"covariance": 0.05}),
    "vjepa21": Row(
        "V-JEPA 2.1: four levels, visible tokens",
        ("context",),
        weights={"context": 0.5},
        v21={"levels": 4, "context_projection": True},
    ),
    "pixel_motion": Row("pixels, weighed by motion", ("motion",), DENSE, kind="pixel", weigh_motion=True),
    "late": Row("the authors' late form", ("motion", "relation", "diversity"), LATE, saliency="normal_flow"),
}


def all_rows() -> dict[str, Row]:
    """`ROWS`, `ARMS`, and a row of its own for every other term of features."""
    known = ROWS | ARMS
    alone = {row.terms for row in known.values() if len(row.terms) == 1}
    others = {n: t for n, t in TERMS.items() if t.of == "features" and not t.error and (n,) not in alone}
    return known | {name: Row(f"+ {term.label}", (name,)) for name, term in others.items()}


def choose_rows(names: str) -> tuple[str, ...]:
    """Rows of a comma-separated list; empty: the default ones. Raises ValueError for an unknown or repeated one."""
    chosen = tuple(name.strip() for name in names.split(",") if name.strip()) if names else DEFAULT_ROWS
    known = all_rows()
    for name in chosen:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ValueError(f"--rows names {name!r}; there are {', '.join(known)}.{hint}")
    if len(set(chosen)) < len(chosen) or not chosen:
        raise ValueError(f"--rows is {names!r}; name each row once, of {', '.join(known)}.")
    return chosen


def config_of(row: Row, config: PretrainConfig, teacher: str = "") -> PretrainConfig:
    """`config` with the objective of a row, and the outputs that it asks of the model; nothing else differs.

    `teacher` is for rows that have one.

    Raises ValueError where the config gives a term of the row no weight, so that the row would not be what it says,
    and where its targets come from elsewhere than a moving average.
    """
    if not config.objective.source.averages:
        raise ValueError(
            f"objective.targets is {config.objective.targets!r}, but rows decide where targets come from; set "
            "--config.objective.targets=ema and name rows with --rows."
        )
    loss = {name: _settings_in(row, name, settings) for name, settings in config.loss.items()}
    saliency = dataclasses.replace(config.saliency, kind=row.saliency or config.saliency.kind)
    if any(TERMS[name].by_motion for name in row.terms) and not SALIENCIES[saliency.kind].scores:
        raise ValueError(
            f"the row {row.title!r} weighs tokens by motion, but saliency.kind is {saliency.kind!r}; set "
            "--config.saliency.kind=paper or leave the row out with --rows."
        )
    source = SOURCES[row.targets]
    objective = dataclasses.replace(
        config.objective,
        kind=row.kind,
        targets=row.targets,
        teacher=teacher if source.teacher else "",
        weigh_motion=row.weigh_motion,
        stop_gradient=row.stop_gradient,
    )
    optim = config.optim
    if source.momentum is not None:
        optim = dataclasses.replace(optim, ema=source.momentum, final_ema=source.momentum)
    model = dataclasses.replace(config.model, v21=dataclasses.replace(config.model.v21, **row.v21))
    return dataclasses.replace(config, model=model, objective=objective, loss=loss, saliency=saliency, optim=optim)


def _settings_in(row: Row, name: str, settings: TermConfig) -> TermConfig:
    """Settings of the term `name` in a row: switched off, or as the config has them but for the row's changes."""
    if name not in row.terms:
        return settings.off()
    weight = settings.weight or row.weights.get(name, 0.0)
    changed = dataclasses.replace(settings, **{"weight": weight, **row.changes.get(name, {})})
    if changed == changed.off():
        field = f"loss.{name}.{settings.switch}"
        raise ValueError(
            f"the row {row.title!r} needs {field}, which is 0; give it the weight that it should have, "
            f"--config.{field}=VALUE, or leave the row out with --rows."
        )
    return changed
