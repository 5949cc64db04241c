"""Prints every field of a config: its value, what it means, and its default where the config changed it.

Fields are spelt as the flags that override them. Without NAME, lists the shipped configs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from surgmotion_jax import config as door
from surgmotion_jax.commands.command_line import CommandLine, positional
from surgmotion_jax.commands.configs import KINDS, kind_of
from surgmotion_jax.pages.config_fields import as_text, rows_of


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    name: str | None = positional(
        "NAME", "a config file or the name of a shipped one, with its argument: FILE[:ARG]", default=None
    )


LINE = CommandLine("config", __doc__, Request)


def main(argv: Sequence[str]) -> int:
    return LINE.run(argv, show)


def show(request: Request) -> int:
    print("\n".join(listing() if request.name is None else explained(request.name)))
    return 0


def listing() -> Iterator[str]:
    """The shipped configs, with what each says of itself."""
    names = door.config_names()
    width = max(map(len, names), default=0)
    for name in names:
        yield f"  {name:<{width}}  {door.summary(name)}"
    yield "\nsurgmotion config NAME prints every field of one."


def explained(name: str) -> Iterator[str]:
    """Every field of a config."""
    config = door.load_config(name)
    kind = KINDS[kind_of(config)]
    yield f"{name}, {kind.noun}: {door.summary(name)}"
    yield from as_text(rows_of(kind.cls, config.to_dict()))
