"""The small runs of the command's tests serve these too."""

from tests.commands.conftest import cache, command, prepare, run, videos

__all__ = ["cache", "command", "prepare", "run", "videos"]
