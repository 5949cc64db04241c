"""Trains one run for each row of the ablation, with equal budgets, and writes one table of gauges and held-out errors.

Repeating the command resumes: finished rows are not run again. Each row trains in DIR/ROW; table.txt, results.md and
results.json go to DIR. The config is one of `surgmotion pretrain`, and weighs the terms that rows have.

Rows: plain is V-JEPA without the paper's terms; motion, affinity and sfdr add one term each, all adds the three; pixel
predicts pixels instead of features. In topk only the K tubes of most motion carry a prediction loss, as the formula
says; topk_mean scales that loss to a total weight of 1, as the other rows have. salt predicts features of a frozen
teacher, sigreg and lejepa their own, vicreg adds the covariance to sfdr, late is the authors' late form. Any further
term of the table of losses is a row of its own name, alone, with the weight that the config gives it.

A grid, given once or several times, runs each row at all its values, such as --grid=optim.ema=.99,.999 or
--grid=seed=0,1. The table says which runs collapsed, and from which step on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from surgmotion_jax.commands import pretrain
from surgmotion_jax.commands.command_line import CommandLine, config_flags, flag
from surgmotion_jax.commands.configs import pretrain_config
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.rows import DEFAULT_ROWS, all_rows, choose_rows
from surgmotion_jax.pretrain.trials import MATCHES
from surgmotion_jax.runs.ablation import Ablated, Extent, ablate


@dataclass(frozen=True)
class Arguments:
    """What the command line asks for."""

    config: tuple[str, ...] = config_flags("pretraining", "a config file or the name of a shipped one: ablate/tiny")
    workdir: str = flag("DIR", "where the rows and their table go")
    rows: str = flag("A,B", f"rows to run, of {', '.join(all_rows())}", default=",".join(DEFAULT_ROWS))
    grid: tuple[str, ...] = flag("FIELD=A,B", "run each row with each of these values of a field", default=())
    match: str = flag("WHAT", "what all runs have the same of: clips, flops", default="clips", choices=MATCHES)
    teacher: str = flag("DIR", "weights for rows with a frozen teacher; without it the row pixel teaches", default="")
    data: str | None = flag("PATH", "videos, a folder, glob, CSV or records:DIR: short for data.sources", default=None)


LINE = CommandLine("ablate", __doc__, Arguments)


def main(argv: Sequence[str]) -> int:
    return LINE.run(argv, lambda asked: run(asked, f"surgmotion ablate {' '.join(argv)}"))


def run(asked: Arguments, command: str) -> int:
    """Trains the rows, prints their table, and returns the exit code."""
    rows, config = choose_rows(asked.rows), pretrain_config(asked.config, asked.data)
    extent = Extent(asked.grid, asked.match, asked.teacher)
    ablated = ablate(config, asked.workdir, rows, extent, command=command)
    if ablated.table:
        print(ablated.table)
    return exit_code(ablated, config)


def exit_code(ablated: Ablated, config: PretrainConfig) -> int:
    """That of the row that ended the command, else of a row that an alarm ended, else 0."""
    codes = [pretrain.exit_code(ending, config) for ending in ablated.endings.values()]
    if codes and codes[-1] not in (0, pretrain.HALTED):
        return codes[-1]
    return pretrain.HALTED if pretrain.HALTED in codes else 0
