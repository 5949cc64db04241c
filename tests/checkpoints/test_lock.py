"""One writer to a workdir, and none locked out by the dead."""

import fcntl
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import pytest

from surgmotion_jax import storage
from surgmotion_jax.checkpoints.lock import WorkdirInUse, workdir_lock

ROOT = pathlib.Path(__file__).parents[2]

HOLDER = """
import multiprocessing, os, sys, time
from surgmotion_jax.checkpoints.lock import workdir_lock

def outlive():
    print(os.getpid(), flush=True)
    time.sleep(60)

if __name__ == "__main__":
    with workdir_lock(sys.argv[1]):
        child = multiprocessing.get_context("fork").Process(target=outlive)
        child.start()
        time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path and has forked a child; yields it and that pid."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        yield process, child
        process.kill()
        os.kill(child, signal.SIGKILL)


def test_second_process_is_told_who_holds_it_and_what_to_do(tmp_path, holder):
    process, _ = holder
    host = re.escape(socket.gethostname())
    who = rf"{tmp_path}: in use by process {process.pid} on {host}; .*another workdir"
    with pytest.raises(WorkdirInUse, match=who), workdir_lock(tmp_path):
        pass
    assert issubclass(WorkdirInUse, ValueError)


def test_kill_9_frees_the_lock_although_a_child_lives_on(tmp_path, holder):
    process, child = holder
    process.kill()
    process.wait()
    os.kill(child, 0)
    with workdir_lock(tmp_path):
        pass


def test_lock_is_free_again_after_the_context_even_after_an_error(tmp_path):
    with pytest.raises(KeyError), workdir_lock(tmp_path):
        raise KeyError
    with workdir_lock(tmp_path), pytest.raises(WorkdirInUse, match=str(os.getpid())), workdir_lock(tmp_path):
        pass
    with workdir_lock(tmp_path):
        pass


def test_no_file_stays_and_one_that_is_deleted_meanwhile_holds_nothing(tmp_path, monkeypatch):
    with workdir_lock(tmp_path):
        assert (tmp_path / ".lock").exists()
    assert not (tmp_path / ".lock").exists()
    lock, taken = fcntl.flock, []

    def slow(descriptor, how):
        if not taken:  # between opening the file and locking it, its holder ends
            (tmp_path / ".lock").unlink()
        taken.append(descriptor)
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    with workdir_lock(tmp_path):
        assert len(taken) == 2
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_paths_that_are_not_local_go_unlocked_with_a_note(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(storage, "is_local", lambda _: False)
    with workdir_lock(tmp_path):
        assert not (tmp_path / ".lock").exists()
    assert "no file lock here" in capsys.readouterr().err


def test_unwritable_workdir_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(storage.NotWritable, match="cannot be written"), workdir_lock(tmp_path / "file"):
        pass
