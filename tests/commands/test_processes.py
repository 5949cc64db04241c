"""Several real processes: the same numbers as one, the end of all when one ends, another number of them afterwards."""

from __future__ import annotations

import json
import re
import signal
import time

import numpy as np
import pytest

from tests.commands.group import Run, losses

STEPS = 20


@pytest.fixture
def tiny(command):
    """Arguments of twenty steps of a ViT-tiny on very small clips."""

    def arguments(workdir, *more):
        return command(
            workdir,
            "--config.model.variant=vit_tiny",
            "--config.model.depth=0",
            f"--config.steps={STEPS}",
            "--config.data.prefetch=1",
            "--config.distributed.lost_after_s=20",
            *more,
        )

    return arguments


@pytest.fixture(scope="module")
def alone_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("alone")


@pytest.fixture
def alone(alone_folder, tiny):
    """Losses and sample numbers of one process with one device, made once."""
    run = alone_folder / "run"
    if not (alone_folder / "rows.npy").exists():
        with Run(run, [tiny(alone_folder / "w")]) as only:
            only.finish()
        np.save(alone_folder / "rows.npy", only.rows(STEPS))
    return losses(alone_folder / "w"), np.load(alone_folder / "rows.npy")


def assert_same_curve(got, want):
    assert sorted(got) == sorted(want) == list(range(1, STEPS + 1))
    assert len({round(x, 3) for x in want.values()}) > STEPS // 2, "the losses must move"
    np.testing.assert_allclose([got[s] for s in want], list(want.values()), rtol=1e-5)


def test_an_automatic_mesh_is_chosen_explained_and_kept(prepare, tmp_path, capsys):
    prepare(tmp_path, "--config.parallel.mesh=auto")
    printed = capsys.readouterr().out
    assert re.search(r"mesh  data +8  8 copies of the state", printed)
    assert re.search(r"mesh  fsdp +1  .*memory is unknown", printed)
    assert re.search(r"mesh  tensor +1  every device has clips", printed)
    kept = json.loads((tmp_path / "config.json").read_text())["parallel"]
    assert kept == {"data": 8, "fsdp": 1, "tensor": 1, "mesh": "given"}


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_equal_one(tiny, alone, tmp_path, count):
    with Run(tmp_path / "run", [tiny(tmp_path / "w") for _ in range(count)]) as run:
        run.finish()
    assert_same_curve(losses(tmp_path / "w"), alone[0])
    np.testing.assert_array_equal(run.rows(STEPS), alone[1])
    assert f"process 1 of {count}, given by flags" in run.log(1)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "killed", "after"), [(2, 1, 4), (4, 0, 1)])
def test_killing_one_ends_all_and_another_number_goes_on(tiny, alone, tmp_path, before, killed, after):
    workdir = tmp_path / "w"
    with Run(tmp_path / "first", [tiny(workdir, "--config.checkpoint.every=5")] * before) as run:
        run.wait_for_step(workdir, 7)
        run.kill(killed)
        since = time.monotonic()
        for process in run.processes:
            process.wait(60)
        assert time.monotonic() - since < 60
        survivors = [i for i in range(before) if i != killed]
        assert all(run.processes[i].returncode != 0 for i in survivors), run.logs()
        for i in survivors:
            reason = f"process {killed} (pid {run.processes[killed].pid} on" if killed else "coordination service"
            assert reason in run.log(i), run.logs()
    with Run(tmp_path / "second", [tiny(workdir)] * after) as run:
        run.finish()
    assert "resumed" in run.log(0)
    assert_same_curve(losses(workdir), alone[0])


@pytest.mark.slow
def test_processes_that_disagree_end_with_who_differs_in_what(tiny, tmp_path):
    with Run(tmp_path / "run", [tiny(tmp_path / "w"), tiny(tmp_path / "w", "--config.optim.lr=0.002")]) as run:
        codes = [process.wait(600) for process in run.processes]
    assert codes == [2, 2], run.logs()
    for i in range(2):
        assert "the processes disagree on the configuration" in run.log(i)
        assert "optim.lr is 0.002, on process 0 0.001" in run.log(i)
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "codes"), [(signal.SIGTERM, [75, 75]), (signal.SIGINT, [75, 130])])
def test_a_notice_to_one_stops_all_at_one_step(tiny, tmp_path, number, codes):
    workdir = tmp_path / "w"
    with Run(tmp_path / "run", [tiny(workdir, "--config.steps=100000", "--config.run.stopped_code=75")] * 2) as run:
        run.wait_for_step(workdir, 3)
        run.processes[1].send_signal(number)
        assert [process.wait(600) for process in run.processes] == codes, run.logs()
    assert "repeat the command to resume" in run.log(0)
    last = max(losses(workdir))
    assert (workdir / "checkpoints" / str(last)).exists(), "the step all agreed on is saved"
