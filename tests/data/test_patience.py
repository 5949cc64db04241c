"""What does not answer: a file is replaced by others, a decoding process by another, and both are named."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing import shared_memory
from pathlib import Path

import numpy as np
import pytest

from surgmotion_jax.data import ClipDataset, DataConfig, SourceConfig, batches, catalogue
from surgmotion_jax.data.media import UnreadableVideo
from surgmotion_jax.data.patience import MOST_HANGING, Patience, Stalled
from surgmotion_jax.data.workers import WorkersLost, WorkerWatch, decoding_processes, shared_names, state_of


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What hanging reads wait for."""
    event = threading.Event()
    yield event
    event.set()


def test_an_answer_and_an_error_come_through():
    patience = Patience(60.0)
    assert patience.read("a.mp4", lambda: 3) == 3
    for error in (UnreadableVideo("a.mp4", "cut short"), TimeoutError("of the network")):
        with pytest.raises(type(error), match=str(error)):
            patience.read("a.mp4", lambda error=error: _raise(error))


def _raise(error: Exception) -> None:
    raise error


def test_no_answer_is_an_unreadable_file_at_once_the_second_time(gate):
    patience = Patience(0.05)
    with pytest.raises(UnreadableVideo, match=r"a\.mp4: no answer within 0\.05 s: the file or its disk hangs"):
        patience.read("a.mp4", gate.wait)
    with pytest.raises(UnreadableVideo, match="no answer"):
        patience.read("a.mp4", lambda: 3)
    assert pickle.loads(pickle.dumps(patience)).read("a.mp4", lambda: 3) == 3, "another process tries for itself"


def test_a_file_that_answers_late_is_read_again(gate):
    patience = Patience(0.05)
    done = threading.Event()
    with pytest.raises(UnreadableVideo):
        patience.read("a.mp4", lambda: (gate.wait(), done.set()))
    gate.set()
    done.wait()
    while any(thread.name == "read a.mp4" for thread in threading.enumerate()):
        pass
    assert patience.read("a.mp4", lambda: 3) == 3


def test_many_that_hang_are_the_file_system(gate):
    patience = Patience(0.02)
    for number in range(MOST_HANGING):
        with pytest.raises(UnreadableVideo):
            patience.read(f"{number}.mp4", gate.wait)
    with pytest.raises(
        Stalled, match=r"(?s)4 files gave no answer within 0\.02 s .*stalled_s.*\n  0\.mp4\n.*\n  last\.mp4"
    ):
        patience.read("last.mp4", gate.wait)


def test_a_file_that_does_not_open_is_left_out(tmp_path, write_video, monkeypatch, gate):
    write_video(tmp_path / "a.mp4")
    write_video(tmp_path / "b.mp4", frames=41)
    whole = catalogue.probe
    monkeypatch.setattr(catalogue, "probe", lambda path, *rest: gate.wait() if "b.mp4" in path else whole(path, *rest))
    sources = {"d": SourceConfig(str(tmp_path))}
    dataset = ClipDataset(DataConfig(sources, frames=2, canvas=(32, 32), holdout=0.0, stalled_s=1.0), 0)
    assert [(Path(fault.path).name, fault.reason[:9]) for fault in dataset.faults] == [("b.mp4", "no answer")]
    assert dataset.clip(0).origin.startswith("d/a@")


def test_the_end_of_a_decoding_process_is_told_apart_from_other_errors():
    watch = WorkerWatch(0.0)
    with pytest.raises(WorkersLost, match="a decoding process ended: .* exit code -9"), watch.waiting():
        raise RuntimeError("Worker process was terminated unexpectedly with exit code -9. Search the logs")
    with pytest.raises(RuntimeError, match="another"), watch.waiting():
        raise RuntimeError("another")


def _sleep() -> None:
    threading.Event().wait()


def test_a_stopped_process_is_named_and_killed():
    child = multiprocessing.get_context("spawn").Process(target=_sleep, name="grain-like", daemon=True)
    child.start()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)
    assert state_of(child.pid) == "stopped"
    assert decoding_processes() == [child]
    said = rf"no batch for 0\.05 s; killed the decoding processes {child.pid} \(stopped\)"
    with pytest.raises(WorkersLost, match=said), WorkerWatch(0.05).waiting():
        _wait_as_grain_does(child)


def _wait_as_grain_does(child: multiprocessing.process.BaseProcess) -> None:
    child.join()
    raise RuntimeError("Worker process was terminated unexpectedly")


_TRAINER = """
import os, signal, sys
from surgmotion_jax.data import ClipDataset, DataConfig, SourceConfig, batches
from surgmotion_jax.data.workers import WorkersLost, WorkerWatch, decoding_processes, shared_names, state_of

def main():
    folder, number, stalled_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    sources = {"d": SourceConfig(folder)}
    config = DataConfig(sources, frames=2, canvas=(32, 32), workers=2, prefetch=1, stalled_s=stalled_s)
    tell = lambda text: print("told:", text, flush=True)
    source = batches(ClipDataset(config, 0), global_batch=4, rows=(0, 4), start_step=0, stop_step=12, tell=tell)
    for step, batch in enumerate(source):
        if step == 2:
            os.kill(decoding_processes()[-1].pid, number)
        print("batch", int(batch.video_BxTxHxWx3.sum()), flush=True)

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGKILL, "told: a decoding process ended"), (signal.SIGSTOP, r"told: no batch for 32 s; killed")],
)
def test_a_lost_process_is_replaced_and_the_same_batches_go_on(three_videos, tmp_path, number, said):
    script = tmp_path / "trainer.py"
    script.write_text(_TRAINER)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, str(script), str(three_videos), str(int(number)), "8"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    config = DataConfig({"d": SourceConfig(str(three_videos))}, frames=2, canvas=(32, 32))
    source = batches(ClipDataset(config, 0), global_batch=4, rows=(0, 4), start_step=0, stop_step=12)
    want = [f"batch {int(batch.video_BxTxHxWx3.sum(dtype=np.int64))}" for batch in source]
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("batch")] == want
    assert any(line.startswith(said) for line in lines), lines
    assert "others take their place" in done.stdout


def test_shared_memory_that_is_left_behind_is_given_back():
    with shared_names() as tag:
        shared_memory.SharedMemory(f"{tag}left", create=True, size=8).close()
        kept = shared_memory.SharedMemory(create=True, size=8)
        taken = shared_memory.SharedMemory(f"{tag}taken", create=True, size=8)
        taken.close()
        taken.unlink()
    with pytest.raises(FileNotFoundError):
        shared_memory.SharedMemory(f"{tag}left")
    kept.close()
    kept.unlink()
