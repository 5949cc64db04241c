"""The ablation: which runs it has, what is read off each, and the table. Files and training are the command's.

Every row is the same run (seed, data order, augmentation, masks, encoder, optimiser, steps) with other loss terms. A
term that a row has is weighed as the config weighs it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from surgmotion_jax.checks import did_you_mean
from surgmotion_jax.pretrain.config import PretrainConfig, as_dict
from surgmotion_jax.pretrain.losses.table import TERMS
from surgmotion_jax.pretrain.losses.term import TermConfig
from surgmotion_jax.pretrain.plan.cost import step_flops
from surgmotion_jax.pretrain.sample.masks import mask_programs
from surgmotion_jax.pretrain.sample.saliencies import SALIENCIES
from surgmotion_jax.pretrain.setup.summary import parameter_count
from surgmotion_jax.pretrain.state import init_state

Record = Mapping[str, Any]  # a line of the metrics file
Changes = Mapping[str, Mapping[str, Any]]  # name of a term -> field of its settings -> value


@dataclass(frozen=True)
class Row:
    """One run: which terms its loss has, and what is predicted. Terms that are not named are switched off."""

    title: str
    terms: tuple[str, ...] = ()
    changes: Changes = field(default_factory=dict)  # of fields of terms
    kind: str = "latent"


PAPER = ("motion", "affinity", "diversity")
DENSE = {"motion": {"scope": "dense"}}


def _topk(reduce: str) -> Changes:
    return {"motion": {"scope": "topk", "reduce": reduce}}


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


def all_rows() -> dict[str, Row]:
    """`ROWS`, and a row of its own for every other term of features."""
    alone = {row.terms for row in ROWS.values() if len(row.terms) == 1}
    others = {n: t for n, t in TERMS.items() if t.of == "features" and not t.error and (n,) not in alone}
    return ROWS | {name: Row(f"+ {term.label}", (name,)) for name, term in others.items()}


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


def config_of(row: Row, config: PretrainConfig) -> PretrainConfig:
    """`config` with the loss of a row; nothing else differs.

    Raises ValueError where the config gives a term of the row no weight, so that the row would not be what it says.
    """
    loss = {name: _settings_in(row, name, settings) for name, settings in config.loss.items()}
    if any(TERMS[name].by_motion for name in row.terms) and not SALIENCIES[config.saliency.kind].scores:
        raise ValueError(
            f"the row {row.title!r} weighs tokens by motion, but saliency.kind is {config.saliency.kind!r}; set "
            "--config.saliency.kind=paper or leave the row out with --rows."
        )
    objective = dataclasses.replace(config.objective, kind=row.kind, weigh_motion=False, stop_gradient=True)
    return dataclasses.replace(config, objective=objective, loss=loss)


def _settings_in(row: Row, name: str, settings: TermConfig) -> TermConfig:
    """Settings of the term `name` in a row: switched off, or as the config has them but for the row's changes."""
    if name not in row.terms:
        return settings.off()
    changed = dataclasses.replace(settings, **row.changes.get(name, {}))
    if changed == changed.off():
        field = f"loss.{name}.{settings.switch}"
        raise ValueError(
            f"the row {row.title!r} needs {field}, which is 0; give it the weight that it should have, "
            f"--config.{field}=VALUE, or leave the row out with --rows."
        )
    return changed


@dataclass(frozen=True)
class Outcome:
    """What is known of a finished row. Gains are percent of the baseline's loss; NaN where nothing was logged."""

    row: str
    title: str
    error: str  # what `heldout` measures: L1 of features, squares of pixels
    step: int
    heldout: float
    over_constant: float
    over_shuffled: float
    rankme: float
    target_std: float
    prediction_std: float
    cosine: float
    ema_distance: float
    knn: float  # balanced accuracies of the frozen probe in percent, where the config has one
    linear: float
    alarms: int
    skipped: float  # share of updates left out for not being finite
    clips_per_s: float  # median over the run's log lines
    parameters: int  # encoder and the network that predicts; the EMA copy is not counted
    gflop: float  # of a clip and step
    terms: Mapping[str, float]  # the terms of its loss in the last log line, before weighting


def outcome(name: str, config: PretrainConfig, records: Sequence[Record]) -> Outcome | None:
    """What the metrics of a row's workdir say, None if its last step has not been evaluated.

    `records` are those of `metrics.jsonl`; `config` is the row's.
    """
    step = last_evaluated(config, records)
    if step is None:
        return None
    heldout: dict[str, float | None] = {}
    for record in records:
        if record["step"] == step and record["kind"] not in ("train", "event"):
            heldout |= record["metrics"]  # of held-out clips and, where there is one, of the probe
    train = [r["metrics"] for r in records if r["kind"] == "train"]
    shapes = jax.eval_shape(lambda: init_state(config).params)
    programs = mask_programs(config.mask, config.grid)

    def gain(baseline: str) -> float:
        loss, base = _number(heldout, "heldout/loss"), _number(heldout, f"heldout/{baseline}")
        return 100 * (1 - loss / base) if base else math.nan

    return Outcome(
        row=name,
        title=all_rows()[name].title,
        error="squares of pixels" if config.objective.pixels else "L1 of features",
        step=step,
        heldout=_number(heldout, "heldout/loss"),
        over_constant=gain("constant"),
        over_shuffled=gain("shuffled"),
        rankme=_number(heldout, "gauge/rankme"),
        target_std=_number(heldout, "gauge/target_std"),
        prediction_std=_number(heldout, "gauge/pixel_std" if config.objective.pixels else "gauge/prediction_std"),
        cosine=_number(heldout, "gauge/context_target_cosine"),
        ema_distance=_number(train[-1] if train else {}, "ema/distance"),
        knn=100 * _number(heldout, "probe/knn_balanced"),
        linear=100 * _number(heldout, "probe/linear_balanced"),
        alarms=sum(r["kind"] == "event" and r.get("text", "").startswith("alarm") for r in records),
        skipped=_summed_up(np.mean, [_number(m, "optim/skipped") for m in train]),
        clips_per_s=_summed_up(np.median, [_number(m, "speed/clips_per_s") for m in train]),
        parameters=parameter_count(shapes),
        gflop=step_flops(config, programs).model / config.optim.batch / 1e9,
        terms={name: _number(train[-1] if train else {}, f"loss/{name}") for name in TERMS},
    )


def last_evaluated(config: PretrainConfig, records: Sequence[Record]) -> int | None:
    """The last step, if it is done and evaluated."""
    last = min(config.steps, config.run.stop_at_step or config.steps)
    done = [r for r in records if r["kind"] == "event" and r["step"] == last and r.get("text") == "finished"]
    seen = [r for r in records if r["kind"] == "heldout" and r["step"] == last]
    return last if done and seen else None


def _number(metrics: Mapping[str, float | None], name: str) -> float:
    value = metrics.get(name)
    return math.nan if value is None else float(value)


def _summed_up(how: Callable[[Sequence[float]], np.floating], values: Sequence[float]) -> float:
    """`how` over the finite values, NaN if there are none."""
    finite = [v for v in values if math.isfinite(v)]
    return float(how(finite)) if finite else math.nan


@dataclass(frozen=True)
class Column:
    """One column of the table."""

    title: str
    text: Callable[[Outcome], str]


def _fixed(name: str, digits: int, sign: str = "") -> Callable[[Outcome], str]:
    return lambda outcome: _text(getattr(outcome, name), digits, sign)


def _text(value: float, digits: int, sign: str = "") -> str:
    return f"{value:{sign}.{digits}f}" if math.isfinite(value) else "-"


COLUMNS: tuple[Column, ...] = (
    Column("run", lambda o: o.row),
    Column("loss", lambda o: o.title),
    Column("held-out error", _fixed("heldout", 4)),
    Column("of", lambda o: o.error),
    Column("better than a constant, %", _fixed("over_constant", 1, "+")),
    Column("than another clip's context, %", _fixed("over_shuffled", 1, "+")),
    Column("RankMe", _fixed("rankme", 1)),
    Column("target std", _fixed("target_std", 3)),
    Column("prediction std", _fixed("prediction_std", 3)),
    Column("context-target cosine", _fixed("cosine", 3)),
    Column("EMA distance", _fixed("ema_distance", 4)),
    Column("probe kNN, %", _fixed("knn", 1)),
    Column("probe linear, %", _fixed("linear", 1)),
    Column("alarms", lambda o: str(o.alarms)),
    Column("clips/s", _fixed("clips_per_s", 1)),
    Column("M parameters", lambda o: f"{o.parameters / 1e6:.2f}"),
    Column("GFLOP a clip", _fixed("gflop", 2)),
)


def term_columns() -> list[Column]:
    """A column for every term that a loss may have."""
    return [
        Column(f"{term.label} in training, {term.unit}", lambda o, name=name: _text(o.terms.get(name, math.nan), 4))  # type: ignore[misc]
        for name, term in TERMS.items()
    ]


def notes(config: PretrainConfig, outcomes: Sequence[Outcome]) -> list[str]:
    """What a reader must know to read the table."""
    clips = config.heldout.clips // config.heldout.batch * config.heldout.batch
    said = [
        f"Each run: {outcomes[0].step} steps of {config.optim.batch} clips, seed {config.seed}; the same clips, crops, "
        f"masks, encoder and optimiser. Held out: {clips} clips.",
        "One seed and no intervals: differences between rows are not findings.",
        "Held-out errors are each run's own: features differ from run to run, and pixels are another unit. The gains "
        "compare each error with the best constant prediction of the same targets (median for L1, mean for squares) "
        "and with the same model given another clip's context.",
        "RankMe, target std and cosine are of the EMA encoder's features on the held-out clips, in every row; "
        "prediction std is of what the row predicts.",
        "Parameters: encoder and predictor or decoder. Operations: matrix products of a training step, counted "
        "analytically. Clips/s: median of the log lines; it says little where other work ran beside.",
    ]
    wrong = [o for o in outcomes if o.skipped > 0]
    return said + [f"{o.row}: {100 * o.skipped:.1f} % of updates were skipped as not finite." for o in wrong]


def columns_of(outcomes: Sequence[Outcome]) -> list[Column]:
    """The columns in which any row has a value: a run without a probe has none for it."""
    return [column for column in (*COLUMNS, *term_columns()) if any(column.text(o) != "-" for o in outcomes)]


def as_text(outcomes: Sequence[Outcome], below: Sequence[str]) -> str:
    """The table for a terminal, turned: a line a quantity, a column a run."""
    lines = [[column.title, *(column.text(o) for o in outcomes)] for column in columns_of(outcomes)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*table, "", *below])


def as_markdown(outcomes: Sequence[Outcome], below: Sequence[str]) -> str:
    """The table as Markdown, a line a run."""
    columns = columns_of(outcomes)
    lines = [[column.title for column in columns], ["---"] * len(columns)]
    lines += [[column.text(o) for column in columns] for o in outcomes]
    table = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([*table, "", *(f"- {note}" for note in below), ""])


def as_json(config: PretrainConfig, outcomes: Sequence[Outcome], below: Sequence[str]) -> dict[str, object]:
    """The numbers as plain values, NaN as None, with the sections of each row's config that make it what it is."""
    rows = [_without_nan(dataclasses.asdict(outcome)) for outcome in outcomes]
    configs = {o.row: as_dict(config_of(all_rows()[o.row], config)) for o in outcomes}
    losses = {name: {section: c[section] for section in ("loss", "objective")} for name, c in configs.items()}
    return {"rows": rows, "losses": losses, "seed": config.seed, "batch": config.optim.batch, "notes": list(below)}


def _without_nan(value: object) -> object:
    """`value` with None for every number that is none, in mappings too."""
    if isinstance(value, Mapping):
        return {name: _without_nan(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
