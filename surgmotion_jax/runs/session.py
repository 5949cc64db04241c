"""Where a run takes place: the workdir that it holds, the devices that it spreads over, the processes that share it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

import jax
from etils import epath

from surgmotion_jax import storage
from surgmotion_jax.checkpoints.lock import workdir_lock
from surgmotion_jax.checkpoints.store import CheckpointStore
from surgmotion_jax.parallel.auto_mesh import Row
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh
from surgmotion_jax.parallel.processes import Group, joined
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.setup.agreement import SETUP, setup_facts
from surgmotion_jax.pretrain.setup.placement import place
from surgmotion_jax.pretrain.setup.teacher import with_teacher
from surgmotion_jax.pretrain.step import resolve


@dataclass(frozen=True)
class Session:
    """A workdir held by one run, and what the run computes on.

    Attributes:
      config: with the mesh and the attention that were chosen.
      workdir: exists, can be written, and is locked.
      command: what a reader of the report is told that made the run.
      group: the processes of the run.
      layout: the mesh.
      mesh_table: why the mesh is as it is; empty where the config gives it.
      store: the checkpoints.
      stream: where the first process tells what happens.
    """

    config: PretrainConfig
    workdir: epath.Path
    command: str
    group: Group
    layout: MeshLayout
    mesh_table: tuple[Row, ...]
    store: CheckpointStore
    stream: TextIO

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks for all."""
        return jax.process_index() == 0

    def say(self, text: str) -> None:
        """A line from the first process."""
        if self.first:
            print(text, file=self.stream, flush=True)


@contextlib.contextmanager
def opened(
    config: PretrainConfig, workdir: storage.PathLike, command: str = "", stream: TextIO | None = None
) -> Iterator[Session]:
    """Joins the processes of a run, has them agree on config and versions, and holds the workdir while the context is
    open.

    Raises ValueError where flags and cluster contradict each other, the processes differ, the workdir cannot be
    written or is another run's, or the mesh does not fit the devices.
    """
    told = stream or sys.stdout
    use_compilation_cache(config.run.compilation_cache)
    with contextlib.ExitStack() as stack:
        group = stack.enter_context(joined(config.distributed, lambda place: _tell(told, place), complain))
        group.agree(SETUP, setup_facts(config, os.fspath(workdir)))
        path = storage.ensure_writable(workdir)
        if jax.process_index() == 0:
            stack.enter_context(workdir_lock(path))
        yield make_session(config, path, command, group, told)


def make_session(config: PretrainConfig, workdir: epath.Path, command: str, group: Group, stream: TextIO) -> Session:
    """The session of a workdir that is held already."""
    placed, mesh_table = place(with_teacher(config), jax.devices())
    layout = MeshLayout(make_mesh(placed.parallel))
    placed = resolve(placed, layout)
    keep = placed.checkpoint
    store = CheckpointStore(workdir / "checkpoints", keep.keep, keep.keep_every)
    return Session(placed, workdir, command, group, layout, tuple(mesh_table), store, stream)


def use_compilation_cache(folder: str) -> None:
    """Keeps compiled programs on disk, so that a second start compiles nothing."""
    if not folder:
        return
    jax.config.update("jax_compilation_cache_dir", os.path.expanduser(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def complain(text: str) -> None:
    """A line about what went wrong, from whichever process it concerns."""
    print(f"surgmotion: {text}", file=sys.stderr, flush=True)


def _tell(stream: TextIO, place: str) -> None:
    print(f"{'processes':>12}  {place}", file=stream, flush=True)
