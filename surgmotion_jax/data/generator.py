"""Random generators keyed by what they are for, so that no draw depends on the draws before it."""

from typing import Literal

import numpy as np

STREAMS = ("clips", "heldout order", "cases aside")
Stream = Literal["clips", "heldout order", "cases aside"]


def keyed_generator(seed: int, key: int, stream: Stream, attempt: int = 0) -> np.random.Generator:
    """The generator of (seed, key, stream, attempt), all whole numbers in [0, 2**64).

    Philox is counter-based: seed and key are its key, stream and attempt the high words of its counter, which
    counting up from below never reaches.
    """
    # As uint64 from the start: numpy turns a list of larger numbers into floats, and so makes seeds collide.
    words = np.array([seed, key], np.uint64)
    counter = np.array([0, 0, STREAMS.index(stream), attempt], np.uint64)
    return np.random.Generator(np.random.Philox(key=words, counter=counter))
