"""The one error of readers, checks and clips: where, what was found, what the layout asks, and the fix."""

from __future__ import annotations

import os


class BenchmarkError(ValueError):
    """A data set on disk that is not what its layout says.

    `file:at: found X; the layout asks for Y; fix`
    """

    def __init__(
        self, file: str | os.PathLike[str], found: str, asks: str, fix: str, *, at: str | int | None = None
    ) -> None:
        """Args:
        file: the file or folder at fault.
        found: what is there.
        asks: what the layout wants instead.
        fix: what to do, as an imperative.
        at: a line number, or words such as `frame 12`.
        """
        self.file, self.found, self.asks, self.fix, self.at = os.fspath(file), found, asks, fix, at
        place = "" if at is None else f":{at}" if isinstance(at, int) else f", {at}"
        super().__init__(f"{self.file}{place}: found {found}; the layout asks for {asks}; {fix}")

    def __reduce__(self) -> tuple[object, ...]:
        """Travels between processes: ValueError alone would be rebuilt from its message only."""
        return _rebuild, (self.file, self.found, self.asks, self.fix, self.at)


def _rebuild(file: str, found: str, asks: str, fix: str, at: str | int | None) -> BenchmarkError:
    return BenchmarkError(file, found, asks, fix, at=at)
