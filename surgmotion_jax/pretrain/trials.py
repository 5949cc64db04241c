"""The runs of an ablation: rows times the points of a grid, each with its budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.plan.cost import step_flops
from surgmotion_jax.pretrain.rows import ROWS, Row, config_of
from surgmotion_jax.pretrain.sample.masks import mask_programs

MATCHES = ("clips", "flops")
MOMENTUM = ("optim.ema", "optim.final_ema")

Point = Mapping[str, str]  # field of the config -> value, as text
At = Callable[[PretrainConfig, Point], PretrainConfig]


@dataclass(frozen=True)
class Trial:
    """One run of an ablation, trained in a folder of its name."""

    name: str
    row: str
    title: str
    config: PretrainConfig


def read_grid(texts: Sequence[str]) -> tuple[Point, ...]:
    """All combinations of `field=value,value` texts; a single empty point where there are none.

    Raises ValueError for a text of another form, and for a field or value that is named twice.
    """
    axes: dict[str, list[str]] = {}
    for text in texts:
        field, equals, values = text.partition("=")
        listed = [value.strip() for value in values.split(",")]
        if not equals or not field or not all(listed):
            raise ValueError(f"--grid is {text!r}; give a field and its values, as in --grid=optim.ema=.99,.999.")
        if field in axes or len(set(listed)) < len(listed):
            raise ValueError(f"--grid is {text!r}; name each field, and each of its values, once.")
        axes[field] = listed
    return tuple(dict(zip(axes, values, strict=True)) for values in product(*axes.values()))


def name_of(row: str, point: Point) -> str:
    """Name of a row at a point of the grid: of its folder, and in the table."""
    return "-".join([row, *(f"{field}={value}" for field, value in point.items())])


def trial_of(name: str, row: Row, config: PretrainConfig, point: Point, at: At, match: str, teacher: str = "") -> Trial:
    """The run of a row at a point. `at` gives the config its values; `teacher` is for rows that have one.

    Raises ValueError for a row whose targets no momentum changes, where the grid is over that.
    """
    if row.targets != "ema" and any(field in MOMENTUM for field in point):
        raise ValueError(
            f"--grid is over optim.ema, but the row {name!r} keeps no moving average; leave it out with --rows."
        )
    there = constant_momentum(at(config, point), config, point)
    chosen = config_of(row, there, teacher)
    if match == "flops":
        chosen = budgeted(chosen, there)
    return Trial(name_of(name, point), name, row.title, chosen)


def constant_momentum(there: PretrainConfig, config: PretrainConfig, point: Point) -> PretrainConfig:
    """A momentum that is constant stays so when a grid moves its start alone."""
    constant = config.optim.ema == config.optim.final_ema
    if not constant or "optim.ema" not in point or "optim.final_ema" in point:
        return there
    return dataclasses.replace(there, optim=dataclasses.replace(there.optim, final_ema=there.optim.ema))


def budgeted(chosen: PretrainConfig, config: PretrainConfig) -> PretrainConfig:
    """`chosen` for as many steps as cost what the steps of `config` cost plain V-JEPA; warm-up and decay in proportion.

    Operations are those of all training steps, counted as for a plan.
    """
    share = step_cost(config_of(ROWS["plain"], config)) / step_cost(chosen)

    def scaled(steps: int) -> int:
        return round(steps * share)

    optim = chosen.optim
    optim = dataclasses.replace(optim, warmup_steps=scaled(optim.warmup_steps), decay_steps=scaled(optim.decay_steps))
    return dataclasses.replace(chosen, steps=max(scaled(chosen.steps), 1), optim=optim)


def step_cost(config: PretrainConfig) -> float:
    """Operations of a training step."""
    return step_flops(config, mask_programs(config.mask, config.grid)).model
