"""The units that H.264 and HEVC packets consist of, and the few fields of their headers that are needed here.

Units (NAL units) follow a length in mp4 and Matroska, and a start code in other containers (ITU-T H.264, Annex B).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

ALONE, SEQUENCE, PICTURE = 5, 7, 8
"""Kinds of H.264 units: a slice of a picture behind which all begins anew (IDR), what describes the pictures of a
sequence, and what says how they are coded."""

_START = b"\0\0\1"
_LONGEST = 4096
"""Bytes of a description."""

_EXTENDED_PROFILES = (44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244)
"""Profiles whose sequences tell of chroma and scaling (H.264, 7.3.2.1.1)."""


class Framing(NamedTuple):
    """How the units of a stream are told apart."""

    length: int  # bytes of the length before each unit; 0 where start codes part them

    @classmethod
    def of(cls, codec: str, head: bytes) -> Framing:
        """That of a stream whose container describes it by `head` (its extradata)."""
        if codec == "h264":
            return cls((head[4] & 3) + 1 if head[:1] == b"\1" and len(head) > 4 else 0)
        # Some write version 0, and a start code begins with two zeros and a one.
        return cls((head[21] & 3) + 1 if len(head) > 21 and head[:3] > b"\0\0\1" else 0)

    def units(self, data: bytes) -> Iterator[tuple[int, int]]:
        """The first byte of each unit in a packet, and the one behind it."""
        if not self.length:
            yield from _between_start_codes(data)
            return
        place = self.length
        while place <= len(data):
            end = place + int.from_bytes(data[place - self.length : place])
            yield place, min(end, len(data))
            place = end + self.length

    def framed(self, unit: bytes) -> bytes:
        """A unit as it stands in a packet."""
        return (len(unit).to_bytes(self.length) if self.length else _START) + unit

    def is_one_picture(self, data: bytes, slices: int, borders: int) -> bool:
        """Whether a packet is taken apart without rest, has slices, and not the borders of two pictures.

        A decoder passes over what it does not know, and with a border that is damaged two packets become one.
        """
        place = 0
        while self.length and place < len(data):
            place += self.length + int.from_bytes(data[place : place + self.length])
        return slices > 0 and (place == len(data) if self.length else borders <= 1)

    def with_unit(self, data: bytes, start: int, end: int, unit: bytes) -> bytes:
        """The packet with another unit in the place of the one from `start` to `end`; IndexError if it is too long."""
        try:
            head = data[: start - self.length] + (len(unit).to_bytes(self.length) if self.length else b"")
        except OverflowError as error:
            raise IndexError(f"a unit of {len(unit)} bytes has no length of {self.length}") from error
        return head + unit + data[end:]


def _between_start_codes(data: bytes) -> Iterator[tuple[int, int]]:
    begin = data.find(_START)
    while begin >= 0:
        following = data.find(_START, begin + 3)
        yield begin + 3, following if following >= 0 else len(data)
        begin = following


def described(head: bytes) -> Iterator[tuple[int, int, Framing]]:
    """Where the units lie in the description of an H.264 stream (its extradata), and how they are framed there."""
    if head[:1] != b"\1":
        yield from ((*place, Framing(0)) for place in Framing(0).units(head))
        return
    place = 5
    for mask in (31, 255):  # sequences, then pictures (ISO/IEC 14496-15, 5.3.3.1.2)
        count, place = int.from_bytes(head[place : place + 1]) & mask, place + 1
        for _ in range(count):
            end = place + 2 + int.from_bytes(head[place : place + 2])
            yield place + 2, end, Framing(2)
            place = end


def uses_arithmetic_coding(picture: bytes) -> bool:
    """Whether a description of pictures, an H.264 unit, says that they are coded by CABAC."""
    bits = _Bits(picture[1:])
    bits.coded()
    bits.coded()
    return bool(bits.take(1))


class Taller(NamedTuple):
    """What describes pictures of a sequence with more rows of pixels, and what they are without these."""

    unit: bytes
    rows: int
    columns: int
    fields: bool  # whether one of them may be two fields
    plain: bool  # whether they begin at their first row and column, and none is made up by the decoder


def taller(sequence: bytes, blocks: int) -> Taller:
    """A description of a sequence, an H.264 unit, that gives its pictures at least `blocks` more blocks, below.

    Raises IndexError where it ends too early, or is longer than any.
    """
    if len(sequence) > _LONGEST:
        raise IndexError(f"{len(sequence)} bytes describe no sequence")
    bits = _Bits(sequence[1:])
    profile = bits.take(8)
    bits.take(16)  # constraints, level
    bits.coded()
    if profile in _EXTENDED_PROFILES:
        _skip_chroma_and_scaling(bits)
    bits.coded()
    order = bits.coded()  # how the order of pictures is told
    if order == 0:
        bits.coded()
    elif order == 1:
        bits.take(1)
        bits.signed()
        bits.signed()
        for _ in range(bits.coded()):
            bits.signed()
    bits.coded()  # reference pictures
    gaps = bits.take(1)
    columns = bits.coded() + 1
    before = bits.place
    rows = bits.coded() + 1
    unit = sequence[:1] + bits.replaced(before, _code(rows - 1 + -(-blocks // columns)))
    fields = not bits.take(1)
    bits.take(2 if fields else 1)  # adaptive fields, direct prediction
    left, _, top, _ = (bits.coded() for _ in range(4)) if bits.take(1) else (0, 0, 0, 0)  # what is cut off
    return Taller(unit, rows * (32 if fields else 16), columns * 16, fields, not (gaps or left or top))


def _skip_chroma_and_scaling(bits: _Bits) -> None:
    colour = bits.coded()
    if colour == 3:
        bits.take(1)
    bits.coded()
    bits.coded()
    bits.take(1)
    if not bits.take(1):
        return
    for table in range(12 if colour == 3 else 8):
        if bits.take(1):
            last = following = 8
            for _ in range(16 if table < 6 else 64):
                following = (last + bits.signed()) % 256 if following else 0
                last = following or last


def _code(number: int) -> str:
    """The bits of a number in Exp-Golomb code."""
    digits = f"{number + 1:b}"
    return "0" * (len(digits) - 1) + digits


class _Bits:
    """The bits of a unit, one after another. Raises IndexError behind the last one."""

    def __init__(self, unit: bytes) -> None:
        content = unit.replace(b"\0\0\3", b"\0\0")  # a 3 keeps what would be a start code apart
        self._bits = "".join(f"{byte:08b}" for byte in content)
        self.place = 0

    def take(self, count: int) -> int:
        end = self.place + count
        if end > len(self._bits):
            raise IndexError("the unit ends within a number")
        number, self.place = int(self._bits[self.place : end], 2), end
        return number

    def coded(self) -> int:
        """A number in Exp-Golomb code."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + (self.take(zeros) if zeros else 0)

    def signed(self) -> int:
        code = self.coded()
        return (code + 1) // 2 if code % 2 else -(code // 2)

    def replaced(self, start: int, bits: str) -> bytes:
        """The unit with other bits in the place of those from `start` to here."""
        changed = (self._bits[:start] + bits + self._bits[self.place :]).rstrip("0")  # it ends with a 1
        changed += "0" * (-len(changed) % 8)
        return _kept_apart(bytes(int(changed[place : place + 8], 2) for place in range(0, len(changed), 8)))


def _kept_apart(content: bytes) -> bytes:
    unit, zeros = bytearray(), 0
    for byte in content:
        if zeros >= 2 and byte <= 3:
            unit.append(3)
            zeros = 0
        unit.append(byte)
        zeros = 0 if byte else zeros + 1
    return bytes(unit)
