"""Says which of a run's videos show what a benchmark is tested on, from when to when. Exit code 2 where any does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from surgmotion_jax.commands.command_line import CommandLine, comma_list, config_flags, flag
from surgmotion_jax.commands.configs import pretrain_config
from surgmotion_jax.corpus.leaks import leaks, of_sources
from surgmotion_jax.corpus.lists import read_lists

LEAKED = 2
"""Exit code where something leaks."""


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    lists: tuple[str, ...] = flag("LISTS", "what surgmotion data fingerprint wrote", read=comma_list)
    data: str | None = flag("PATH", "a video, folder, glob, CSV or records:DIR", default=None)
    config: tuple[str, ...] = config_flags(
        "pretraining", "whose data.sources are looked at (default: pretrain/tiny)", default="pretrain/tiny"
    )


LINE = CommandLine("data leaks", __doc__, Request)


def main(argv: Sequence[str]) -> int:
    return LINE.run(argv, data_leaks)


def data_leaks(request: Request) -> int:
    listed = read_lists(request.lists)
    found = list(of_sources(pretrain_config(request.config, request.data).data.sources))
    lost = leaks(found, listed)
    print("\n".join(loss.text for loss in lost))
    hours = sum(len(seconds) for _, seconds in found) / 3600
    print(f"{len(lost)} stretches of {len(found)} videos ({hours:.2f} hours) are among {len(listed)} listed videos")
    return LEAKED if lost else 0
