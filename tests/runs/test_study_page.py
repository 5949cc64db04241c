"""The page of a study says first what was found, and marks what no number can be had of."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

from surgmotion_jax.evaluate.anchors import TUNED
from surgmotion_jax.evaluate.compare.strengths import scores
from surgmotion_jax.pages.study import Learnt, StudyPage, as_html, as_markdown, chart_of, verdict
from surgmotion_jax.report.svg import chart_file
from tests.evaluate.test_strengths import one, world

LEARNT = Learnt(32_000, 35.0, 0.25, 42.0, 16.5, "no", ((0, -50.0, 33.0), (500, 41.5, 16.5)))


def page(found) -> StudyPage:
    made = scores(found, ("plain", "pixel"), resamples=100)
    values = {place: each.value() for place, each in found.items()}
    ended = {"0/late-1": "ended"}
    return StudyPage(
        made,
        values,
        {("plain", "t", 0.1): 0.25, ("random", "t", 0.1): 0.125},
        {"0/all-0": None, "0/plain-0": LEARNT, "1/plain-0": LEARNT},
        ended,
        {"frames": np.zeros((8, 16, 3), np.uint8), "plain": np.full((8, 16, 3), 200, np.uint8)},
        ("plain", "pixel"),
        1.25,
        6,
        14,
        "surgmotion study run --config=x --workdir=w",
    )


def test_the_verdict_is_what_the_test_says():
    growing, level = page(world({0.0: 0.0, 1.0: 0.1, 2.0: 0.2})), page(world({0.0: 0.1, 1.0: 0.1}))
    assert verdict(growing)[0].startswith(
        "The lead of plain over pixel grows with nuisance; points a unit of strength: +25.6 ("
    )
    assert "neither grows nor shrinks demonstrably" in verdict(level)[0]
    assert verdict(growing)[1] == "Above random weights, by their intervals: plain at 0, 1 and 2; pixel at 0, 1 and 2."
    sunk = verdict(page(world({0.0: 0.0, 1.0: -0.4})))
    assert sunk[1:3] == [
        "Above random weights, by their intervals: plain at 0; pixel at 0 and 1.",
        "Below random weights: plain at 1.",
    ]
    nothing = page({place: each for place, each in world({0.0: 0.0}).items() if place[0] != "pixel"})
    assert verdict(nothing)[0] == "Whether the lead of plain over pixel grows with nuisance cannot be said yet."


def test_a_task_without_room_is_named():
    found = world({0.0: 0.0}) | {(arm, "flat", 0.0): one(0.2) for arm in ("random", TUNED, "plain", "pixel")}
    assert verdict(page(found))[-1].endswith("not above random there: flat.")


def test_the_page_begins_with_the_finding_and_draws_a_line_an_arm():
    html = as_html(page(world({0.0: 0.0, 1.0: 0.1})))
    assert html.index("The lead of plain over pixel") < html.index("<svg") < html.index("<h2>Differences")
    assert html.count('data-line="plain"') == 2 * 3 + 2, "itself and its interval for two widths, and two of learning"
    assert ">strength</text>" in html
    assert "6 of 14 cells, 1.2 hours" in html
    assert html.index('alt="frames"') < html.index('alt="plain"')


def test_the_figure_is_a_file_of_its_own_with_every_arm_in_its_legend():
    drawn = ElementTree.fromstring(chart_file(chart_of(page(world({0.0: 0.0, 1.0: 0.1})).scores)))
    assert "var(" not in ElementTree.tostring(drawn, "unicode"), "colours that every viewer knows"
    texts = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[:4] == ["Score against nuisance", "0 random, 100 end to end", "plain", "pixel"]
    lines = [group.get("data-line") for group in drawn.iter("{http://www.w3.org/2000/svg}g") if group.get("data-line")]
    assert sorted(lines) == sorted(3 * ["plain", "pixel"])


def test_markdown_has_a_row_an_arm_and_strength_and_no_empty_table():
    text = as_markdown(page(world({0.0: 0.0, 1.0: 0.1})))
    assert sum(line.startswith("| plain |") for line in text.splitlines()) == 2
    assert "| t | 0 | 0.210 | 0.600 |" in text
    assert "| task | share of labels | random | plain |" in text
    assert "| t | 0.1 | 0.125 | 0.250 |" in text
    assert "| 0/all-0 | - | - | - | - | - | did not reach its last step |" in text
    assert "| 0/plain-0 | 32,000 | 35.0 | 0.250 | 42.0 | 16.5 | no |" in text
    assert "| 0/late-1 | - | - | - | - | - | ended |" in text
