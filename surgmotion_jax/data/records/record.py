"""A record: frames that follow one another in a case, as JPEG files behind a header that says what they are.

A record is one self-contained string of bytes: a magic word, the length of the header, a checksum of all that follows,
the header (JSON), and the JPEG files end to end. Letters: T frames of the record.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from surgmotion_jax.storage import Json

SCHEMA_VERSION = 1
"""Raised by one whenever a field of the header changes its name, type or meaning."""

MOST_FRAMES = 1024
"""Frames that a record may hold. A clip reads whole records, so good ones hold a few dozen."""

Box = tuple[int, int, int, int]
"""First row, first column, and the row and column after the last, in pixels."""

_MAGIC = b"SMCR"
_PREFIX = struct.Struct("<4sII")  # magic, bytes of the header, CRC-32 of this number, header and frames


@dataclass(frozen=True, eq=False)
class Record:
    """Frame t is on display from tick `tick_T[t]` until the next frame, the last one until `end`."""

    dataset: str
    case: str  # unique within the data set
    specialty: str
    time_base: Fraction  # seconds per tick
    tick_T: np.ndarray  # int64, ascending, from the first frame of the recording
    end: int  # tick
    view: Box  # the field of view of the case
    frames: tuple[bytes, ...]  # T JPEG files of one size


def pack(record: Record) -> bytes:
    """The record as it is stored."""
    header = {
        "schema_version": SCHEMA_VERSION,
        "dataset": record.dataset,
        "case": record.case,
        "specialty": record.specialty,
        "time_base": [record.time_base.numerator, record.time_base.denominator],
        "ticks": record.tick_T.tolist(),
        "end": record.end,
        "view": list(record.view),
        "bytes": [len(frame) for frame in record.frames],
    }
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    body = text + b"".join(record.frames)
    return _PREFIX.pack(_MAGIC, len(text), _checksum(len(text), body)) + body


def unpack(where: str, data: bytes) -> Record:
    """The record that `data` holds.

    Raises:
        ValueError: naming `where`: no record, damaged, of an unknown schema version, or fields that contradict.
    """
    if len(data) < _PREFIX.size or data[:4] != _MAGIC:
        raise ValueError(f"{where}: {len(data)} bytes that are no record of a corpus")
    _, length, told = _PREFIX.unpack_from(data)
    body = memoryview(data)[_PREFIX.size :]
    if (found := _checksum(length, body)) != told:
        raise ValueError(f"{where}: damaged: its checksum is {found:08x}, and {told:08x} was written")
    try:
        header = dict(json.loads(bytes(body[:length])))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: its header is not that of a record ({error}); ingest again") from error
    version = header.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ValueError(
            f"{where}: schema_version is {version!r}, this version reads {SCHEMA_VERSION}; ingest again, or use the "
            "version that wrote it"
        )
    try:
        return _checked(where, header, body[length:])
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"{where}: its header is not that of a record ({error!r}); ingest again") from error


def _checksum(length: int, body: bytes | memoryview) -> int:
    return zlib.crc32(body, zlib.crc32(struct.pack("<I", length)))


def _checked(where: str, header: dict[str, Json], payload: memoryview) -> Record:
    """The record of a header whose fields belong together."""
    sizes, tick_T = header["bytes"], np.array(header["ticks"], np.int64)
    edges = np.cumsum([0, *sizes]).tolist()
    good = 0 < len(sizes) == len(tick_T) <= MOST_FRAMES and min(sizes) > 0 and edges[-1] == len(payload)
    if not good or (np.diff(tick_T) <= 0).any() or header["end"] <= tick_T[-1]:
        raise ValueError(
            f"{where}: {len(sizes)} frames of {sum(sizes)} bytes and {len(tick_T)} ticks that end at {header['end']}, "
            f"for {len(payload)} bytes; each frame has its tick, ascending, and at most {MOST_FRAMES} are in a record"
        )
    return Record(
        dataset=header["dataset"],
        case=header["case"],
        specialty=header["specialty"],
        time_base=Fraction(*header["time_base"]),
        tick_T=tick_T,
        end=header["end"],
        view=tuple(header["view"]),
        frames=tuple(bytes(payload[start:end]) for start, end in pairwise(edges)),
    )
