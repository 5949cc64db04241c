"""`surgmotion config`: every field once, with its value, its default where that differs, and its comment."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from surgmotion_jax import config as door
from surgmotion_jax.__main__ import main
from surgmotion_jax.commands.configs import KINDS, kind_of
from surgmotion_jax.differences import flatten
from surgmotion_jax.pages.config_fields import Row, comments_of, rows_of


@dataclass(frozen=True)
class Wheel:
    """What it rolls on."""

    spokes: int = 8  # of steel
    ratio: float = 1.5


@dataclass(frozen=True)
class Bicycle:
    """Two wheels."""

    # A name that nobody else's has;
    # any will do.
    name: str = "red"
    size: tuple[int, ...] = (50,)  # height # not a second comment
    gears: tuple[tuple[int, int], ...] = (
        (1, 2),
        (3, 4),
    )  # front, back
    front: Wheel = field(default_factory=Wheel)
    spares: Mapping[str, Wheel] = field(default_factory=lambda: {"one": Wheel(12)})  # by name
    none: Mapping[str, Wheel] = field(default_factory=dict)  # left at home


def test_comments_are_those_beside_and_above_the_fields():
    assert comments_of(Bicycle) == {
        "name": "A name that nobody else's has; any will do.",
        "size": "height # not a second comment",
        "gears": "front, back",
        "front": "",
        "spares": "by name",
        "none": "left at home",
    }


def test_rows_have_values_and_the_defaults_that_were_left():
    values = dataclasses.asdict(Bicycle(name="blue", front=Wheel(20)))
    assert list(rows_of(Bicycle, values)) == [
        Row("name", "blue", "red", "A name that nobody else's has; any will do."),
        Row("size", "(50,)", None, "height # not a second comment"),
        Row("gears", "((1,2),(3,4))", None, "front, back"),
        Row("none", "{}", None, "left at home"),
        Row("front", None, None, "What it rolls on."),
        Row("front.spokes", "20", "8", "of steel"),
        Row("front.ratio", "1.5", None, ""),
        Row("spares.one", None, None, "What it rolls on."),
        Row("spares.one.spokes", "12", None, "of steel"),
        Row("spares.one.ratio", "1.5", None, ""),
    ]


@pytest.mark.parametrize("name", ["pretrain/tiny", "pretrain/surgmotion_vitl:stage1", "evaluate/cholec80:small"])
def test_every_field_of_a_config_is_printed_as_a_flag_that_the_door_takes(name, capsys):
    assert main(["config", name]) == 0
    printed = capsys.readouterr().out
    shown = dict(re.findall(r"^  --config\.([\w.]+)=(\S*)", printed, re.MULTILINE))
    config = door.load_config(name)
    assert set(shown) == set(flatten(config.to_dict())) | ({"data.sources"} & set(shown))
    # none: an empty value, which a flag of a number or a tuple cannot have
    flags = [f"--config.{field}={value}" for field, value in shown.items() if value not in ("", "{}")]
    before = flatten(config.to_dict())
    assert flatten(door.override(config, flags).to_dict()) == before


@pytest.mark.parametrize("name", door.config_names())
def test_every_shipped_config_can_be_printed(name):
    config = door.load_config(name + (":stage1" if "pretrain/surgmotion_" in name else ""))
    rows = list(rows_of(KINDS[kind_of(config)].cls, config.to_dict()))
    assert len(rows) > (20 if name.startswith("study/") else 40)
    assert sum(not row.comment for row in rows) < len(rows) / 10


def test_without_a_name_the_shipped_configs_are_listed_with_what_they_are(capsys):
    assert main(["config"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[: len(door.config_names())]] == door.config_names()
    said = dict(line.split(maxsplit=1) for line in lines[: len(door.config_names())])
    assert said["evaluate/cholec80"] == "seven phases of cholecystectomy"
    assert said["pretrain/tiny"].startswith("The demo: a small encoder")


def test_an_unknown_config_is_told(capsys):
    assert main(["config", "pretrain/tin"]) == 2
    assert "config 'pretrain/tin' is neither a file nor one of" in capsys.readouterr().err
