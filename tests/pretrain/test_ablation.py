"""Rows differ in their loss alone, and the table says what the metrics say."""

from __future__ import annotations

import json
import math

import pytest

from surgmotion_jax.differences import difference
from surgmotion_jax.pretrain import ablation
from surgmotion_jax.pretrain.ablation import outcome
from surgmotion_jax.pretrain.config import as_dict
from surgmotion_jax.pretrain.rows import ARMS, DEFAULT_ROWS, ROWS, choose_rows, config_of
from tests.pretrain.fixtures import small_config

CONFIG = small_config()


def changed(name, config=CONFIG):
    """Fields in which a row differs from the config, with their values."""
    lines = difference(as_dict(config), as_dict(config_of(ROWS[name], config)))
    return {line.partition(":")[0]: line.partition(" -> ")[2] for line in lines}


@pytest.mark.parametrize(
    ("name", "off"),
    [
        ("plain", {"loss.motion.alpha", "loss.affinity.weight", "loss.diversity.weight"}),
        ("motion", {"loss.affinity.weight", "loss.diversity.weight"}),
        ("affinity", {"loss.motion.alpha", "loss.diversity.weight"}),
        ("sfdr", {"loss.motion.alpha", "loss.affinity.weight"}),
        ("all", set()),
    ],
)
def test_latent_rows_switch_terms_off_and_change_nothing_else(name, off):
    assert changed(name) == dict.fromkeys(off, "0.0")


def test_other_rows():
    nothing = changed("plain")
    assert changed("pixel") == nothing | {"objective.kind": "'pixel'"}
    assert changed("topk") == {"loss.motion.scope": "'topk'", "loss.motion.reduce": "'sum'"}
    assert changed("topk_mean") == {"loss.motion.scope": "'topk'", "loss.motion.reduce": "'mean'"}


def test_rows_are_all_different_runs():
    configs = [config_of(row, CONFIG) for row in ROWS.values()]
    assert len(set(map(repr, configs))) == len(ROWS)


def test_a_base_of_pixels_has_the_same_rows():
    off = {"loss.affinity.weight": 0.0, "loss.diversity.weight": 0.0}
    base = small_config(**{"objective.kind": "pixel", **off})
    assert config_of(ROWS["plain"], base) == config_of(ROWS["plain"], CONFIG)


def test_choice_of_rows():
    assert choose_rows("") == DEFAULT_ROWS
    assert choose_rows("pixel, plain") == ("pixel", "plain")
    with pytest.raises(ValueError, match=r"--rows names 'pixels'; there are plain, .*Did you mean 'pixel'\?"):
        choose_rows("plain,pixels")
    with pytest.raises(ValueError, match="name each row once"):
        choose_rows("plain,plain")
    with pytest.raises(ValueError, match="name each row once"):
        choose_rows(",")


@pytest.mark.parametrize(
    ("overrides", "row", "message"),
    [
        (
            {"loss.motion.alpha": 0.0},
            "motion",
            r"'\+ motion' needs loss.motion.alpha.*--config.loss.motion.alpha=VALUE",
        ),
        ({"loss.affinity.weight": 0.0}, "all", r"needs loss.affinity.weight, which is 0.*leave the row out"),
        ({"loss.diversity.weight": 0.0}, "sfdr", r"needs loss.diversity.weight"),
        ({"saliency.kind": "none"}, "motion", r"saliency.kind is 'none'; set --config.saliency.kind=paper"),
    ],
)
def test_a_row_that_would_not_be_what_it_says_is_refused(overrides, row, message):
    with pytest.raises(ValueError, match=message):
        config_of(ROWS[row], small_config(**overrides))


def records(step=10, finished=True, loss=0.5):
    heldout = {"heldout/loss": loss, "heldout/constant": 0.8, "heldout/shuffled": 1.0, "gauge/rankme": 12.5}
    train = [
        {
            "kind": "train",
            "step": s,
            "metrics": {"speed/clips_per_s": v, "ema/distance": 0.01 * s, "optim/skipped": 0.0},
        }
        for s, v in ((1, 1.0), (2, None), (3, 5.0), (10, 3.0))
    ]
    event = {"kind": "event", "step": step, "text": "finished", "metrics": {}}
    alarm = {"kind": "event", "step": 5, "text": "alarm: rank", "metrics": {}}
    early = {"kind": "heldout", "step": 0, "metrics": {"heldout/loss": 9.0}}
    last = {"kind": "heldout", "step": step, "metrics": heldout}
    return [early, *train, alarm, last, *([event] if finished else [])]


def test_an_outcome_is_what_the_last_step_says():
    got = outcome("plain", config_of(ROWS["plain"], CONFIG), records())
    assert (got.heldout, got.rankme, got.alarms, got.step) == (0.5, 12.5, 1, 10)
    assert got.over_constant == pytest.approx(37.5)
    assert got.over_shuffled == pytest.approx(50)
    assert got.clips_per_s == 3.0
    assert got.ema_distance == pytest.approx(0.1)
    assert math.isnan(got.target_std)
    assert got.parameters > 0


@pytest.mark.parametrize("lacking", [records(step=9), records(finished=False), []])
def test_a_run_that_has_not_finished_has_no_outcome(lacking):
    assert outcome("plain", CONFIG, lacking) is None


def test_tables_hold_every_row_and_json_no_nan():
    rows = [outcome(name, config_of(ROWS[name], CONFIG), records()) for name in ("plain", "pixel")]
    below = ablation.notes(CONFIG, rows)
    text, markdown = ablation.as_text(rows, below), ablation.as_markdown(rows, below)
    for table in (text, markdown):
        assert "plain V-JEPA" in table
        assert "squares of pixels" in table
        assert "+37.5" in table
        assert "not findings" in table
    assert len(markdown.splitlines()[0].split("|")) == len(markdown.splitlines()[2].split("|"))
    content = json.loads(json.dumps(ablation.as_json(CONFIG, rows, below), allow_nan=False))
    assert content["rows"][0]["target_std"] is None
    assert content["losses"]["pixel"]["objective"]["kind"] == "pixel"


def test_a_probe_gets_columns_where_there_is_one():
    config = config_of(ROWS["plain"], CONFIG)
    probe = {"kind": "heldout", "step": 10, "metrics": {"probe/knn_balanced": 0.5, "probe/linear_balanced": 0.25}}
    without, having = (outcome("plain", config, [*records(), *more]) for more in ([], [probe]))
    assert having.heldout == without.heldout == 0.5, "a record of its own at the same step hides nothing"
    assert (having.knn, having.linear) == (50, 25)
    assert "probe kNN" in ablation.as_text([without, having], [])
    assert "probe kNN" not in ablation.as_text([without], [])


def test_skipped_updates_are_said():
    lines = records()
    lines[1]["metrics"]["optim/skipped"] = 1.0
    row = outcome("plain", CONFIG, lines)
    assert "plain: 25.0 % of updates were skipped" in ablation.notes(CONFIG, [row])[-1]


def test_runs_of_several_seeds_are_summed_up_and_decide_nothing():
    config = config_of(ROWS["plain"], CONFIG)
    rows = [
        outcome(name, config, records(loss=loss), "plain V-JEPA")
        for name, loss in (("plain-seed=0", 0.4), ("plain-seed=1", 0.6), ("pixel-seed=0", 0.5))
    ]
    (line,) = ablation.over_seeds(rows)
    assert line.startswith("plain, 2 seeds: better than a constant, % 37.5 (25.0 to 50.0)")
    assert "LiDAR" not in line, "what no run has logged"
    below = ablation.notes(CONFIG, rows)
    assert line in below
    assert any("not findings" in note for note in below)


def test_the_error_of_a_student_is_that_of_its_teachers_features():
    salt = config_of(ARMS["salt"], CONFIG, "weights")
    assert outcome("salt", salt, records()).error == "L1 of the teacher's features"
