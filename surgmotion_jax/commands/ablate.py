"""Trains one run for each row of the ablation, with equal budgets, and writes one table of gauges and held-out errors.

Repeating the command resumes: finished rows are not run again. Each row trains in DIR/ROW; table.txt, results.md and
results.json go to DIR. The config is one of `surgmotion pretrain`, and weighs the terms that rows have.

Rows: plain is V-JEPA without the paper's terms; motion, affinity and sfdr add one term each, all adds the three; pixel
predicts pixels instead of features. In topk only the K tubes of most motion carry a prediction loss, as the formula
says; topk_mean scales that loss to a total weight of 1, as the other rows have. Any further term of the table of losses
is a row of its own name, alone, with the weight that the config gives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from surgmotion_jax.commands import pretrain
from surgmotion_jax.commands.command_line import CommandLine, config_flags, flag
from surgmotion_jax.commands.configs import pretrain_config
from surgmotion_jax.pretrain.ablation import DEFAULT_ROWS, all_rows, choose_rows
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.runs.ablation import Ablated, ablate


@dataclass(frozen=True)
class Arguments:
    """What the command line asks for."""

    config: tuple[str, ...] = config_flags("pretraining", "a config file or the name of a shipped one: ablate/tiny")
    workdir: str = flag("DIR", "where the rows and their table go")
    rows: str = flag("A,B", f"rows to run, of {', '.join(all_rows())}", default=",".join(DEFAULT_ROWS))
    data: str | None = flag("PATH", "a video, folder, glob or CSV: short for the config's data.sources", default=None)


LINE = CommandLine("ablate", __doc__, Arguments)


def main(argv: Sequence[str]) -> int:
    return LINE.run(argv, lambda asked: run(asked, f"surgmotion ablate {' '.join(argv)}"))


def run(asked: Arguments, command: str) -> int:
    """Trains the rows, prints their table, and returns the exit code."""
    rows, config = choose_rows(asked.rows), pretrain_config(asked.config, asked.data)
    ablated = ablate(config, asked.workdir, rows, command=command)
    if ablated.table:
        print(ablated.table)
    return exit_code(ablated, config)


def exit_code(ablated: Ablated, config: PretrainConfig) -> int:
    """That of the row that ended the command, else of a row that an alarm ended, else 0."""
    codes = [pretrain.exit_code(ending, config) for ending in ablated.endings.values()]
    if codes and codes[-1] not in (0, pretrain.HALTED):
        return codes[-1]
    return pretrain.HALTED if pretrain.HALTED in codes else 0
