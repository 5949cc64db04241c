"""Saving and restoring training states. The only file that knows Orbax.

Orbax gives asynchronous, atomic, resharding saves. On top of it stand the manifest (refuse what does not
fit), the digests (notice damage, which Orbax restores without a word) and the rule that a failed save never
costs the run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from surgmotion_jax import storage
from surgmotion_jax.checkpoints import retention
from surgmotion_jax.checkpoints.best import Best, read_best, write_best
from surgmotion_jax.checkpoints.digest import table_digests
from surgmotion_jax.checkpoints.errors import (
    LISTED,
    CheckpointDamaged,
    CheckpointMismatch,
    CheckpointMissing,
    CheckpointOfAnotherSchema,
)
from surgmotion_jax.checkpoints.manifest import (
    Manifest,
    ManifestFields,
    compare_fields,
    compare_tree,
    describe,
)
from surgmotion_jax.checkpoints.reading import first_line, keep_abandoned_reads_quiet
from surgmotion_jax.checkpoints.retention import MANIFEST_ITEM, STATE_ITEM
from surgmotion_jax.checkpoints.tree import Array, Tree, leaves_by_path, nest

Abstract = jax.ShapeDtypeStruct | np.ndarray  # what a leaf is to be; a NumPy array asks for one of its shape


@dataclasses.dataclass(frozen=True)
class SaveFailure:
    """A save that did not come about: of which step, and the innermost cause in one line."""

    step: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Restored:
    """A restored state, its manifest and step, and the later steps that were passed over: (step, reason)."""

    state: Tree
    manifest: Manifest
    step: int
    skipped: tuple[tuple[int, str], ...] = ()


class _Response(Protocol):
    """Orbax's promise of a save."""

    def result(self) -> object: ...


def _print_warning(message: str) -> None:
    print(f"WARNING: {message}", file=sys.stderr, flush=True)


class CheckpointStore:
    """The checkpoints of one run: directories `<directory>/<step>`.

    Keeps the newest `keep` steps, every step divisible by `keep_every` (0: none), and the best step if any was
    saved as such. Every method is to be called by all processes alike; files that are not arrays are written by
    process 0. `warn` receives a sentence whenever a save fails or a damaged checkpoint is passed over (default:
    stderr). Holds at most one save in flight.

    Raises ValueError for keep < 1 or keep_every < 0; touches no file before the first save.
    """

    def __init__(
        self,
        directory: storage.PathLike,
        keep: int = 3,
        keep_every: int = 0,
        warn: Callable[[str], None] = _print_warning,
    ) -> None:
        if keep < 1 or keep_every < 0:
            raise ValueError(f"keep={keep}, keep_every={keep_every}: allowed are keep >= 1 and keep_every >= 0")
        self._directory = storage.as_path(directory)
        if storage.is_local(self._directory):
            self._directory = self._directory.absolute()  # Orbax takes absolute paths only
        self._keep, self._keep_every = keep, keep_every
        self._warn = warn
        self._pending: tuple[int, _Response, Best | None] | None = None
        self._damaged: set[int] = set()
        self._failure: SaveFailure | None = None

    def __enter__(self) -> CheckpointStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def directory(self) -> epath.Path:
        """Where the steps are."""
        return self._directory

    def steps(self) -> list[int]:
        """Steps on disk, ascending, damaged ones included; a save in flight is not among them."""
        return retention.list_steps(self._directory)

    def latest(self) -> int | None:
        """The newest step on disk, or None."""
        return max(self.steps(), default=None)

    def best(self) -> Best | None:
        """The best step saved so far, by the metric it was saved with, or None."""
        return read_best(self._directory)

    @property
    def failure(self) -> SaveFailure | None:
        """The latest save that failed, unless a later one succeeded."""
        return self._failure

    def read_manifest(self, step: int | None = None) -> Manifest:
        """The manifest of a step (default: the newest).

        Raises CheckpointMissing, CheckpointDamaged or CheckpointOfAnotherSchema.
        """
        chosen = self._candidates(step)[0]
        try:
            return retention.read_manifest(self._directory / str(chosen))
        except CheckpointOfAnotherSchema:
            raise
        except (OSError, ValueError) as error:
            raise CheckpointDamaged(f"{self._directory / str(chosen)}: manifest unreadable: {error}") from error

    def save(
        self, step: int, state: Tree, fields: ManifestFields, *, wait: bool = False, best: Best | None = None
    ) -> bool:
        """Saves a state of arrays, returning once the arrays are copied; writing goes on behind.

        The state may be donated as soon as this returns. Waits for the save before, if that is not done.
        Returns False, having warned, if the save could not begin (or, with `wait`, complete): the disk is
        full, say, and training should go on. A failure after the return is reported by the next `save`,
        `wait` or `close`. The same state saved twice at a step is written once; another state replaces it
        once it is complete. `best` makes it the best step of the run, once it is complete.

        Raises ValueError, always a mistake of the caller, for leaves or manifest fields that cannot be
        stored.
        """
        self.wait()
        leaves = leaves_by_path(state)
        manifest = describe(step, leaves, table_digests(leaves), fields)
        items = {STATE_ITEM: nest(leaves), MANIFEST_ITEM: manifest.to_dict()}
        try:
            if self._already_holds(manifest):
                if best is not None:
                    self._on_first_process("retention", lambda: self._settle(best))
                self._failure = None
                return True
            self._clear_the_way(step)
            with _orbax_context():
                self._pending = step, ocp.save_checkpointables_async(self._directory / str(step), items), best
        except Exception as error:  # whatever a filesystem can raise: a lost save must not cost the run
            self._pending = None
            self._report_failure(step, error)
            return False
        return self.wait() if wait else True

    def wait(self) -> bool:
        """Blocks until the save in flight is on disk, then prunes. False, having warned, if it failed."""
        if self._pending is None:
            return True
        (step, response, best), self._pending = self._pending, None
        try:
            response.result()
        except Exception as error:  # as in `save`
            self._report_failure(step, error)
            return False
        self._damaged.discard(step)
        self._failure = None
        self._on_first_process("retention", lambda: self._settle(best))
        return True

    def discard_after(self, step: int) -> None:
        """Deletes the checkpoints of all later steps, and forgets a best one among them."""
        self.wait()
        _first_then_all(f"checkpoints after {step} gone", lambda: retention.discard_after(self._directory, step))

    def close(self) -> None:
        """Completes the save in flight. The store can be used again afterwards."""
        self.wait()

    def restore(
        self, abstract_state: Tree, step: int | None = None, *, architecture: Mapping[str, storage.Json] | None = None
    ) -> Restored:
        """Restores the newest sound checkpoint, onto the shardings of `abstract_state`, verified bit by bit.

        `abstract_state` is a tree of `jax.ShapeDtypeStruct` with shardings (without one: the first local
        device), or of arrays. A damaged step is passed over, with a warning, for the one before; if `step` is
        given, that step or nothing. `architecture`, if given, is compared field by field with the manifest's.

        Raises CheckpointMismatch if the newest readable manifest differs in architecture, leaves, shapes or
        dtypes, CheckpointOfAnotherSchema if another version of the package wrote it (no earlier step is tried);
        CheckpointDamaged if no step is sound; CheckpointMissing if there is none.
        """
        self.wait()
        skipped: list[tuple[int, str]] = []
        for candidate in self._candidates(step):
            restored, reason = self._attempt(candidate, abstract_state, architecture)
            if restored is not None:
                return dataclasses.replace(restored, skipped=tuple(skipped))
            self._damaged.add(candidate)
            self._warn(f"checkpoint {self._directory / str(candidate)} is damaged and passed over: {reason}")
            skipped.append((candidate, reason))
        reasons = "\n  ".join(f"step {number}: {reason}" for number, reason in skipped)
        raise CheckpointDamaged(
            f"{self._directory}: no sound checkpoint:\n  {reasons}\n"
            "Restore the files from a copy, name another step, or start in another workdir."
        )

    def _candidates(self, step: int | None) -> list[int]:
        steps = self.steps()
        if not steps or (step is not None and step not in steps):
            wanted = "a checkpoint" if step is None else f"step {step}"
            raise CheckpointMissing(f"{self._directory}: {wanted} was asked for, found steps {steps}; check the path")
        return steps[::-1] if step is None else [step]

    def _attempt(
        self, step: int, abstract_state: Tree, architecture: Mapping[str, storage.Json] | None
    ) -> tuple[Restored | None, str]:
        """One step: the restored state, or None and the reason, the same on all processes."""
        restored, reason = None, ""
        try:
            restored = self._restore_step(step, abstract_state, architecture)
        except (CheckpointMismatch, CheckpointOfAnotherSchema):
            raise
        except CheckpointDamaged as error:
            reason = str(error)
        except (OSError, ValueError) as error:
            reason = first_line(error)
        if jax.process_count() > 1 and not np.all(multihost_utils.process_allgather(np.asarray(restored is not None))):
            restored, reason = None, reason or "another process could not read it"
        return restored, reason

    def _restore_step(
        self, step: int, abstract_state: Tree, architecture: Mapping[str, storage.Json] | None
    ) -> Restored:
        checkpoint = self._directory / str(step)
        manifest = retention.read_manifest(checkpoint)
        differences = compare_tree(manifest, abstract_state)
        if architecture is not None:
            differences = compare_fields(manifest.architecture, architecture, "architecture") + differences
        if differences:
            raise CheckpointMismatch(str(checkpoint), differences)
        wanted = {path: _abstract(leaf) for path, leaf in leaves_by_path(abstract_state).items()}
        loaded = load_verified(checkpoint, manifest, wanted)
        structure = jax.tree.structure(abstract_state)
        return Restored(jax.tree.unflatten(structure, [loaded[path] for path in wanted]), manifest, step)

    def _already_holds(self, manifest: Manifest) -> bool:
        existing = self._directory / str(manifest.step)
        if manifest.step in self._damaged or not retention.is_ours(existing, manifest.step):
            return False
        saved = retention.read_manifest(existing)
        return (existing / retention.COMMIT_FILE).exists() and saved.to_dict() == manifest.to_dict()

    def _clear_the_way(self, step: int) -> None:
        checkpoint = self._directory / str(step)

        def clear() -> None:
            if checkpoint.exists():
                sound = step not in self._damaged and retention.is_ours(checkpoint, step)
                target = retention.set_aside(self._directory, step, sound)
                self._warn(f"{checkpoint} is saved anew; the {'old' if sound else 'damaged'} one is now {target.name}")
            self._directory.mkdir(parents=True, exist_ok=True)

        _first_then_all(f"checkpoint {step} cleared", clear)

    def _settle(self, best: Best | None) -> None:
        """After a complete save: notes that it is the best, and deletes what retention no longer wants."""
        if best is not None:
            write_best(self._directory, best)
        kept = read_best(self._directory)
        retention.prune(self._directory, self._keep, self._keep_every, self._damaged, kept.step if kept else None)

    def _on_first_process(self, what: str, action: Callable[[], None]) -> None:
        if jax.process_index() != 0:
            return
        try:
            action()
        except (OSError, ValueError) as error:
            self._warn(f"{self._directory}: {what} failed ({error}); training goes on, disk space is not freed")

    def _report_failure(self, step: int, error: Exception) -> None:
        self._failure = SaveFailure(step, first_line(error))
        self._warn(
            f"checkpoint {self._directory / str(step)} was not saved: {self._failure.reason}; "
            "training goes on and the next save tries again; check free space and permissions. "
            f"Steps on disk: {self._steps_or_none()}"
        )

        def clean_up() -> None:
            retention.discard_temporaries(self._directory, step)
            retention.put_back(self._directory, step)

        self._on_first_process("clean-up", clean_up)

    def _steps_or_none(self) -> list[int]:
        try:
            return self.steps()
        except OSError:
            return []


def load_verified(checkpoint: epath.Path, manifest: Manifest, wanted: Mapping[str, Abstract]) -> dict[str, Array]:
    """Loads path -> leaf and compares digests. Raises CheckpointDamaged naming each leaf that changed."""
    if not (checkpoint / retention.COMMIT_FILE).exists():
        raise CheckpointDamaged(f"{checkpoint}: {retention.COMMIT_FILE} is missing, so the copy or save is partial")
    keep_abandoned_reads_quiet()
    loaded, failure = None, ""
    try:
        with _orbax_context(partial=len(wanted) < len(manifest.tree)):
            items = ocp.load_checkpointables(checkpoint, {STATE_ITEM: nest(wanted)})
        loaded = leaves_by_path(items[STATE_ITEM])
    except jax.errors.JaxRuntimeError:  # the device's fault, not the files'
        raise
    except Exception as error:  # damage surfaces as any type, from JSON errors to tensorstore's
        failure = first_line(error)
    if loaded is None:
        raise CheckpointDamaged(f"{checkpoint}: unreadable: {failure}")
    digests = table_digests(loaded)
    changed = [path for path in wanted if digests[path] != manifest.tree[path]["digest"]]
    if changed:
        raise CheckpointDamaged(f"{checkpoint}: the bits of {', '.join(changed[:LISTED])} are not those saved")
    return loaded


def append_leaves(checkpoint: epath.Path, leaves: Mapping[str, np.ndarray]) -> None:
    """Adds path -> leaf to a checkpoint under way, holding no copy; `complete` makes one checkpoint of them all."""
    with _orbax_context(streaming=True):
        ocp.partial.save(checkpoint, nest(leaves))


def complete(checkpoint: epath.Path) -> None:
    """Ends what `append_leaves` began; before this, nothing is at `checkpoint`."""
    with _orbax_context(streaming=True):
        ocp.partial.finalize(checkpoint)


def _first_then_all(done: str, action: Callable[[], None]) -> None:
    """The first process acts, and the others wait for it."""
    if jax.process_index() == 0:
        action()
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(done)


def _abstract(leaf: Array) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


@contextlib.contextmanager
def _orbax_context(partial: bool = False, streaming: bool = False) -> Iterator[None]:
    registry = ocp.handlers.local_registry()
    registry.add(ocp.handlers.JsonHandler, checkpointable_name=MANIFEST_ITEM)  # else stored as a tree of arrays
    context = ocp.Context()
    context.checkpointables.registry = registry
    context.pytree.loading.partial_load = partial
    if streaming:  # otherwise a copy of each leaf, and all of it compressed, wait in memory
        context.memory_options.deepcopy_host_arrays = False
        context.array_options.saving.ocdbt_target_data_file_size = 64 * 2**20
        context.array_options.saving.storage_options.chunk_byte_size = 16 * 2**20
    with context:
        yield
