"""Processes that were started differently would train nonsense or hang: they compare notes first."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping

from surgmotion_jax.parallel.coordination import Board, await_key

LISTED = 8  # differences shown of a process, and processes shown
LARGEST = 3_000_000  # bytes that one message of the coordination service may safely hold
ABSENT = "absent"


class Disagreement(ValueError):
    """Processes of one run that differ in what they must share; the message says who differs in what."""


def agree(board: Board, topic: str, facts: Mapping[str, str], process: int, processes: int) -> None:
    """Returns once all processes have brought the same facts to a topic, else raises Disagreement on all of them.

    To be called by every process, once a topic. All compare themselves with process 0, so that the traffic grows with
    the number of processes and not with its square; whole facts are read only by those that differ.
    """
    packed = zlib.compress(json.dumps(dict(facts), sort_keys=True).encode())
    digest = hashlib.sha256(packed).digest()
    if process == 0:
        board.put(f"{topic}/facts", packed if len(packed) <= LARGEST else b"")
        board.put(f"{topic}/digest", digest)
        own: list[str] = []
    else:
        own = [] if await_key(board, f"{topic}/digest") == digest else _differences(board, topic, facts)
        board.put(f"{topic}/answer/{process}", json.dumps(own).encode())
    if process == 0:
        answers = {i: json.loads(await_key(board, f"{topic}/answer/{i}")) for i in range(1, processes)}
        board.put(f"{topic}/verdict", _verdict(board, topic, answers).encode())
    verdict = await_key(board, f"{topic}/verdict").decode()
    if verdict:
        raise Disagreement(verdict)


def _differences(board: Board, topic: str, facts: Mapping[str, str]) -> list[str]:
    packed = await_key(board, f"{topic}/facts")
    if not packed:
        return [f"{len(facts)} entries whose digest is not that of process 0; too many to compare one by one"]
    first = json.loads(zlib.decompress(packed))
    names = sorted(first.keys() | facts.keys())
    lines = [
        f"{name} is {facts.get(name, ABSENT)}, on process 0 {first.get(name, ABSENT)}"
        for name in names
        if first.get(name, ABSENT) != facts.get(name, ABSENT)
    ]
    return _shortened(lines, "more differences")


def _verdict(board: Board, topic: str, answers: Mapping[int, list[str]]) -> str:
    lines = [
        f"{name_of(board, process)}: " + "; ".join(differences)
        for process, differences in answers.items()
        if differences
    ]
    if not lines:
        return ""
    listing = "\n  ".join(_shortened(lines, "more processes"))
    return (
        f"the processes disagree on the {topic}:\n  {listing}\nStart all of them with the same package, flags and data."
    )


def _shortened(lines: list[str], what: str) -> list[str]:
    return lines if len(lines) <= LISTED else [*lines[:LISTED], f"and {len(lines) - LISTED} {what}"]


def name_of(board: Board, process: int) -> str:
    """How messages call a process, e.g. 'process 3 (pid 4711 on host7)'."""
    return (board.look(f"name/{process}") or f"process {process}".encode()).decode()
