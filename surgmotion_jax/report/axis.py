"""Axes: where a number falls on a chart, which numbers get a tick, and how numbers are written."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_MINUS, _TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
MISSING = "\N{EN DASH}"


@dataclass(frozen=True)
class Axis:
    """Maps `low..high` in data units onto `start..end` in drawing units, linearly or in decades."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value_N: np.ndarray) -> np.ndarray:
        """Drawing coordinates of the values; NaN stays NaN, and so does what a log axis cannot show."""
        value_N = np.asarray(value_N, np.float64)
        low, high = self.low, self.high
        if self.log:
            positive_N = np.where(value_N > 0, value_N, np.nan)
            value_N, low, high = np.log10(positive_N), math.log10(low), math.log10(high)
        return self.start + (value_N - low) / (high - low) * (self.end - self.start)

    def ticks(self, wanted: int = 5) -> tuple[tuple[float, str], ...]:
        """Round numbers within the axis, each with its label."""
        values = log_ticks(self.low, self.high) if self.log else nice_ticks(self.low, self.high, wanted)
        labels = [_tick_labels([value])[0] for value in values] if self.log else _tick_labels(values)
        return tuple(zip(values, labels, strict=True))


def fit_axis(value_N: np.ndarray, start: float, end: float, *, log: bool = False) -> Axis:
    """An axis around the finite values, with a little air; from zero where zero is near anyway.

    A log axis without a positive value would be empty, so it becomes a linear one.
    """
    finite_N = np.asarray(value_N, np.float64)
    finite_N = finite_N[np.isfinite(finite_N)]
    if log and np.any(finite_N > 0):
        low, high = _log_range(finite_N[finite_N > 0])
        return Axis(low, high, start, end, log=True)
    low, high = (float(finite_N.min()), float(finite_N.max())) if finite_N.size else (0.0, 1.0)
    level = high - low <= 1e-9 * max(abs(low), abs(high))
    air = (0.5 * abs(high) or 0.5) if level else 0.06 * (high - low)
    from_zero = 0 <= low <= 0.35 * high
    return Axis(0.0 if from_zero else low - air, high + air, start, end)


def _log_range(positive_N: np.ndarray) -> tuple[float, float]:
    low, high = float(positive_N.min()), float(positive_N.max())
    air = max((high / low) ** 0.06, 1.1)
    return low / air, high * air


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten inside `low..high`, about `wanted` of them."""
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    spacing = next((f * power for f in (1, 2, 2.5, 5) if f * power >= rough * 0.999), 10 * power)
    first, last = math.ceil(low / spacing - 1e-9), math.floor(high / spacing + 1e-9)
    return [float(f"{number * spacing:.12g}") for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten inside `low..high`; with 2 and 5 times them when there would be fewer than three."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = max(1, (last - first) // 6)
    decades = [10.0**p for p in range(first, last + 1, stride) if low <= 10.0**p <= high]
    if len(decades) >= 3:
        return decades
    fine = [f * 10.0**p for p in range(first, last + 1) for f in (1, 2, 5) if low <= f * 10.0**p <= high]
    return fine if len(fine) >= 2 else nice_ticks(low, high)


def format_number(value: float | None, digits: int = 3) -> str:
    """A number for people: `digits` significant digits, thousands grouped, powers of ten written out."""
    if value is None or not math.isfinite(value):
        return MISSING
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-3 or size >= 1e6:
        mantissa, power = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}{_TIMES}10{str(int(power)).translate(_SUPERSCRIPT)}".replace("-", _MINUS)
    decimals = max(0, digits - 1 - math.floor(math.log10(size)))
    return format_fixed(value, decimals)


def format_fixed(value: float, decimals: int) -> str:
    """A number with so many decimals, thousands grouped; a dash if it is not finite."""
    return f"{value:,.{decimals}f}".replace("-", _MINUS) if math.isfinite(value) else MISSING


def _tick_labels(values: list[float]) -> list[str]:
    """Labels with the same decimals all along the axis."""
    largest = max((abs(value) for value in values), default=0.0)
    if 0 < largest < 1e-3 or largest >= 1e7:
        return [format_number(value) for value in values]
    if largest >= 1e4:
        return [label + ("k" if label != "0" else "") for label in _tick_labels([v / 1e3 for v in values])]
    decimals = next(d for d in range(13) if all(abs(round(v, d) - v) <= 1e-9 * largest for v in values))
    return [format_fixed(value, decimals) for value in values]
