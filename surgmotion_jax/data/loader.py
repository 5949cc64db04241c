"""Batches of clips for one host, decoded ahead by grain.

Row r of step s is the sample with global index s * global_batch + r, whichever host asks and however many
threads or processes decode: the position in the data is a pure function of (seed, step), so a run resumes from
its step number alone, on any number of hosts. Letters: B batch (this host's rows), T frames, H height, W width.
"""

import sys
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

import grain
import numpy as np
from absl import flags

from surgmotion_jax.data.clips import ClipDataset, Split
from surgmotion_jax.data.sample import Batch, Fault, Sample
from surgmotion_jax.data.workers import WorkersLost, WorkerWatch, shared_names, start_worker

INDEX_PERIOD = 2**32
"""Sample indices are uint32 and start over after this many samples, and so does the stream of clips: after
1.4 million steps at a global batch of 3,072. Clip and device randomness then repeat together."""

_RESTARTS = 3
"""Times that decoding processes are replaced in a row, without a batch in between, before a run is given up."""

_PATIENCE = 4
"""Waits for a file, `stalled_s` each, that may follow one another before a batch is due."""


class _Positions(Sequence[int]):
    """Global sample indices of this host's rows, step after step."""

    def __init__(self, global_batch: int, rows: tuple[int, int], start_step: int, stop_step: int) -> None:
        self._global_batch, self._first_row = global_batch, rows[0]
        self._rows, self._start_step = rows[1] - rows[0], start_step
        self._steps = stop_step - start_step

    def __len__(self) -> int:
        return self._steps * self._rows

    def after(self, steps: int) -> "_Positions":
        """What is left once so many steps have been taken."""
        start, rows = self._start_step + steps, (self._first_row, self._first_row + self._rows)
        return _Positions(self._global_batch, rows, start, self._start_step + self._steps)

    def __getitem__(self, item: Any) -> Any:
        step, row = divmod(int(item), self._rows)
        return ((self._start_step + step) * self._global_batch + self._first_row + row) % INDEX_PERIOD


class _Draw:
    """Global sample index -> (index, sample, failed reads). A class, so that it travels to worker processes."""

    def __init__(self, dataset: ClipDataset, split: Split) -> None:
        self._dataset, self._split = dataset, split

    def __call__(self, index: int) -> tuple[int, Sample, tuple[Fault, ...]]:
        return (index, *self._dataset.draw(index, self._split))


def complain(text: str) -> None:
    """A line on stderr."""
    print(text, file=sys.stderr, flush=True)


def batches(
    dataset: ClipDataset,
    *,
    global_batch: int,
    rows: tuple[int, int],
    start_step: int,
    stop_step: int,
    split: Split = "train",
    tell: Callable[[str], None] = complain,
) -> Generator[Batch, None, None]:
    """Batches of the steps [start_step, stop_step), holding rows [rows[0], rows[1]) of each global batch.

    Decoding runs ahead by `config.prefetch` batches in `config.threads` threads of this process, or of each of
    `config.workers` processes, which die with this one. Processes are spawned: a script that uses them guards
    its entry by `if __name__ == "__main__"`. The thread that takes the first batch must live as long as the
    iterator, since Linux kills a worker with the thread that started it. Close the iterator to stop early.

    Processes that end, or give nothing for a long time, are replaced, and the same batches go on: `tell` is told.

    Raises:
        ValueError: rows or steps out of range.
        BudgetExceeded: while iterating, when too many files turn out unreadable.
        Stalled: while iterating, when several files at once do not answer.
        WorkersLost: while iterating, when processes were replaced several times in a row, to no avail.
    """
    low, high = rows
    if not 0 <= low < high <= global_batch:
        raise ValueError(f"rows: found {rows}, allowed are 0 <= first < last <= global_batch = {global_batch}")
    if not 0 <= start_step <= stop_step:
        raise ValueError(f"steps: found {start_step} to {stop_step}, allowed are 0 <= start_step <= stop_step")
    positions = _Positions(global_batch, rows, start_step, stop_step)
    return _iterate(dataset, positions, high - low, split, tell)


def _iterate(
    dataset: ClipDataset, positions: _Positions, rows: int, split: Split, tell: Callable[[str], None]
) -> Generator[Batch, None, None]:
    taken, lost = 0, 0
    while left := positions.after(taken):
        try:
            for fields in _decoded(dataset, left, rows, split):
                # Counted here and not in the workers, in batch order: the same run stops at the same step.
                dataset.charge(fields["skipped"])
                taken, lost = taken + 1, 0
                yield Batch(**fields)
        except WorkersLost as error:
            lost += 1
            if lost > _RESTARTS:
                raise WorkersLost(
                    f"{error}; {_RESTARTS} times in a row others in their place fared no better"
                ) from error
            tell(f"{error}; others take their place")


def _decoded(
    dataset: ClipDataset, positions: _Positions, rows: int, split: Split
) -> Generator[dict[str, Any], None, None]:
    """The fields of each batch. Raises WorkersLost where the processes that decode end before."""
    config = dataset.config
    watch = WorkerWatch(_PATIENCE * config.stalled_s if config.workers else 0.0)
    with shared_names() as shared:
        source = iter(_pipeline(dataset, positions, rows, split, shared))
        try:
            for _ in range(len(positions) // rows):
                with watch.waiting():
                    fields = next(source)
                yield {name: _owned(value) for name, value in fields.items()} if config.workers else fields
                del fields
        finally:
            source.close()


def _pipeline(dataset: ClipDataset, positions: _Positions, rows: int, split: Split, shared: str) -> grain.IterDataset:
    """Batches decoded ahead; names of memory that processes share begin with `shared`."""
    config = dataset.config
    pipeline = (
        grain.MapDataset.source(positions)
        .map(_Draw(dataset, split))
        .batch(rows, batch_fn=_stack)
        .to_iter_dataset(
            grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=max(config.prefetch, config.threads))
        )
    )
    if not config.workers:
        return pipeline
    if not flags.FLAGS.is_parsed():
        # grain asks absl for its own flags when it starts a process, and fails where absl parsed none.
        flags.FLAGS.mark_as_parsed()
    options = grain.multiprocessing.MultiprocessingOptions(
        num_workers=config.workers, per_worker_buffer_size=config.prefetch
    )
    return pipeline.mp_prefetch(options, worker_init_fn=partial(_start_worker, shared))


def _owned(value: Any) -> Any:
    """An array of this process's own. Those in shared memory keep it for as long as anybody, or a device, has them."""
    return np.array(value) if isinstance(value, np.ndarray) else value


def _stack(drawn: Sequence[tuple[int, Sample, tuple[Fault, ...]]]) -> dict[str, Any]:
    """The fields of `Batch`. A plain dict, whose arrays grain passes between processes in shared memory."""
    indices, samples, faults = zip(*drawn, strict=True)
    return {
        "video_BxTxHxWx3": np.stack([sample.video_TxHxWx3 for sample in samples]),
        "valid_BxT": np.stack([sample.valid_T for sample in samples]),
        "index_B": np.array(indices, np.uint32),
        "origin": tuple(sample.origin for sample in samples),
        "skipped": tuple(fault for row in faults for fault in row),
    }


def _start_worker(shared: str, worker: int, workers: int) -> None:
    del worker, workers  # grain tells both
    start_worker(shared)
