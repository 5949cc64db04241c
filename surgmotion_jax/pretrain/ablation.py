"""The table of an ablation: what is read off each run, and how it is shown. Files and training are the command's."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from surgmotion_jax.pretrain.config import PretrainConfig, as_dict
from surgmotion_jax.pretrain.losses.table import TERMS
from surgmotion_jax.pretrain.monitor.alarms import collapse_alarms
from surgmotion_jax.pretrain.rows import all_rows
from surgmotion_jax.pretrain.setup.summary import parameter_count
from surgmotion_jax.pretrain.state import init_state
from surgmotion_jax.pretrain.trials import step_cost

Record = Mapping[str, Any]  # a line of the metrics file


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
    lidar: float
    alignment: float
    uniformity: float
    collapsed: str  # from which step on, if it has
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
    tflop: float  # of all steps
    clips: int  # seen in all steps
    terms: Mapping[str, float]  # the terms of its loss in the last log line, before weighting
    settings: Mapping[str, object]  # the sections of its config that make it what it is


def outcome(name: str, config: PretrainConfig, records: Sequence[Record], title: str = "") -> Outcome | None:
    """What the metrics of a run's workdir say, None if its last step has not been evaluated.

    `records` are those of `metrics.jsonl`; `config` is the run's. The title is that of the row `name`, if not given.
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
    cost, settings = step_cost(config), as_dict(config)

    def gain(baseline: str) -> float:
        loss, base = _number(heldout, "heldout/loss"), _number(heldout, f"heldout/{baseline}")
        return 100 * (1 - loss / base) if base else math.nan

    return Outcome(
        row=name,
        title=title or all_rows()[name].title,
        error=error_of(config),
        step=step,
        heldout=_number(heldout, "heldout/loss"),
        over_constant=gain("constant"),
        over_shuffled=gain("shuffled"),
        rankme=_number(heldout, "gauge/rankme"),
        lidar=_number(heldout, "gauge/lidar"),
        alignment=_number(heldout, "gauge/alignment"),
        uniformity=_number(heldout, "gauge/uniformity"),
        collapsed=collapsed(config, records),
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
        gflop=cost / config.optim.batch / 1e9,
        tflop=cost * step / 1e12,
        clips=step * config.optim.batch,
        terms={name: _number(train[-1] if train else {}, f"loss/{name}") for name in TERMS},
        settings={section: settings[section] for section in ("loss", "objective")},
    )


def error_of(config: PretrainConfig) -> str:
    """What the held-out error is of."""
    if config.objective.pixels:
        return "squares of pixels"
    return "L1 of the teacher's features" if config.objective.source.teacher else "L1 of features"


def collapsed(config: PretrainConfig, records: Sequence[Record]) -> str:
    """Since which step the held-out gauges are beyond the thresholds of `alarms`, or when they were for a while."""
    seen = [(r["step"], r["metrics"]) for r in records if r["kind"] == "heldout" and "gauge/rankme" in r["metrics"]]
    tripped = [step for step, metrics in seen if collapse_alarms(step, metrics, config.alarms)]
    if not tripped:
        return "no" if seen else "-"
    sound = [step for step, _ in seen if step not in tripped and step > tripped[0]]
    if not sound:
        return f"from step {tripped[0]}"
    since = [step for step in tripped if step > sound[-1]]
    return f"from step {since[0]}" if since else f"steps {tripped[0]} to {tripped[-1]}, then no more"


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
    Column("LiDAR", _fixed("lidar", 1)),
    Column("alignment", _fixed("alignment", 3)),
    Column("uniformity", _fixed("uniformity", 2)),
    Column("collapsed", lambda o: o.collapsed),
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
    Column("clips seen", lambda o: str(o.clips)),
    Column("TFLOP in all", _fixed("tflop", 2)),
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
    fewest, most = min(o.step for o in outcomes), max(o.step for o in outcomes)
    steps = f"{fewest} steps" if fewest == most else f"{fewest} to {most} steps, for equal operations,"
    said = [
        f"Each run: {steps} of {config.optim.batch} clips, seed {config.seed} where its name says no other; the same "
        f"clips, crops, masks, encoder and optimiser. Held out: {clips} clips.",
        "One seed, or a few, and no intervals: differences between rows are not findings.",
        "Held-out errors are each run's own: features differ from run to run, and pixels are another unit. The gains "
        "compare each error with the best constant prediction of the same targets (median for L1, mean for squares) "
        "and with the same model given another clip's context.",
        "RankMe, LiDAR, alignment, uniformity, target std and cosine are of the features on the held-out clips of the "
        "encoder that the run is for: the EMA encoder, or the trained one where there is no EMA. Prediction std is of "
        "what the row predicts. Collapsed: gauges beyond the thresholds of the config's alarms.",
        "Parameters: encoder and predictor or decoder. Operations: matrix products of a training step, counted "
        "analytically; the training of a frozen teacher is not among them. Clips/s: median of the log lines; it says "
        "little where other work ran beside.",
    ]
    wrong = [o for o in outcomes if o.skipped > 0]
    return (
        said
        + over_seeds(outcomes)
        + [f"{o.row}: {100 * o.skipped:.1f} % of updates were skipped as not finite." for o in wrong]
    )


OVER_SEEDS = {
    "over_constant": "better than a constant, %",
    "over_shuffled": "than another clip's context, %",
    "rankme": "RankMe",
    "lidar": "LiDAR",
    "knn": "probe kNN, %",
    "linear": "probe linear, %",
}


def over_seeds(outcomes: Sequence[Outcome]) -> list[str]:
    """For every run that there is of several seeds: mean and range of what compares rows."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(re.sub(r"-seed=\w+", "", outcome.row), []).append(outcome)
    return [f"{name}, {len(of)} seeds: {_ranges(of)}." for name, of in groups.items() if len(of) > 1]


def _ranges(outcomes: Sequence[Outcome]) -> str:
    """Mean, lowest and highest of each column."""
    values = {name: [getattr(o, name) for o in outcomes] for name in OVER_SEEDS}
    return "; ".join(
        f"{OVER_SEEDS[name]} {np.mean(found):.1f} ({min(found):.1f} to {max(found):.1f})"
        for name, found in values.items()
        if all(map(math.isfinite, found))
    )


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
    rows = [_without_nan({n: v for n, v in dataclasses.asdict(o).items() if n != "settings"}) for o in outcomes]
    losses = {outcome.row: outcome.settings for outcome in outcomes}
    return {"rows": rows, "losses": losses, "seed": config.seed, "batch": config.optim.batch, "notes": list(below)}


def _without_nan(value: object) -> object:
    """`value` with None for every number that is none, in mappings too."""
    if isinstance(value, Mapping):
        return {name: _without_nan(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
