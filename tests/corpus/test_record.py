"""The record: what is packed is unpacked, and what is not so is refused by name."""

from __future__ import annotations

import dataclasses
import json
import struct
import zlib
from fractions import Fraction

import numpy as np
import pytest

from surgmotion_jax.data.records.record import Record, pack, unpack


def a_record() -> Record:
    ticks = np.array([4, 5, 9])
    return Record("x", "case 1", "knee", Fraction(1, 4), ticks, 10, (1, 2, 30, 40), (b"one", b"three", b"5"))


def repacked(changes: dict) -> bytes:
    """The bytes of a record whose header says something else, with a checksum that fits."""
    data = pack(a_record())
    length = struct.unpack_from("<4sII", data)[1]
    header = json.loads(data[12 : 12 + length]) | changes
    text = json.dumps(header).encode()
    body, size = text + data[12 + length :], struct.pack("<I", len(text))
    return b"SMCR" + size + struct.pack("<I", zlib.crc32(size + body)) + body


def test_what_is_packed_is_unpacked():
    record = a_record()
    back = unpack("here", pack(record))
    for field in dataclasses.fields(Record):
        assert np.array_equal(getattr(back, field.name), getattr(record, field.name)), field.name


def test_every_flipped_bit_is_found():
    data = pack(a_record())
    for place in range(len(data)):
        flipped = bytes([*data[:place], data[place] ^ 4, *data[place + 1 :]])
        with pytest.raises(ValueError, match=r"^shard 7: "):
            unpack("shard 7", flipped)


def test_bytes_that_end_early_are_found():
    data = pack(a_record())
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r"^here: "):
            unpack("here", data[:length])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"schema_version": 2}, "schema_version is 2, this version reads 1"),
        ({"ticks": [4, 4, 9]}, "ascending"),
        ({"ticks": [4, 5]}, "2 ticks"),
        ({"end": 9}, "end at 9"),
        ({"bytes": [3, 5, 2]}, "10 bytes"),
        ({"bytes": []}, "0 frames"),
        ({"time_base": [1, 0]}, "not that of a record"),
        ({"view": None}, "not that of a record"),
    ],
)
def test_a_header_that_contradicts_is_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        unpack("here", repacked(changes))
