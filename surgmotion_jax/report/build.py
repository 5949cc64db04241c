"""Builds the page and puts it in place in one move, so that a reader never sees half of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from etils import epath

from surgmotion_jax import storage
from surgmotion_jax.report.html import Section, page
from surgmotion_jax.report.run import RunRecord, load_run
from surgmotion_jax.report.sections import SECTIONS
from surgmotion_jax.report.tables import subtitle


def build_report(workdir: storage.PathLike, out: storage.PathLike | None = None) -> epath.Path:
    """Writes one self-contained HTML file about a run and returns its path.

    Args:
      workdir: a pretraining workdir; only its metrics file must be there.
      out: the file to write, by default `report.html` in the workdir. Replaced if it exists.

    Raises:
      ValueError: `workdir` is no workdir, or `out` cannot be written.
    """
    run = load_run(workdir)
    path = run.workdir / "report.html" if out is None else storage.as_path(out)
    try:
        storage.write_text_atomic(path, render(run))
    except OSError as error:
        raise ValueError(f"{path}: the report cannot be written ({error}); choose another file for it") from error
    return path


def render(run: RunRecord, sections: Sequence[Callable[[RunRecord], Section]] = SECTIONS) -> str:
    """The page of a run already loaded."""
    return page(run.workdir.resolve().name, subtitle(run), [section(run) for section in sections])
