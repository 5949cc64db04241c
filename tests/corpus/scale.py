"""Time and memory of matching fingerprints of many hours, made up, without pictures.

  python -m tests.corpus.scale --hours=100,1000,10000

Recordings are an hour long; a tenth of them hold ten minutes of an earlier one with 10 of 128 bits changed. Each size
has a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time

import numpy as np

from surgmotion_jax.corpus.fingerprint import Fingerprint
from surgmotion_jax.corpus.matching import TABLES, matches

COPIED, WORN = slice(600, 1200), 10
KEY_BYTES, ROW_BYTES = 4, 8


def made_up(hours: int) -> list[Fingerprint]:
    """A recording an hour, each tenth with a worn part of the one nine before it."""
    rng = np.random.default_rng(hours)
    prints: list[Fingerprint] = []
    for number in range(hours):
        words = rng.integers(0, 2**64, (3600, 2), np.uint64)
        if number % 10 == 9:
            words[COPIED] = prints[number - 9].hash_TxW[COPIED] ^ flips(rng, COPIED.stop - COPIED.start)
        prints.append(Fingerprint("x", str(number), words, np.ones(3600, bool)))
    return prints


def flips(rng: np.random.Generator, seconds: int) -> np.ndarray:
    """Words in which `WORN` bits of 128 are set, uint64 [seconds, 2]."""
    bit_TxK = rng.random((seconds, 128)).argpartition(WORN, axis=1)[:, :WORN]
    words = np.zeros((seconds, 2), np.uint64)
    for bit_T in bit_TxK.T:
        words[np.arange(seconds), bit_T // 64] |= np.uint64(1) << (bit_T % 64).astype(np.uint64)
    return words


def measure(hours: int) -> None:
    """Prints a line."""
    prints = made_up(hours)
    before = peak_mb()
    started = time.process_time()
    found = matches(prints)
    seconds = time.process_time() - started
    rows = sum(map(len, prints))
    right = sum(match.first % 10 == 9 and match.second == match.first - 9 for match in found)
    shuffle_gb = rows * TABLES * (KEY_BYTES + ROW_BYTES) / 1e9
    print(
        f"{hours:>6} h: {seconds:.1f} s of CPU, {1000 * seconds / hours:.1f} ms an hour; peak {peak_mb():.0f} MB "
        f"({before:.0f} before); {right} of {hours // 10} copies found, {len(found) - right} other matches; "
        f"keys of all tables {shuffle_gb:.2f} GB",
        flush=True,
    )


def peak_mb() -> float:
    """Of this process."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", default="100,1000,10000")
    for hours in map(int, parser.parse_args().hours.split(",")):
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(hours,))
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(f"{hours} hours ended with code {process.exitcode}")


if __name__ == "__main__":
    main()
