"""Who announces processes, what contradicts what, agreement among processes, the end of all when one ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import pytest

from surgmotion_jax.parallel.agreement import Disagreement, agree
from surgmotion_jax.parallel.cluster import announcements, first_host
from surgmotion_jax.parallel.config import DistributedConfig
from surgmotion_jax.parallel.processes import Group, Place, find_place, is_consequence, joined
from surgmotion_jax.parallel.watch import FAILURE, Watch

SLURM = {
    "SLURM_JOB_ID": "4097",
    "SLURM_STEP_NODELIST": "node[007-009,12]",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
}
OPENMPI = {
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_RANK": "5",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
}
GKE = {"TPU_WORKER_ID": "1", "TPU_WORKER_HOSTNAMES": "w-0.job,w-1.job"}
SLICES = {"MEGASCALE_NUM_SLICES": "3", "MEGASCALE_SLICE_ID": "2", "MEGASCALE_COORDINATOR_ADDRESS": "w-0.first:8080"}
TPU_VM = {"agent-worker-number": "3", "worker-network-endpoints": "a:0:10.0.0.1,b:1:10.0.0.2,c:2:10.0.0.3,d:3:10.0.0.4"}


def found(environ, metadata=None):
    return announcements({"TPU_SKIP_MDS_QUERY": "1", **environ}, (metadata or {}).get)


@pytest.mark.parametrize(
    ("environ", "metadata", "cluster", "process", "processes", "coordinator", "local"),
    [
        (SLURM, {}, "slurm", 2, 4, "node007:61441", None),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_LOCALID": "1"}, {}, "slurm", 2, 4, "node007:61441", 1),
        (OPENMPI, {}, "openmpi", 5, 8, "10.96.0.1:62624", 1),
        (OPENMPI | {"OMPI_MCA_orte_hnp_uri": ""}, {}, "openmpi", 5, 8, "", 1),
        (GKE, {}, "gke", 1, 2, "w-0.job:8476", None),
        (GKE | SLICES, {}, "gke", 5, 6, "w-0.first:8476", None),
        ({}, TPU_VM, "tpu_vm", 3, 4, "10.0.0.1:8476", None),
        ({}, TPU_VM | {"worker-network-endpoints": "h0,h1,h2,h3"}, "tpu_vm", 3, 4, "h0:8476", None),
        (
            {},
            TPU_VM | {"tpu-env": "ZONE: 'z'\n" + "\n".join(f"{k}: '{v}'" for k, v in SLICES.items())},
            *("tpu_vm", 11, 12, "w-0.first:8476", None),
        ),
    ],
)
def test_what_a_cluster_announces(environ, metadata, cluster, process, processes, coordinator, local):
    (one,) = found(environ, metadata)
    assert (one.cluster, one.process, one.processes) == (cluster, process, processes)
    assert (one.coordinator, one.local) == (coordinator, local)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": "localhost"},
        SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
        {name: value for name, value in SLURM.items() if name != "SLURM_STEP_NODELIST"},  # a batch script, no srun
    ],
    ids=["nothing", "one TPU host", "one task", "no step"],
)
def test_nothing_to_distribute_is_one_process(environ):
    assert find_place(DistributedConfig(), found(environ)) == Place(1, 0, "", "alone")


@pytest.mark.parametrize(
    ("text", "host"),
    [("node1", "node1"), ("a,b", "a"), ("node[007-9,12],b", "node007"), ("r1-n[3]", "r1-n3"), ("n[1-2]-ib", "n1-ib")],
)
def test_first_host_of_a_node_list(text, host):
    assert first_host(text) == host


def test_a_variable_that_is_no_number_is_named():
    with pytest.raises(ValueError, match="SLURM_PROCID is 'two'; a whole number"):
        found(SLURM | {"SLURM_PROCID": "two"})


def place_of(environ, **flags):
    return find_place(DistributedConfig(**flags), found(environ))


def test_flags_fill_what_the_cluster_leaves_open():
    without = OPENMPI | {"OMPI_MCA_orte_hnp_uri": ""}
    place = place_of(without, coordinator="head:1234")
    assert (place.process, place.processes, place.coordinator) == (5, 8, "head:1234")
    assert str(place) == "process 5 of 8, announced by Open MPI; coordinator head:1234"
    given = place_of({}, coordinator="head:1", processes=2, process=1)
    assert str(given) == "process 1 of 2, given by flags; coordinator head:1"
    assert place_of(SLURM | OPENMPI, cluster="slurm").processes == 4
    assert place_of(SLURM, cluster="none").processes == 1


@pytest.mark.parametrize(
    ("environ", "flags", "message"),
    [
        (SLURM | OPENMPI, {}, r"SLURM announces process 2 of 4; Open MPI announces process 5 of 8.*=slurm \(or open"),
        (SLURM, {"processes": 2}, r"SLURM announces process 2 of 4, but the flags say distributed.processes=2; drop"),
        (SLURM, {"cluster": "gke"}, r"cluster is 'gke', but the environment announces no processes of it"),
        (OPENMPI | {"OMPI_MCA_orte_hnp_uri": ""}, {}, r"coordinator='', .*Open MPI announces.*coordinator missing"),
        ({}, {"coordinator": "h:1", "processes": 2}, r"process=-1: process missing; give"),
        ({}, {"process": 0}, r"coordinator and processes missing"),
        ({}, {"coordinator": "h:1", "processes": 2, "process": 2}, r"process is 2 of 2 processes; .* from 0 to 1"),
        ({}, {"coordinator": "host"}, r"coordinator is 'host'; it must be HOST:PORT"),
        ({}, {"cluster": "pbs"}, r"cluster is 'pbs'; it must be one of auto, none, tpu_vm"),
        ({}, {"lost_after_s": 0}, r"lost_after_s is 0; it must be at least 5"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(environ, flags, message):
    with pytest.raises(ValueError, match=message):
        place_of(environ, **flags)


class Table:
    """A board in memory, for threads that play processes."""

    def __init__(self):
        self.entries = {}
        self.lock = threading.Lock()

    def put(self, key, value, replace=False):
        with self.lock:
            if key in self.entries and not replace:
                return False
            self.entries[key] = value
            return True

    def look(self, key):
        return self.entries.get(key)


def verdicts(facts, topic="setup"):
    """What `agree` tells each of the processes that bring these facts: '' or its message."""
    table = Table()

    def one(process):
        try:
            agree(table, topic, facts[process], process, len(facts))
        except Disagreement as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(len(facts)) as pool:
        return list(pool.map(one, range(len(facts))))


def test_equal_facts_are_agreed_in_any_order():
    assert verdicts([{"a": "1", "b": "2"}, {"b": "2", "a": "1"}, {"a": "1", "b": "2"}]) == ["", "", ""]


def test_all_learn_who_differs_in_what():
    same = {"lr": "0.1", "steps": "10"}
    messages = verdicts([same, same, {"lr": "0.2", "extra": "yes"}, same])
    assert len(set(messages)) == 1
    assert messages[0].startswith("the processes disagree on the setup:\n  process 2: ")
    assert (
        "extra is yes, on process 0 absent; lr is 0.2, on process 0 0.1; steps is absent, on process 0 10"
        in messages[0]
    )
    assert "process 1" not in messages[0]
    assert "process 3" not in messages[0]


def test_long_lists_of_differences_are_cut():
    many = [{f"f{i:02}": "x" for i in range(30)}, {f"f{i:02}": "y" for i in range(30)}]
    assert "f07 is y, on process 0 x; and 22 more differences" in verdicts(many)[0]
    assert "and 3 more processes" in verdicts([{"a": "0"}] + [{"a": "1"}] * 11)[0]


def test_facts_too_large_for_a_message_are_compared_by_digest(monkeypatch):
    monkeypatch.setattr("surgmotion_jax.parallel.agreement.LARGEST", 10)
    assert "1 entries whose digest is not that of process 0" in verdicts([{"a": "x"}, {"a": "y"}])[1]


def test_one_process_agrees_with_itself():
    Group(Place(1, 0, "", "alone")).agree("setup", {"a": "1"})


class Processes:
    """Watches that play processes; what each was told when it was stopped."""

    def __init__(self, count, lost_after_s):
        self.table, self.told = Table(), {}
        self.watches = [Watch(self.table, i, count, lost_after_s, self.stopper(i)) for i in range(count)]
        for i in range(count):
            self.table.put(f"name/{i}", f"process {i} (pid 1 on host{i})".encode())

    def stopper(self, i):
        def stop(reason):
            self.told[i] = reason
            self.watches[i].acknowledge()

        return stop

    def wait_told(self, *who):
        limit = time.monotonic() + 60
        while not set(who) <= self.told.keys():
            assert time.monotonic() < limit, self.told
            time.sleep(0.02)


def test_a_failure_reaches_all_others_and_process_0_waits_for_them():
    group = Processes(3, lost_after_s=100)
    for watch in group.watches:
        watch.start()
    standing = group.watches[0].post_failure("ValueError: no such file")
    assert standing == "process 0 (pid 1 on host0): ValueError: no such file"
    group.wait_told(1, 2)
    assert group.told == {1: standing, 2: standing}


def test_the_first_failure_stands():
    group = Processes(2, lost_after_s=100)
    first = group.watches[1].post_failure("MemoryError: first")
    assert (
        group.watches[0].post_failure("KeyError: second") == first == "process 1 (pid 1 on host1): MemoryError: first"
    )


def test_a_silent_process_is_lost_and_named():
    group = Processes(3, lost_after_s=3)
    for watch in group.watches[:2]:
        watch.start()  # process 2 never shows itself
    group.wait_told(0, 1)
    assert group.told[0] == group.told[1]
    assert group.told[0].startswith("process 2 (pid 1 on host2): no sign of life for 3 s")
    assert "process 1 " not in group.told[0]


def test_a_process_that_has_finished_is_not_lost():
    group = Processes(2, lost_after_s=1)
    for watch in group.watches:
        watch.start()
    group.watches[1].close()
    time.sleep(2.5)
    group.watches[0].close()
    assert group.told == {}
    assert group.table.look(FAILURE) is None


def test_a_judge_that_slept_judges_nobody():
    group = Processes(2, lost_after_s=1)
    judge = group.watches[0]
    judge._seen = {1: (None, time.monotonic() - 100)}
    assert judge._judge(woken=time.monotonic() - 100) is None
    judge._seen = {1: (None, time.monotonic() - 100)}
    assert b"process 1" in judge._judge(woken=time.monotonic())


def test_a_coordinator_out_of_reach_ends_a_process():
    group = Processes(2, lost_after_s=1)

    def gone(*_, **__):
        raise jax.errors.JaxRuntimeError("UNAVAILABLE: connection refused")

    group.table.look = gone
    group.watches[1]._stop = lambda reason: group.told.update({1: reason})
    group.watches[1].start()
    group.wait_told(1)
    assert group.told[1].startswith("process 0, which coordinates the others, cannot be reached: UNAVAILABLE")


def test_only_broken_collectives_are_taken_for_consequences():
    assert is_consequence(jax.errors.JaxRuntimeError("INTERNAL: Gloo all-reduce failed: connection closed by peer"))
    assert is_consequence(ValueError("UNKNOWN: Gloo AllGather failed: connection reset by peer"))
    assert not is_consequence(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory"))
    assert not is_consequence(ValueError("no such file"))


ALONE_OF_TWO = """
import sys
from surgmotion_jax.parallel.config import DistributedConfig
from surgmotion_jax.parallel.processes import join
join(DistributedConfig("none", sys.argv[1], processes=2, process=0, join_timeout_s=5))
"""


def test_waiting_for_processes_that_never_come_ends_with_the_reason():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{s.getsockname()[1]}"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", ALONE_OF_TWO, address]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, done.stderr
    assert f"process 0 of 2, given by flags; coordinator {address}: not all have joined within 5 s" in done.stderr


def test_alone_an_error_passes_through():
    told = []

    def fail():
        with joined(DistributedConfig(cluster="none"), told.append, told.append) as group:
            raise KeyError(group.place.processes)

    with pytest.raises(KeyError, match="1"):
        fail()
    assert told == []
