"""Pictures the first training clips of a run as the model gets them, and prints one line for each.

The picture shows frames of the videos, so treat it as you treat them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from surgmotion_jax import storage
from surgmotion_jax.commands.command_line import CommandLine, config_flags, flag
from surgmotion_jax.commands.configs import pretrain_config
from surgmotion_jax.pages.clip_drawings import draw
from surgmotion_jax.pages.clips import describe, training_clips


def png_name(text: str) -> str:
    """The name of a picture. Raises ValueError for another ending."""
    if not text.lower().endswith(".png"):
        raise ValueError("it must name the picture to write, e.g. --out=preview.png.")
    return text


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    out: str = flag("FILE.png", "the picture", read=png_name)
    data: str | None = flag(
        "PATH",
        "a video, folder, glob or CSV; may be left out where the config names data.sources",
        default=None,
    )
    config: tuple[str, ...] = config_flags(
        "pretraining", "what the run would use (default: pretrain/tiny)", default="pretrain/tiny"
    )
    clips: int = flag("N", "how many clips", default=4, least=1)


LINE = CommandLine("data preview", __doc__, Request)


def main(argv: Sequence[str]) -> int:
    return LINE.run(argv, preview)


def preview(request: Request) -> int:
    storage.ensure_writable(storage.as_path(request.out).parent)
    config = pretrain_config(request.config, request.data)
    shown_S = list(training_clips(config, request.clips))
    for number, shown in enumerate(shown_S, 1):
        print(describe(number, shown))
    file = io.BytesIO()
    draw(shown_S, config).save(file, "PNG")
    storage.write_bytes_atomic(request.out, file.getvalue())
    print(f"preview: {request.out}")
    return 0
