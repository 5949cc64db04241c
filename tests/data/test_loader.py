"""Loader laws: one order whatever hosts, threads, workers and restarts; no worker outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from surgmotion_jax.data import Batch, ClipDataset, DataConfig, SourceConfig, batches
from surgmotion_jax.data.loader import INDEX_PERIOD


def _config(folder: Path, **changes) -> DataConfig:
    config = DataConfig(
        sources={"d": SourceConfig(str(folder))},
        frames=2,
        fps=5.0,
        canvas=(32, 32),
        holdout=0.2,
        memory_gb=0.1,
    )
    return replace(config, **changes)


@pytest.fixture(scope="module")
def dataset(three_videos) -> ClipDataset:
    return ClipDataset(_config(three_videos), seed=1)


def _take(dataset: ClipDataset, rows=(0, 8), start=0, stop=3, split="train") -> list[Batch]:
    steps = {"start_step": start, "stop_step": stop}
    return list(batches(dataset, global_batch=8, rows=rows, **steps, split=split))


def _assert_same(ours: list[Batch], theirs: list[Batch]) -> None:
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one.video_BxTxHxWx3, other.video_BxTxHxWx3)
        np.testing.assert_array_equal(one.valid_BxT, other.valid_BxT)
        np.testing.assert_array_equal(one.index_B, other.index_B)
        assert one.origin == other.origin


def test_batch_is_the_clips_of_its_indices(dataset):
    for split in ("train", "heldout"):
        for step, batch in enumerate(_take(dataset, split=split)):
            assert batch.video_BxTxHxWx3.shape == (8, 2, 32, 32, 3)
            assert batch.video_BxTxHxWx3.dtype == np.uint8
            assert batch.index_B.dtype == np.uint32
            assert batch.index_B.tolist() == list(range(step * 8, step * 8 + 8))
            for row, index in enumerate(batch.index_B.tolist()):
                clip = dataset.clip(index, split)
                np.testing.assert_array_equal(batch.video_BxTxHxWx3[row], clip.video_TxHxWx3)
                assert batch.origin[row] == clip.origin
            assert batch.skipped == ()


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_together_hold_the_same_global_batch(dataset, hosts):
    each = 8 // hosts
    parts = [_take(dataset, rows=(h * each, (h + 1) * each)) for h in range(hosts)]
    joined = [
        Batch(
            np.concatenate([part.video_BxTxHxWx3 for part in step]),
            np.concatenate([part.valid_BxT for part in step]),
            np.concatenate([part.index_B for part in step]),
            sum((part.origin for part in step), ()),
        )
        for step in zip(*parts, strict=True)
    ]
    _assert_same(joined, _take(dataset))


def test_starting_late_equals_skipping(dataset):
    _assert_same(_take(dataset, start=3, stop=6), _take(dataset, stop=6)[3:])


@pytest.mark.parametrize("changes", [{"threads": 1, "prefetch": 1}, {"threads": 5, "prefetch": 7}, {"workers": 2}])
def test_threads_and_workers_do_not_change_the_order(dataset, three_videos, changes):
    _assert_same(_take(ClipDataset(_config(three_videos, **changes), seed=1), stop=5), _take(dataset, stop=5))


def test_index_wraps_at_two_to_the_32(dataset):
    step = INDEX_PERIOD // 8 - 1
    last, first = _take(dataset, start=step, stop=step + 2)
    assert last.index_B.tolist() == list(range(INDEX_PERIOD - 8, INDEX_PERIOD))
    _assert_same([first], _take(dataset, stop=1))


def test_no_step_no_batch(dataset):
    assert list(batches(dataset, global_batch=8, rows=(0, 8), start_step=4, stop_step=4)) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": (0, 9)}, r"rows: found \(0, 9\), allowed are 0 <= first < last <= global_batch = 8"),
        ({"rows": (4, 4)}, r"rows: found \(4, 4\)"),
        ({"start_step": 3, "stop_step": 2}, "steps: found 3 to 2"),
    ],
)
def test_bad_ranges_are_refused_at_once(dataset, changes, message):
    with pytest.raises(ValueError, match=message):
        batches(dataset, **{"global_batch": 8, "rows": (0, 8), "start_step": 0, "stop_step": 1, **changes})


def test_failed_reads_travel_with_the_batch_and_are_counted_once(tmp_path, write_video):
    for name, frames in (("a", 40), ("b", 41)):
        write_video(tmp_path / f"{name}.mp4", frames=frames)
    dataset = ClipDataset(_config(tmp_path, holdout=0.0, memory_gb=0.0), seed=1)
    (tmp_path / "b.mp4").write_bytes(b"")
    taken = _take(dataset)
    assert {Path(fault.path).name for batch in taken for fault in batch.skipped} == {"b.mp4"}
    assert len(dataset.faults) == 1
    assert all(origin.startswith("d/a@") for batch in taken for origin in batch.origin)


_SCRIPT = """
import multiprocessing, sys, time
from surgmotion_jax.data import ClipDataset, DataConfig, SourceConfig, batches

def main():
    config = DataConfig(sources={"d": SourceConfig(sys.argv[1])}, frames=2, canvas=(32, 32), workers=2)
    source = batches(ClipDataset(config, 0), global_batch=2, rows=(0, 2), start_step=0, stop_step=10**6)
    next(source)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(60)

if __name__ == "__main__":
    main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_no_worker_survives_kill_9(three_videos, tmp_path):
    script = tmp_path / "trainer.py"
    script.write_text(_SCRIPT)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, str(script), str(three_videos)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as trainer:
        assert trainer.stdout is not None
        workers = [int(pid) for pid in trainer.stdout.readline().split()]
        assert len(workers) == 2
        assert all(_alive(pid) for pid in workers)
        trainer.send_signal(signal.SIGKILL)
        trainer.wait()
    deadline = time.monotonic() + 10
    while any(_alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [pid for pid in workers if _alive(pid)] == []


_INTERRUPTED = """
import signal, sys
from surgmotion_jax.data import ClipDataset, DataConfig, SourceConfig, batches

def main():
    signal.signal(signal.SIGINT, lambda *_: print("told", flush=True))
    config = DataConfig(sources={"d": SourceConfig(sys.argv[1])}, frames=2, canvas=(32, 32), workers=2, prefetch=1)
    source = batches(ClipDataset(config, 0), global_batch=2, rows=(0, 2), start_step=0, stop_step=10**6)
    next(source)
    print("started", flush=True)
    sys.stdin.readline()
    print(sum(len(next(source).index_B) for _ in range(8)), flush=True)
    source.close()

if __name__ == "__main__":
    main()
"""


def test_ctrl_c_leaves_the_workers_to_the_trainer(three_videos, tmp_path):
    """A terminal sends it to all processes of a command; the trainer finishes its step and saves."""
    script = tmp_path / "trainer.py"
    script.write_text(_INTERRUPTED)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, str(script), str(three_videos)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env, start_new_session=True) as trainer:
        assert trainer.stdout is not None
        assert trainer.stdout.readline() == "started\n"
        os.killpg(trainer.pid, signal.SIGINT)
        assert trainer.stdout.readline() == "told\n"
        said, _ = trainer.communicate("go on\n", timeout=60)
    assert said == "16\n"
    assert trainer.returncode == 0


def _alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
