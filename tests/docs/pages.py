"""What the pages say to type: the commands of their shell blocks, and their blocks of Python."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")})
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PROGRAMS = ("surgmotion", "bash", "pip", "python", "pytest")


class Command(NamedTuple):
    """One command line of a page."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def blocks(page: Path, language: str) -> list[str]:
    """The contents of the fenced blocks in a language."""
    return [content for found, content in BLOCK.findall(page.read_text()) if found == language]


def commands(page: Path) -> list[Command]:
    """The command lines of a page's shell blocks, without comments and leading variables, split at `&&`."""
    found = []
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"\s&&\s|;", line.split(" #")[0] if not line.startswith("#") else ""):
                words = [word for word in shlex.split(part) if not re.match(r"[A-Z_]+=", word)]
                if words:
                    found.append(Command(page.name, tuple(words)))
    return found


def all_commands() -> list[Command]:
    """Those of every page, the README first, because other pages use what its commands make."""
    first = sorted(PAGES, key=lambda page: (page.name != "README.md", page.name))
    return [command for page in first for command in commands(page)]
