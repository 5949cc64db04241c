"""Configs as commands read them: of the right kind, with videos or a stand-in, and mistakes in plain words."""

from __future__ import annotations

import pytest

from surgmotion_jax import config as door
from surgmotion_jax.commands.configs import evaluate_config, kind_of, open_config, pretrain_config

TINY = "--config=pretrain/tiny"


@pytest.mark.parametrize("name", door.config_names())
def test_the_kind_of_every_shipped_config_is_recognised(name):
    argument = ":stage1" if "pretrain/surgmotion_" in name else ""
    kind = {"evaluate": "evaluation", "study": "study"}.get(name.partition("/")[0], "pretraining")
    assert kind_of(door.load_config(name + argument)) == kind


@pytest.mark.parametrize(
    ("read", "flags", "message"),
    [
        (
            pretrain_config,
            ["--config=evaluate/cholec80:small", "--config.steps=3"],
            r"^evaluate/cholec80:small is an evaluation config; use surgmotion evaluate\.",
        ),
        (evaluate_config, [TINY, "--config.steps=3"], r"^pretrain/tiny is a pretraining config; use surgmotion pret"),
        (pretrain_config, [TINY], r"names no videos; give --data=PATH"),
        (
            pretrain_config,
            [TINY, "--config.step=3"],
            r"^--config\.step=3: config has no field 'step'; it has .*, steps\. Did you mean 'steps'\?$",
        ),
        (pretrain_config, [TINY, "--config.steps=ten"], r"^--config\.steps=ten: config\.steps must be a whole number"),
        (pretrain_config, [TINY, "--config.optim.lr=x"], r"config\.optim\.lr must be a number, such as 0\.001\.$"),
        (pretrain_config, [TINY, "--config.optim=3"], r"config\.optim is a section; override its fields: acc"),
        (pretrain_config, [TINY, "--config.steps.x=3"], r"config\.steps is a value, 600, and has no field 'x'\.$"),
    ],
)
def test_a_config_that_does_not_fit_is_told(read, flags, message):
    with pytest.raises(door.ConfigError, match=message):
        read(flags)


def test_videos_come_from_the_flag_or_the_stand_in():
    assert pretrain_config([TINY], "a.mp4").data.sources["data"].path == "a.mp4"
    assert pretrain_config([TINY], stand_in="none").data.sources["data"].path == "none"
    assert pretrain_config([TINY], "a.mp4", stand_in="none").data.sources["data"].path == "a.mp4"
    cooldown = ["--config=pretrain/vjepa2_vitl:cooldown"]
    assert pretrain_config(cooldown, stand_in="none").init.checkpoint == ""
    with pytest.raises(door.ConfigError, match=r"init\.checkpoint must be given"):
        pretrain_config(cooldown, "a.mp4")


def test_overrides_reach_the_dataclass():
    assert pretrain_config([TINY, "--config.steps=3"], "a").steps == 3
    assert evaluate_config(["--config=evaluate/cholec80", "--config.sweep.epochs=2"]).sweep.epochs == 2
    assert open_config([TINY, "--config.data.canvas=(64,96)"], "pretraining").data.canvas == (64, 96)
