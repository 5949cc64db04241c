"""The bytes of an annotation, wherever it is stored."""

from __future__ import annotations

from pathlib import Path

from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.data.tfds_source import is_tfds, stored_file


def read_file(path: Path) -> bytes:
    """A file, or what a `tfds:` location holds. Raises BenchmarkError where there is none."""
    if is_tfds(str(path)):
        try:
            return stored_file(str(path))
        except ValueError as error:
            raise BenchmarkError(path, str(error), "an annotation of this moment", "build the source again") from error
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise BenchmarkError(path, reason.lower(), "a file of this name", "put it there") from error
