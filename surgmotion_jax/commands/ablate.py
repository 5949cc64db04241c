"""`surgmotion ablate --config=FILE[:ARG] --workdir=DIR [--rows=A,B] [--data=PATH] [--config.section.field=VALUE ...]`

Trains one run for each row of the ablation, with equal budgets, and writes one table of gauges and held-out errors.
Repeating the command resumes: finished rows are not run again.

  --config=FILE[:ARG]   a config of `surgmotion pretrain`, e.g. ablate/tiny; it weighs the terms that rows have
  --workdir=DIR         each row trains in DIR/ROW; table.txt, results.md and results.json go to DIR
  --rows=A,B            rows to run (default: plain,motion,affinity,sfdr,all,pixel; there are also topk and topk_mean)
  --data=PATH           a video, folder, glob or CSV: short for the config's data.sources
  --config.a.b=VALUE    overrides a field in every row, e.g. --config.steps=1000

Rows: plain is V-JEPA without the paper's terms; motion, affinity and sfdr add one term each, all adds the three; pixel
predicts pixels instead of features. In topk only the K tubes of most motion carry a prediction loss, as the formula
says; topk_mean scales that loss to a total weight of 1, as the other rows have.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from surgmotion_jax.commands import pretrain
from surgmotion_jax.pretrain.ablation import choose_rows
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.runs.ablation import Ablated, ablate


def main(argv: Sequence[str]) -> int:
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        return 0
    config, workdir, rows = read_command_line(argv)
    ablated = ablate(config, workdir, rows, command=f"surgmotion ablate {' '.join(argv)}")
    if ablated.table:
        print(ablated.table)
    return exit_code(ablated, config)


def exit_code(ablated: Ablated, config: PretrainConfig) -> int:
    """That of the row that ended the command, else of a row that an alarm ended, else 0."""
    codes = [pretrain.exit_code(ending, config) for ending in ablated.endings.values()]
    if codes and codes[-1] not in (0, pretrain.HALTED):
        return codes[-1]
    return pretrain.HALTED if pretrain.HALTED in codes else 0


def read_command_line(argv: Sequence[str]) -> tuple[PretrainConfig, str, tuple[str, ...]]:
    """Config, workdir and rows. Raises ValueError for anything unknown."""
    parser = argparse.ArgumentParser(prog="surgmotion ablate", add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--rows", default="")
    try:
        given, rest = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise ValueError(f"{error}; see surgmotion ablate --help.") from None
    rows = choose_rows(given.rows)
    return *pretrain.read_command_line(rest, "ablate"), rows
