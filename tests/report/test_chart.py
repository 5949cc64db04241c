"""The numbers that went in are the numbers on the chart, read back from its own tick labels."""

import math
import re

import numpy as np
import pytest

from surgmotion_jax.report.axis import fit_axis, format_number, log_ticks, nice_ticks
from surgmotion_jax.report.svg import Chart, Line, Mark, chart_figure, chart_svg, thin

_SUPERSCRIPT = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
_TIMES = "\N{MULTIPLICATION SIGN}10"


def _number(label: str) -> float:
    label = label.replace("\N{MINUS SIGN}", "-").replace(",", "")
    if _TIMES in label:
        mantissa, power = label.split(_TIMES)
        return float(mantissa) * 10.0 ** int(power.translate(_SUPERSCRIPT))
    return 1000 * float(label[:-1]) if label.endswith("k") else float(label)


def _scale(svg: str, kind: str) -> np.ndarray:
    """Ticks as rows of (place, value): a reader's only way from the drawing back to numbers."""
    place = "y" if kind == "ytick" else "x"
    found = re.findall(rf'<text class="{kind}" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)<', svg)
    shift = 4 if kind == "ytick" else 0  # tick labels stand this far below their grid line
    return np.array([(float(y if place == "y" else x) - shift, _number(label)) for x, y, label in found])


def _read_back(svg: str, label: str, log: bool = False) -> list[np.ndarray]:
    """The unbroken stretches of a line, each an array of (step, value)."""
    path = re.search(rf'data-line="{re.escape(label)}"><path [^>]*d="([^"]*)"', svg)
    assert path
    (x0, step0), (x1, step1) = _scale(svg, "xtick")[[0, 1]]
    y_ticks = _scale(svg, "ytick")
    (y0, value0), (y1, value1) = y_ticks[0], y_ticks[-1]
    if log:
        value0, value1 = math.log10(value0), math.log10(value1)
    stretches = []
    for stretch in path.group(1).split("M")[1:]:
        x, y = np.array([point.split(",") for point in stretch.split("L")], float).T
        value = value0 + (y - y0) / (y1 - y0) * (value1 - value0)
        stretches.append(np.stack([step0 + (x - x0) / (x1 - x0) * (step1 - step0), 10**value if log else value], -1))
    return stretches


@pytest.mark.parametrize(
    ("low", "high"), [(0.2, 0.9), (-3.0, 5.0), (1e-5, 4e-4), (12_000.0, 95_000.0), (0.9991, 0.9999)]
)
def test_linear_chart_reads_back(low: float, high: float) -> None:
    step_N = np.arange(0, 200, 10)
    value_N = np.random.default_rng(0).uniform(low, high, step_N.size)
    (points,) = _read_back(chart_svg(Chart("loss", (Line("a", step_N, value_N),))), "a")
    np.testing.assert_allclose(points[:, 0], step_N, atol=0.02 * 10)
    np.testing.assert_allclose(points[:, 1], value_N, atol=0.002 * (high - low))


def test_log_chart_reads_back_and_leaves_out_what_it_cannot_show() -> None:
    step_N = np.arange(1, 8)
    value_N = np.array([1e-4, 1e-2, 3.0, 0.0, 20.0, -1.0, 500.0])
    svg = chart_svg(Chart("norm", (Line("a", step_N, value_N),), log=True))
    stretches = _read_back(svg, "a", log=True)
    assert [len(stretch) for stretch in stretches] == [3, 1, 1]
    np.testing.assert_allclose(np.concatenate(stretches)[:, 1], value_N[value_N > 0], rtol=0.02)


def test_missing_values_are_gaps() -> None:
    value_N = np.array([1.0, 2.0, np.nan, 3.0, np.nan, 4.0, 5.0])
    svg = chart_svg(Chart("loss", (Line("a", np.arange(7), value_N),)))
    assert [len(stretch) for stretch in _read_back(svg, "a")] == [2, 1, 2]


@pytest.mark.parametrize(
    "value_N", [np.array([]), np.array([np.nan, np.nan]), np.array([0.0, 0.0]), np.array([3e38, 1.0])]
)
@pytest.mark.parametrize("log", [False, True])
def test_any_numbers_make_a_chart(value_N: np.ndarray, log: bool) -> None:
    figure = chart_figure(Chart("loss", (Line("a", np.arange(value_N.size), value_N),), log=log))
    assert "nan" not in figure
    assert "inf" not in figure


def test_marks_fall_on_their_step_and_the_legend_ends_on_the_last_value() -> None:
    line = Line("a", np.array([0, 100]), np.array([0.5, 0.25]))
    figure = chart_figure(Chart("loss", (line,), marks=(Mark(40, "resumed"), Mark(70, "alarm", alarm=True))))
    left, right = _scale(figure, "xtick")[[0, -1], 0]
    assert (left, right) == (46, 352)
    for kind, step in (("event", 40), ("event alarm", 70)):
        found = re.search(rf'class="{kind}" x1="([\d.]+)"', figure)
        assert found
        assert float(found.group(1)) == pytest.approx(left + step / 100 * (right - left), abs=0.01)
    assert "a<strong>0.250</strong>" in figure


def test_thinning_keeps_ends_extremes_and_gaps() -> None:
    step_N = np.arange(20_000)
    value_N = np.sin(step_N / 300)
    value_N[1234], value_N[15_001], value_N[7_000] = 9.0, -9.0, np.nan
    thinned = thin(Line("a", step_N, value_N), most=400)
    assert thinned.step_N.size <= 440
    assert {0, 1234, 7000, 15_001, 19_999} <= set(thinned.step_N.tolist())
    np.testing.assert_array_equal(thinned.value_N, value_N[thinned.step_N])


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.13, 0.17), (-7, 12_345), (3e-7, 8e-7), (5, 6000)])
def test_ticks_are_round_inside_and_few(low: float, high: float) -> None:
    values = nice_ticks(low, high)
    assert 2 <= len(values) <= 8
    assert low <= values[0] < values[-1] <= high
    spacing = values[1] - values[0]
    np.testing.assert_allclose(np.diff(values), spacing, rtol=1e-6)
    mantissa = spacing / 10 ** math.floor(math.log10(spacing) + 1e-9)
    assert min(abs(mantissa - nice) for nice in (1, 2, 2.5, 5)) < 1e-6


def test_log_ticks_are_decades_or_their_halves_and_fifths() -> None:
    assert log_ticks(0.002, 300) == pytest.approx([0.01, 0.1, 1, 10, 100])
    assert log_ticks(0.4, 3) == pytest.approx([0.5, 1, 2])


def test_axis_starts_at_zero_only_where_zero_is_near() -> None:
    assert fit_axis(np.array([0.1, 1.0]), 0, 1).low == 0
    assert fit_axis(np.array([0.9, 1.0]), 0, 1).low > 0.8


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5664, "0.566"),
        (19.44, "19.4"),
        (12_345, "12,345"),
        (7_512_448, f"7.51{_TIMES}⁶"),
        (5e-4, f"5{_TIMES}⁻⁴"),
        (-0.25, "\N{MINUS SIGN}0.250"),
        (0, "0"),
        (float("nan"), "\N{EN DASH}"),
        (None, "\N{EN DASH}"),
    ],
)
def test_numbers_as_people_write_them(value: float | None, text: str) -> None:
    assert format_number(value) == text
