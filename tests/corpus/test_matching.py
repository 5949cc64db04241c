"""Matching: what two recordings share is found where it lies, without comparing all with all."""

from __future__ import annotations

import time

import numpy as np
import pytest

from surgmotion_jax.corpus import matching
from surgmotion_jax.corpus.fingerprint import Fingerprint, distance
from surgmotion_jax.corpus.matching import Match


def recording(rng: np.random.Generator, seconds: int) -> Fingerprint:
    """Seconds of which each has little to do with the one before."""
    words = rng.integers(0, 2**64, (seconds, 2), np.uint64)
    return Fingerprint("x", str(rng.integers(2**30)), words, np.ones(seconds, bool))


def worn(rng: np.random.Generator, one: Fingerprint, bits: int, part: slice = slice(None)) -> Fingerprint:
    """A part of a recording with so many bits of each second wrong."""
    words = one.hash_TxW[part].copy()
    for row in words:
        for bit in rng.permutation(128)[:bits]:
            row[bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
    return Fingerprint("y", "copy", words, np.ones(len(words), bool))


def test_keys_are_bits_of_the_hash_and_differ_from_table_to_table():
    words = recording(np.random.default_rng(0), 50).hash_TxW
    assert (matching.keys(words, 0, 20) < 2**20).all()
    assert np.array_equal(matching.keys(words, 0, 20), matching.keys(words.copy(), 0, 20))
    assert not np.array_equal(matching.keys(words, 0, 20), matching.keys(words, 1, 20))


def test_same_keys_are_all_pairs_of_different_owners():
    rng = np.random.default_rng(1)
    key, owner = rng.integers(0, 30, 80).astype(np.uint32), rng.integers(0, 5, 80)
    one, other = matching.same_keys(key, owner)
    pairs = {(a, b) for a in range(80) for b in range(80) if key[a] == key[b] and owner[a] > owner[b]}
    assert set(zip(one.tolist(), other.tolist(), strict=True)) == pairs
    assert len(one) == len(pairs)


def test_a_key_that_many_have_says_nothing():
    assert len(matching.same_keys(np.zeros(200, np.uint32), np.arange(200))[0]) == 0


@pytest.mark.parametrize("bits", [0, 10, 20])
def test_a_worn_sub_clip_is_found_to_the_second(bits):
    rng = np.random.default_rng(bits)
    first = recording(rng, 200)
    prints = [recording(rng, 150), first, recording(rng, 100), worn(rng, first, bits, slice(60, 100))]
    (match,) = matching.matches(prints)
    assert match == Match(3, 1, 60, 0, 40)


def test_matches_of_parts_say_where_both_lie():
    rng = np.random.default_rng(3)
    one, two = recording(rng, 60), recording(rng, 60)
    mixed = np.concatenate([two.hash_TxW[:20], one.hash_TxW[10:40], two.hash_TxW[30:50]])
    found = matching.matches([one, Fingerprint("y", "mix", mixed, np.ones(70, bool))])
    assert found == [Match(1, 0, -10, 20, 50)]


def test_what_cannot_be_recognised_matches_nothing():
    words = np.zeros((30, 2), np.uint64)
    weak = Fingerprint("x", "black", words, np.zeros(30, bool))
    assert matching.matches([weak, weak]) == []
    assert matching.matches([]) == []


def test_a_still_stretch_is_one_second_that_is_looked_up():
    words = np.repeat(recording(np.random.default_rng(4), 5).hash_TxW, 10, axis=0)
    still = Fingerprint("x", "still", words, np.ones(50, bool))
    _, second, _ = matching.gathered([still])
    assert second.tolist() == [0, 10, 20, 30, 40]
    assert matching.matches([still, still])[0][3:] == (0, 50)


def test_ten_hours_of_unlike_seconds_share_nothing():
    rng = np.random.default_rng(5)
    prints = [recording(rng, 1800) for _ in range(20)]
    assert matching.matches(prints) == []


def test_time_grows_nearly_as_the_hours_do():
    """Eight times the hours take less than thirteen times as long; all pairs would take sixty-four."""
    taken = []
    for hours in (4, 32):
        rng = np.random.default_rng(6)
        prints = [recording(rng, 3600) for _ in range(hours)]
        started = time.process_time()
        matching.matches(prints)
        taken.append(time.process_time() - started)
    assert taken[1] < 13 * taken[0] + 0.2


def test_distance_counts_bits():
    one = np.array([[0, 0], [7, 1]], np.uint64)
    assert distance(one, np.zeros((2, 2), np.uint64)).tolist() == [0, 4]
