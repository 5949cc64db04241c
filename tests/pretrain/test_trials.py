"""The runs of an ablation: arms, points of a grid, equal operations, and when a run collapsed."""

from __future__ import annotations

import dataclasses

import pytest

from surgmotion_jax.differences import difference
from surgmotion_jax.pretrain import ablation
from surgmotion_jax.pretrain.config import as_dict
from surgmotion_jax.pretrain.rows import ARMS, ROWS, all_rows, choose_rows, config_of
from surgmotion_jax.pretrain.trials import budgeted, name_of, read_grid, step_cost, trial_of
from surgmotion_jax.runs.ablation import Extent, moved_to, trials_of
from tests.pretrain.fixtures import NANO, small_config

CONFIG = small_config(**NANO, **{"steps": 1000, "optim.warmup_steps": 100})
FLAT = small_config(**NANO, **{"optim.ema": 0.99, "optim.final_ema": 0.99})


DEEP = small_config(**{**NANO, "steps": 1000, "optim.warmup_steps": 100, "model.depth": 4})


def changed(name, teacher="", config=CONFIG):
    lines = difference(as_dict(config_of(ROWS["plain"], config)), as_dict(config_of(all_rows()[name], config, teacher)))
    return {line.partition(":")[0]: line.partition(" -> ")[2] for line in lines}


def test_arms_change_their_objective_and_nothing_else():
    still = {"optim.ema": "1.0", "optim.final_ema": "1.0"}
    assert changed("salt", "w") == still | {"objective.targets": "'frozen'", "objective.teacher": "'w'"}
    at_once = {"optim.ema": "0.0", "optim.final_ema": "0.0", "objective.targets": "'online'"}
    assert changed("sigreg") == at_once | {"loss.sigreg.weight": "0.02"}
    assert changed("lejepa").keys() == changed("sigreg").keys() | {"loss.sigreg.of", "objective.stop_gradient"}
    assert changed("vicreg").keys() == {"loss.diversity.weight", "loss.covariance.weight"}
    assert changed("vjepa21", config=DEEP) == {
        "loss.context.weight": "0.5", "model.v21.levels": "4", "model.v21.context_projection": "True"
    }  # fmt: skip
    assert {key.rpartition(".")[0] for key in changed("late")} == {
        *("loss.motion", "loss.relation", "loss.diversity", "saliency")
    }
    assert choose_rows("salt,late,covariance") == ("salt", "late", "covariance"), "terms of the table have rows too"


def test_a_weight_of_the_config_wins_over_that_of_an_arm():
    heavier = small_config(**NANO, **{"loss.sigreg.weight": 0.5})
    assert config_of(ARMS["sigreg"], heavier).loss["sigreg"].weight == 0.5


def test_rows_decide_where_targets_come_from():
    online = small_config(**{"objective.targets": "online", "optim.ema": 0.0, "optim.final_ema": 0.0})
    with pytest.raises(
        ValueError, match=r"objective.targets is 'online', but rows decide.*--config.objective.targets=ema"
    ):
        config_of(ROWS["plain"], online)


def test_a_grid_is_every_combination():
    assert read_grid(()) == ({},)
    points = read_grid(("optim.ema=.99,.999", "seed=0,1"))
    assert [name_of("plain", point) for point in points] == [
        "plain-optim.ema=.99-seed=0",
        "plain-optim.ema=.99-seed=1",
        "plain-optim.ema=.999-seed=0",
        "plain-optim.ema=.999-seed=1",
    ]
    for text in ("optim.ema", "=1,2", "seed=0,,1"):
        with pytest.raises(ValueError, match="give a field and its values, as in --grid=optim.ema=.99,.999"):
            read_grid((text,))
    for texts in (("seed=0,0",), ("seed=0", "seed=1")):
        with pytest.raises(ValueError, match="name each field, and each of its values, once"):
            read_grid(texts)


def test_a_constant_momentum_stays_constant_on_a_grid():
    def optim(config, point):
        return trial_of("plain", ROWS["plain"], config, point, moved_to, "clips").config.optim

    moved = optim(FLAT, {"optim.ema": ".9"})
    assert (moved.ema, moved.final_ema) == (0.9, 0.9)
    rising = dataclasses.replace(FLAT, optim=dataclasses.replace(FLAT.optim, final_ema=1.0))
    assert optim(rising, {"optim.ema": ".9"}).final_ema == 1.0
    with pytest.raises(ValueError, match=r"grid is over optim.ema, but the row 'sigreg' keeps no moving average"):
        trial_of("sigreg", ARMS["sigreg"], FLAT, {"optim.ema": ".9"}, moved_to, "clips")
    with pytest.raises(ValueError, match="optim has no field 'emma'.*Did you mean 'ema'"):
        moved_to(FLAT, {"optim.emma": ".9"})


@pytest.mark.parametrize("name", ["plain", "pixel", "sigreg", "lejepa", "late"])
def test_equal_operations_whatever_the_arm(name):
    chosen = config_of(all_rows()[name], CONFIG)
    given = budgeted(chosen, CONFIG)
    whole = CONFIG.steps * step_cost(config_of(ROWS["plain"], CONFIG))
    assert given.steps * step_cost(given) == pytest.approx(whole, rel=0.5 / given.steps + 1e-9)
    assert given.optim.warmup_steps == pytest.approx(given.steps / 10, abs=1)
    assert {"plain": given.steps == 1000, "lejepa": given.steps < 900}.get(name, True)


def test_the_row_that_teaches_comes_first_at_every_point(tmp_path):
    extent = Extent(grid=("seed=0,1",))
    trials = list(trials_of(CONFIG, tmp_path, ("salt", "pixel"), extent))
    assert [trial.name for trial in trials] == ["pixel-seed=0", "salt-seed=0", "pixel-seed=1", "salt-seed=1"]
    assert [trial.config.seed for trial in trials] == [0, 0, 1, 1]
    assert trials[3].config.objective.teacher == str(tmp_path / "pixel-seed=1")
    with pytest.raises(ValueError, match=r"no 'pixel', whose encoder would teach; add it to --rows.*--teacher=DIR"):
        list(trials_of(CONFIG, tmp_path, ("salt",), extent))
    with pytest.raises(ValueError, match="no such directory"):
        list(trials_of(CONFIG, tmp_path, ("salt",), Extent(teacher=str(tmp_path / "none"))))


@pytest.mark.parametrize(
    ("ranks", "said"),
    [
        ([50, 40, 30], "no"),
        ([1, 40, 30], "no"),  # a run begins as it does: alarms.after
        ([50, 2, 1], "from step 10"),
        ([50, 2, 30], "steps 10 to 10, then no more"),
        ([50, 40, 1], "from step 20"),
        ([], "-"),
    ],
)
def test_when_a_run_collapsed(ranks, said):
    config = small_config(**{"alarms.after": 5})
    records = [{"kind": "heldout", "step": 10 * i, "metrics": {"gauge/rankme": r}} for i, r in enumerate(ranks)]
    assert ablation.collapsed(config, [*records, {"kind": "heldout", "step": 10, "metrics": {"probe/knn": 1}}]) == said
