"""Finds recordings that show the same operation, without comparing every pair.

Two hashes of the same second agree in most bits, so they agree in all bits of some of a few small selections of them.
Each selection is a table of keys; hashes with one key are compared bit by bit, and where they are near, the two
recordings are laid over one another so that these seconds coincide, and compared second by second. The number of bits
in a key grows with the number of hashes, so that unlike hashes share a key about once a table: time and memory grow
nearly as the hours do.

Letters: N hashes of all recordings, W words of a hash, K keys, P pairs, T seconds of a recording.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from surgmotion_jax.corpus.fingerprint import BITS, Fingerprint, distance
from surgmotion_jax.corpus.stretches import bridged, runs

TABLES = 16
MOST_ALIKE = 64
"""A key that more hashes have is common property, such as a logo, and says nothing."""


@dataclass(frozen=True)
class Nearness:
    """When two stretches are the same. Unlike seconds differ in 64 bits, with a standard deviation of 6."""

    seed: int = 24  # bits in which two seconds may differ to be laid over one another
    mean: float = 32.0  # bits in which seconds may differ on average over `window_s`
    window_s: int = 4
    least_s: int = 4  # seconds that a match lasts at least, or the whole of a shorter recording


class Seed(NamedTuple):
    """Two recordings that agree when the first is ahead of the second by `ahead` seconds."""

    first: int
    second: int
    ahead: int


class Match(NamedTuple):
    """Seconds [start, stop) of recording `first`, which recording `second` shows `ahead` seconds earlier."""

    first: int
    second: int
    ahead: int
    start: int
    stop: int


def key_bits(count: int) -> int:
    """Bits of a key for so many hashes."""
    return min(32, max(12, math.ceil(math.log2(max(count, 1)))))


def keys(hash_NxW: np.ndarray, table: int, bits: int) -> np.ndarray:
    """The key of each hash in a table, uint32 [N]: a selection of its bits that only the table decides."""
    chosen = np.random.Generator(np.random.Philox(key=[table, BITS])).permutation(BITS)[:bits]
    key_N = np.zeros(len(hash_NxW), np.uint32)
    for place in chosen:
        word, bit = divmod(int(place), 64)
        key_N = (key_N << np.uint32(1)) | ((hash_NxW[:, word] >> np.uint64(bit)) & np.uint64(1)).astype(np.uint32)
    return key_N


def same_keys(key_N: np.ndarray, owner_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows with the same key and different owners, int [P] each; the owner of the first is the larger."""
    order_N = np.argsort(key_N, kind="stable")
    sorted_N = key_N[order_N]
    edges = np.flatnonzero(np.diff(sorted_N)) + 1
    length_N = np.repeat(np.diff(np.concatenate([[0], edges, [len(sorted_N)]])), np.diff([0, *edges, len(sorted_N)]))
    usable_N = (length_N > 1) & (length_N <= MOST_ALIKE)
    order_N, sorted_N = order_N[usable_N], sorted_N[usable_N]
    found = []
    for lag in range(1, MOST_ALIKE):
        row_P = np.flatnonzero(sorted_N[lag:] == sorted_N[:-lag])
        if not len(row_P):
            break
        found.append(np.stack([order_N[row_P], order_N[row_P + lag]]))
    pair_2xP = np.concatenate(found, axis=1) if found else np.zeros((2, 0), np.int64)
    one_P, other_P = pair_2xP[:, owner_N[pair_2xP[0]] != owner_N[pair_2xP[1]]]
    swapped_P = owner_N[one_P] < owner_N[other_P]
    return np.where(swapped_P, other_P, one_P), np.where(swapped_P, one_P, other_P)


def seeds(prints: Sequence[Fingerprint], nearness: Nearness = Nearness()) -> dict[tuple[int, int], list[int]]:
    """Pairs of recordings, the later one first, and by how many seconds the first is ahead, the likeliest first."""
    owner_N, second_N, hash_NxW = gathered(prints)
    votes: dict[tuple[int, int], dict[int, int]] = defaultdict(lambda: defaultdict(int))
    bits = key_bits(len(hash_NxW))
    for table in range(TABLES):
        for seed in near_pairs(keys(hash_NxW, table, bits), owner_N, second_N, hash_NxW, nearness):
            votes[seed.first, seed.second][seed.ahead] += 1
    return {pair: sorted(ahead, key=lambda a: (-ahead[a], a)) for pair, ahead in sorted(votes.items())}


def gathered(prints: Sequence[Fingerprint]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Owner [N], second [N] and hash [N, W] of all seconds that can be recognised, each once while nothing changes."""
    owners, seconds, words = [], [], []
    for number, one in enumerate(prints):
        changed_T = np.ones(len(one), bool)
        changed_T[1:] = distance(one.hash_TxW[1:], one.hash_TxW[:-1]) > 2
        second = np.flatnonzero(one.strong_T & changed_T)
        owners.append(np.full(len(second), number, np.int32))
        seconds.append(second.astype(np.int32))
        words.append(one.hash_TxW[second])
    if not prints:
        return np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros((0, BITS // 64), np.uint64)
    return np.concatenate(owners), np.concatenate(seconds), np.concatenate(words)


def near_pairs(
    key_N: np.ndarray, owner_N: np.ndarray, second_N: np.ndarray, hash_NxW: np.ndarray, nearness: Nearness
) -> Iterator[Seed]:
    """The seeds of one table."""
    one_P, other_P = same_keys(key_N, owner_N)
    near_P = distance(hash_NxW[one_P], hash_NxW[other_P]) <= nearness.seed
    for one, other in zip(one_P[near_P], other_P[near_P], strict=True):
        yield Seed(int(owner_N[one]), int(owner_N[other]), int(second_N[other] - second_N[one]))


def overlap(first: Fingerprint, second: Fingerprint, ahead: int, nearness: Nearness) -> list[tuple[int, int]]:
    """Seconds of `first` that show what `second` shows `ahead` seconds later in its own time, as runs."""
    start, stop = max(0, -ahead), min(len(first), len(second) - ahead)
    if stop <= start:
        return []
    theirs = slice(start + ahead, stop + ahead)
    apart_T = distance(first.hash_TxW[start:stop], second.hash_TxW[theirs]).astype(np.float32)
    strong_T = first.strong_T[start:stop] & second.strong_T[theirs]
    # What cannot be recognised neither speaks for a match nor against one.
    apart_T = np.where(strong_T, apart_T, nearness.mean)
    window = min(nearness.window_s, len(apart_T))
    mean_M = np.convolve(apart_T, np.ones(window, np.float32) / window, "valid")
    same_T = np.zeros(len(apart_T), bool)
    for place in np.flatnonzero(mean_M <= nearness.mean):
        same_T[place : place + window] = True
    same_T &= apart_T <= 1.5 * nearness.mean
    same_T &= (strong_T & same_T).any()  # a match needs a second that can be recognised
    least = min(nearness.least_s, len(first), len(second))
    return [(start + a, start + b) for a, b in runs(bridged(same_T, 2), least)]


def matches(prints: Sequence[Fingerprint], nearness: Nearness = Nearness()) -> list[Match]:
    """Every stretch that two recordings share, by recordings and time. Of each pair the later one is `first`."""
    found: list[Match] = []
    for (first, second), candidates in seeds(prints, nearness).items():
        found += matches_of(prints, first, second, candidates, nearness)
    return found


def matches_of(
    prints: Sequence[Fingerprint], first: int, second: int, candidates: Sequence[int], nearness: Nearness
) -> Iterator[Match]:
    """What two recordings share when laid over one another as some seeds say."""
    taken_T = np.zeros(len(prints[first]), bool)
    for ahead in candidates:
        for start, stop in overlap(prints[first], prints[second], ahead, nearness):
            if not taken_T[start:stop].all():
                taken_T[start:stop] = True
                yield Match(first, second, ahead, start, stop)
