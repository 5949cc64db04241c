"""What the environment of a process says of the cluster it was started in."""

from __future__ import annotations

import glob
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from surgmotion_jax.parallel.config import CLUSTERS

TPU_PORT = 8476
Metadata = Callable[[str], str | None]


@dataclass(frozen=True)
class Announcement:
    """One cluster's word on this process; coordinator empty and local None where it has none."""

    cluster: str
    title: str
    processes: int
    process: int
    coordinator: str = ""  # host:port
    local: int | None = None  # number of the local device to take, where several processes share a host

    def __str__(self) -> str:
        return f"{self.title} announces process {self.process} of {self.processes}"


def announcements(environ: Mapping[str, str], metadata: Metadata | None = None) -> list[Announcement]:
    """Every cluster that announces more than one process.

    One process is what a cluster announces when it has nothing to distribute, so that is left out. `metadata` answers
    attributes of a TPU VM, by default the machine's metadata server, which is asked only where there are TPU chips.
    Raises ValueError for variables that are not numbers.
    """
    ask = metadata or (_ask_metadata_server if _has_tpu_chips(environ) else lambda _: None)
    readers: dict[str, Callable[[], Announcement | None]] = {
        "tpu_vm": lambda: _tpu_vm(environ, ask),
        "gke": lambda: _gke(environ),
        "slurm": lambda: _slurm(environ),
        "openmpi": lambda: _openmpi(environ),
    }
    found = [readers[name]() for name in CLUSTERS]
    return [a for a in found if a is not None and a.processes > 1]


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ[name].strip()
    if not text.isdecimal():
        raise ValueError(
            f"environment variable {name} is {text!r}; a whole number is expected; unset it or correct it."
        )
    return int(text)


def _slurm(environ: Mapping[str, str]) -> Announcement | None:
    """A task of `srun`. A batch script outside of `srun` has no step, and counts as one process."""
    tasks = next((n for n in ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS") if n in environ), "")
    if not tasks or not {"SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID"} <= environ.keys():
        return None
    # Jobs that share a node must not share a port; the ephemeral range ends at 65535.
    port = 61_440 + _number(environ, "SLURM_JOB_ID") % 4_096
    host = first_host(environ["SLURM_STEP_NODELIST"])
    per_node = environ.get("SLURM_STEP_TASKS_PER_NODE", "1")
    shared = per_node.partition("(")[0].partition(",")[0] not in ("", "1")
    local = _number(environ, "SLURM_LOCALID") if shared and "SLURM_LOCALID" in environ else None
    return Announcement(
        "slurm", "SLURM", _number(environ, tasks), _number(environ, "SLURM_PROCID"), f"{host}:{port}", local
    )


def first_host(node_list: str) -> str:
    """First host of a SLURM node list: node1 of 'node1,x', node007 of 'node[007-9,12],x', rack1-n3 of 'rack1-n[3]'."""
    match = re.match(r"([^,\[]+)(?:\[([^,\-\]]+)[^\]]*\]([^,]*))?", node_list)
    if match is None:
        raise ValueError(f"environment variable SLURM_STEP_NODELIST is {node_list!r}; a list of hosts is expected.")
    return "".join(part or "" for part in match.groups())


def _openmpi(environ: Mapping[str, str]) -> Announcement | None:
    if not {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"} <= environ.keys():
        return None
    # Up to version 4, '1531576320.0;tcp://10.96.0.1,10.148.0.1:34911'; later versions name no host.
    uri = re.match(r"(\d+)\.\d+;tcp6?://\[?([^,:\]]+|[0-9a-f:]+)", environ.get("OMPI_MCA_orte_hnp_uri", ""))
    coordinator = f"{uri[2]}:{61_440 + int(uri[1]) // 4_096 % 4_096}" if uri else ""
    shared = environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", "1") != "1"
    local = _number(environ, "OMPI_COMM_WORLD_LOCAL_RANK") if shared else None
    size, rank = _number(environ, "OMPI_COMM_WORLD_SIZE"), _number(environ, "OMPI_COMM_WORLD_RANK")
    return Announcement("openmpi", "Open MPI", size, rank, coordinator, local)


def _gke(environ: Mapping[str, str]) -> Announcement | None:
    """A TPU pod of GKE: a JobSet's workers, of one slice or several."""
    if not {"TPU_WORKER_ID", "TPU_WORKER_HOSTNAMES"} <= environ.keys():
        return None
    hosts = environ["TPU_WORKER_HOSTNAMES"].split(",")
    return _of_slices("gke", "GKE", hosts, _number(environ, "TPU_WORKER_ID"), environ)


def _tpu_vm(environ: Mapping[str, str], ask: Metadata) -> Announcement | None:
    if "TPU_WORKER_HOSTNAMES" in environ:
        return None  # GKE nodes are TPU VMs too, but a pod knows only its environment
    worker, endpoints = ask("agent-worker-number"), ask("worker-network-endpoints")
    if not worker or not endpoints:
        return None
    # Either host names, or triples name:number:address.
    hosts = [entry.split(":")[-1] for entry in endpoints.split(",")]
    pairs = (line.partition(":") for line in (ask("tpu-env") or "").splitlines())
    slices = {name.strip(): value.strip(" '\"") for name, _, value in pairs}
    return _of_slices(
        "tpu_vm", "the TPU VM", hosts, _number({"agent-worker-number": worker}, "agent-worker-number"), slices
    )


def _of_slices(cluster: str, title: str, hosts: list[str], worker: int, slices: Mapping[str, str]) -> Announcement:
    """Workers are numbered through the slices, one after another; the first of slice 0 is the coordinator."""
    count = _number(slices, "MEGASCALE_NUM_SLICES") if slices.get("MEGASCALE_NUM_SLICES") else 1
    number = _number(slices, "MEGASCALE_SLICE_ID") if slices.get("MEGASCALE_SLICE_ID") else 0
    host = slices.get("MEGASCALE_COORDINATOR_ADDRESS", "").partition(":")[0] or hosts[0]
    return Announcement(cluster, title, count * len(hosts), number * len(hosts) + worker, f"{host}:{TPU_PORT}")


def _has_tpu_chips(environ: Mapping[str, str]) -> bool:
    # JAX sets the variable on import where it finds no chips; vfio alone may be a GPU passed through.
    return "TPU_SKIP_MDS_QUERY" not in environ and bool(glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*"))


def _ask_metadata_server(attribute: str) -> str | None:
    """An attribute of this machine on Google Cloud, or None."""
    url = f"http://metadata.google.internal/computeMetadata/v1/instance/attributes/{attribute}"
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy would answer for itself
    try:
        with opener.open(request, timeout=3) as answer:
            return answer.read().decode().strip()
    except (urllib.error.URLError, OSError):
        return None
