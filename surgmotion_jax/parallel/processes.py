"""Joining several processes into one computation, and leaving it. Must run before any other use of JAX devices."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import jax

from surgmotion_jax.parallel.agreement import agree
from surgmotion_jax.parallel.cluster import Announcement, announcements
from surgmotion_jax.parallel.config import DistributedConfig
from surgmotion_jax.parallel.coordination import Board, CoordinationBoard
from surgmotion_jax.parallel.watch import Watch

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130
BACKUP_S = 20  # JAX's own heartbeats speak this much later than the watch, with a stack trace for a reason

BROKEN = re.compile(
    "(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED|DATA_LOSS|FAILED_PRECONDITION): "
)


@dataclass(frozen=True)
class Place:
    """Which process this is, and how that is known."""

    processes: int
    process: int
    coordinator: str
    source: str
    local: int | None = None

    def __str__(self) -> str:
        return f"process {self.process} of {self.processes}, {self.source}; coordinator {self.coordinator}"


@dataclass(frozen=True)
class Group:
    """The processes of a run. Alone, `board` is None and everything is agreed."""

    place: Place
    board: Board | None = None

    def agree(self, topic: str, facts: Mapping[str, str]) -> None:
        """Raises Disagreement on all processes, naming who differs in what, unless all bring the same facts."""
        if self.board is not None:
            agree(self.board, topic, facts, self.place.process, self.place.processes)

    def meet(self, point: str) -> None:
        """Waits until all processes have come to a point, however long that takes.

        Before a first collective: those of the CPU wait 30 s only for others to appear, and compiling may take some
        processes longer than others.
        """
        self.agree(point, {})


def find_place(config: DistributedConfig, found: list[Announcement]) -> Place:
    """Which process this is, by the flags given and the clusters that announce one.

    Flags fill what the cluster leaves open, e.g. the coordinator under Open MPI 5. Raises ValueError where clusters
    contradict each other or the flags, a cluster that was named announces nothing, or something is missing.
    """
    if config.cluster != "auto":
        found = [a for a in found if a.cluster == config.cluster]
        if not found and config.cluster != "none":
            raise ValueError(
                f"distributed.cluster is {config.cluster!r}, but the environment announces no processes of it; "
                "start through its launcher, or give coordinator, processes and process with "
                "--config.distributed.cluster=none."
            )
    if len({(a.processes, a.process) for a in found}) > 1:
        raise ValueError(
            f"clusters contradict each other: {'; '.join(map(str, found))}. Choose one with "
            f"--config.distributed.cluster={found[0].cluster} (or {', '.join(a.cluster for a in found[1:])}, none)."
        )
    announced = found[0] if found else None
    place = _merge(config, announced)
    if place.processes and not 0 <= place.process < place.processes:
        raise ValueError(
            f"distributed.process is {place.process} of {place.processes} processes; they are numbered from 0 to "
            f"{place.processes - 1}."
        )
    return place


def _merge(config: DistributedConfig, announced: Announcement | None) -> Place:
    given = {"coordinator": config.coordinator, "processes": config.processes, "process": config.process}
    missing = {"coordinator": "", "processes": 0, "process": -1}
    flags = {name: value for name, value in given.items() if value != missing[name]}
    if announced is None and not flags:
        return Place(1, 0, "", "alone")
    values: dict[str, Any] = dict(missing)
    if announced is not None:
        clash = [n for n in ("processes", "process") if n in flags and flags[n] != getattr(announced, n)]
        if clash:
            raise ValueError(
                f"{announced}, but the flags say {', '.join(f'distributed.{n}={flags[n]}' for n in clash)}; drop the "
                "flags, or the cluster's word with --config.distributed.cluster=none."
            )
        values = {name: getattr(announced, name) for name in given}
    values |= flags
    lacking = [name for name in given if values[name] == missing[name]]
    if lacking:
        raise ValueError(
            f"distributed.coordinator={values['coordinator']!r}, processes={values['processes']}, "
            f"process={values['process']}{f' ({announced})' if announced else ''}: {' and '.join(lacking)} missing; "
            "give --config.distributed.coordinator=HOST:PORT, .processes=N and .process=I, or start through a cluster "
            "that announces them."
        )
    source = f"announced by {announced.title}" if announced else "given by flags"
    local = announced.local if announced else None
    return Place(values["processes"], values["process"], values["coordinator"], source, local)


def join(
    config: DistributedConfig,
    say: Callable[[str], None] = lambda _: None,
    complain: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
) -> Place:
    """Initialises `jax.distributed` where flags or a cluster make this one of several processes; `say` is told which.

    Raises ValueError as `find_place` does. Ends the process, having told `complain` why, if the others do not come.
    """
    place = find_place(config, announcements(os.environ))
    if place.processes == 1:
        return place
    say(str(place))
    local = place.local
    if local is not None and "," not in os.environ.get("CUDA_VISIBLE_DEVICES", ","):
        local = None  # the launcher has already left this process its one device

    def give_up() -> None:
        complain(
            f"{place}: not all have joined within {config.join_timeout_s} s (distributed.join_timeout_s). See that all "
            f"{place.processes} have started, with different numbers, and that they can reach the coordinator."
        )
        _exit(FAILED)

    # JAX would end the process too, but with a stack trace for a reason.
    timer = threading.Timer(config.join_timeout_s, give_up)
    timer.daemon = True
    timer.start()
    jax.distributed.initialize(
        place.coordinator,
        place.processes,
        place.process,
        local_device_ids=None if local is None else [local],
        cluster_detection_method="deactivate",  # JAX would take one GPU of a node under SLURM, whatever its tasks
        initialization_timeout=config.join_timeout_s + BACKUP_S,
        heartbeat_timeout_seconds=config.lost_after_s + BACKUP_S,
    )
    timer.cancel()
    return place


@contextlib.contextmanager
def joined(config: DistributedConfig, say: Callable[[str], None], complain: Callable[[str], None]) -> Iterator[Group]:
    """Joins the processes of a run for the time of the context.

    `say` is told who joined, `complain` why a run ends. An exception in one of several processes ends them all at once
    with a non-zero exit: the cleaning-up of an ordinary exit would wait for processes that are no longer there. A
    single process is left alone. Raises ValueError as `find_place` does.
    """
    place = join(config, say, complain)
    if place.processes == 1:
        yield Group(place)
        return
    board = CoordinationBoard()
    board.put(
        f"name/{place.process}", f"process {place.process} (pid {os.getpid()} on {socket.gethostname()})".encode()
    )

    def stop(reason: str) -> None:
        complain(f"process {place.process} of {place.processes} ends because of {reason}")
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            watch.acknowledge()
        _exit(FAILED)

    watch = Watch(board, place.process, place.processes, config.lost_after_s, stop)
    watch.start()
    try:
        yield Group(place, board)
    except BaseException as error:
        _leave_failing(error, watch, config.lost_after_s, complain)
    watch.close()


def _leave_failing(
    error: BaseException, watch: Watch, lost_after_s: float, complain: Callable[[str], None]
) -> NoReturn:
    consequence = is_consequence(error)
    if isinstance(error, ValueError):
        complain(str(error))
    elif not isinstance(error, KeyboardInterrupt):
        complain("".join(traceback.format_exception(error)).rstrip())
    if consequence:
        complain(
            f"this may be the consequence of another process's end; waiting {lost_after_s + 5:g} s to learn whose "
            "(if JAX now reports that its coordination service is gone, it was process 0)"
        )
        time.sleep(lost_after_s + 5)  # the watch ends this process when it knows
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        watch.post_failure(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}")
    if isinstance(error, KeyboardInterrupt):
        _exit(INTERRUPTED)
    _exit(BAD_INPUT if isinstance(error, ValueError) and not consequence else FAILED)


def is_consequence(error: BaseException) -> bool:
    """Whether an error may come from the end of another process, as that of a collective that broke.

    Told by its status: JAX raises JaxRuntimeError or ValueError, as the case may be.
    """
    return isinstance(error, jax.errors.JaxRuntimeError | ValueError) and bool(BROKEN.match(str(error)))


def _exit(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
