"""A frame's number painted into the frame as black and white blocks, which survive video and JPEG encoding.

Two rows of twelve blocks along the top: 20 bits of the number, highest first, then 4 bits that check them.
"""

from __future__ import annotations

import numpy as np

_COLUMNS, _ROWS, _BITS = 12, 2, 20
LARGEST = (1 << _BITS) - 1


def paint_number(video_HxWx3: np.ndarray, number: int) -> np.ndarray:
    """A copy of a frame, uint8 [H, W, 3], with `number` along its top rows.

    Raises:
        ValueError: for a number outside 0..LARGEST, or a frame too small for the blocks.
    """
    if not 0 <= number <= LARGEST:
        raise ValueError(f"frame number is {number}; the strip holds 0 to {LARGEST}")
    painted = video_HxWx3.copy()
    for bit, (rows, columns) in zip(_code(number), _blocks(painted.shape), strict=True):
        painted[rows, columns] = 255 if bit else 0
    return painted


def read_number(video_HxWx3: np.ndarray) -> int:
    """The number painted into a frame, uint8 [H, W, 3].

    Raises:
        ValueError: if there is none: blocks neither black nor white, or check bits that do not match.
    """
    means = []
    for rows, columns in _blocks(video_HxWx3.shape):
        block = video_HxWx3[rows, columns]
        # The middle of a block: encoders smear its border.
        edge_y, edge_x = block.shape[0] // 4, block.shape[1] // 4
        means.append(float(block[edge_y : block.shape[0] - edge_y, edge_x : block.shape[1] - edge_x].mean()))
    unclear = [round(mean) for mean in means if 90 < mean < 165]
    if unclear:
        raise ValueError(f"no frame number along the top rows: blocks of grey {unclear}, neither black nor white")
    bits = [mean > 127 for mean in means]
    number = sum(int(bit) << (_BITS - 1 - place) for place, bit in enumerate(bits[:_BITS]))
    if _code(number) != bits:
        raise ValueError(f"the blocks along the top rows read {number}, but their check bits do not match")
    return number


def _code(number: int) -> list[bool]:
    """The bits of a number and its check, which no single wrong block and no all-black or all-white strip passes."""
    check = 0b1010
    for shift in range(0, _BITS, 4):
        check ^= (number >> shift) & 15
    check = ((check << 1) | (check >> 3)) & 15
    word = (number << 4) | check
    return [bool(word >> place & 1) for place in reversed(range(_BITS + 4))]


def _blocks(shape: tuple[int, ...]) -> list[tuple[slice, slice]]:
    height, width = shape[:2]
    tall = max(4, height // 24)
    if width < 4 * _COLUMNS or height < 2 * _ROWS * tall:
        raise ValueError(
            f"a frame of {width} x {height} is too small for a frame number; at least {4 * _COLUMNS} x {4 * _ROWS * 2}"
        )
    edges = [round(width * column / _COLUMNS) for column in range(_COLUMNS + 1)]
    return [
        (slice(row * tall, (row + 1) * tall), slice(edges[column], edges[column + 1]))
        for row in range(_ROWS)
        for column in range(_COLUMNS)
    ]
