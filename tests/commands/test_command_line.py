"""The skeleton of all command lines: what is read, what the help says, and what a mistake is answered with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from surgmotion_jax.commands.command_line import (
    CommandLine,
    comma_list,
    config_flags,
    flag,
    positional,
    shorthand,
    switch,
)


@dataclass(frozen=True)
class Bake:
    recipe: str = positional("RECIPE", "what to bake")
    extras: tuple[str, ...] = positional("EXTRA", "what goes on top", default=())
    out: str = flag("DIR", "a new folder")
    loaves: int = flag("N", "how many", default=2, least=1)
    hours: float | None = flag("H", "in the oven", default=None, above=0)
    flour: Literal["rye", "wheat"] = flag("KIND", "rye or wheat", default="rye")
    names: tuple[str, ...] = flag("A,B", "of the loaves", default=(), read=comma_list)
    guest: tuple[str, ...] = flag("NAME", "who eats", default=())
    dry_run: bool = switch("heat nothing")

    def __post_init__(self) -> None:
        if self.names and len(self.names) != self.loaves:
            raise ValueError(f"--names has {len(self.names)} names for {self.loaves} loaves; give one each.")


@dataclass(frozen=True)
class Train:
    config: tuple[str, ...] = config_flags("pretraining", "what to train")
    workdir: str = flag("DIR", "checkpoints go here")
    crop: str | None = shorthand("P", "side of a clip", "augment.crop")


@dataclass(frozen=True)
class Look:
    config: tuple[str, ...] = config_flags("pretraining", "what to check", required=False)


@dataclass(frozen=True)
class Preview:
    config: tuple[str, ...] = config_flags("pretraining", "what to show", default="pretrain/tiny")


BAKE = CommandLine("bake", "Bakes bread.", Bake, lambda: "ovens: large, small")
TRAIN = CommandLine("train", "Trains.", Train)


@pytest.mark.parametrize(
    ("argv", "changed"),
    [
        (["rye", "--out=d"], {}),
        (["--out", "d", "rye"], {}),
        (["rye", "--out=d", "--loaves", "3"], {"loaves": 3}),
        (["rye", "--out=d", "--loaves=1", "--loaves=3"], {"loaves": 3}),
        (["rye", "--out=d", "--hours=1"], {"hours": 1.0}),
        (["rye", "--out=d", "--flour=wheat"], {"flour": "wheat"}),
        (["rye", "--out=d", "--dry-run"], {"dry_run": True}),
        (["rye", "--out=d", "--dry_run"], {"dry_run": True}),
        (["rye", "--out=d", "--names=a,b"], {"names": ("a", "b")}),
        (["rye", "--out=d", "--guest=a", "--guest=b=c"], {"guest": ("a", "b=c")}),
        (["--out=d", "rye", "seeds", "salt"], {"extras": ("seeds", "salt")}),
        (["--out=d", "--", "rye", "--salt"], {"extras": ("--salt",)}),
        (["rye", "--out=-d"], {"out": "-d"}),
    ],
    ids=" ".join,
)
def test_a_command_line_becomes_a_request(argv, changed):
    assert BAKE.parse(argv) == Bake(**{"recipe": "rye", "out": "d", **changed})


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], r"^RECIPE is missing; give RECIPE, what to bake; see surgmotion bake --help\.$"),
        (["rye"], r"^--out is missing; give --out=DIR, a new folder; see surgmotion bake --help\.$"),
        (["rye", "--out"], r"^--out needs a value: --out=DIR, a new folder; see surgmotion bake --help\.$"),
        (["rye", "--out", "--dry-run"], r"^--out needs a value"),
        (["rye", "--uot=d"], r"^unknown argument '--uot=d'; see surgmotion bake --help\. Did you mean '--out'\?$"),
        (["rye", "--zzz"], r"^unknown argument '--zzz'; see surgmotion bake --help\.$"),
        (["rye", "--loave=2"], r"unknown argument '--loave=2'.* Did you mean '--loaves'\?"),
        (["rye", "--loaves=two"], r"^--loaves is 'two'; it must be a whole number\.$"),
        (["rye", "--loaves=2.5"], r"^--loaves is '2\.5'; it must be a whole number\.$"),
        (["rye", "--loaves=0"], r"^--loaves is 0; it must be at least 1\.$"),
        (["rye", "--hours=long"], r"^--hours is 'long'; it must be a number\.$"),
        (["rye", "--hours=nan"], r"^--hours is nan; it must be a finite number\.$"),
        (["rye", "--hours=0"], r"^--hours is 0; it must be a finite number above 0\.$"),
        (["rye", "--flour=weat"], r"^--flour is 'weat'; it must be one of rye, wheat\. Did you mean 'wheat'\?$"),
        (["rye", "--names=a,"], r"^--names is 'a,'; it must be names with a comma between each two\.$"),
        (["rye", "--out=d", "--names=a"], r"^--names has 1 names for 2 loaves; give one each\.$"),
        (["rye", "--dry-run=no"], r"^--dry-run takes no value; found 'no'\. Leave it out to switch it off\.$"),
        (["rye", "--config=pretrain/tiny"], r"^unknown argument '--config=pretrain/tiny'"),
    ],
    ids=str,
)
def test_a_mistake_names_the_flag_what_was_found_and_what_is_allowed(argv, message):
    with pytest.raises(ValueError, match=message):
        BAKE.parse(argv)


@pytest.mark.parametrize("argv", [["wordir=x"], ["x"]])
def test_a_surplus_argument_is_named_and_one_without_dashes_gets_its_flag(argv):
    with pytest.raises(ValueError, match=r"^unknown argument '.*x'; see surgmotion train --help\.") as found:
        TRAIN.parse(["--config=pretrain/tiny", "--workdir=w", *argv])
    assert ("Did you mean '--workdir'?" in str(found.value)) == ("wordir" in argv[0])


def test_flags_of_a_config_are_kept_as_they_are_and_shorthands_are_added():
    request = TRAIN.parse(["--config.steps", "3", "--crop=64", "--workdir=w", "--config", "pretrain/tiny:a"])
    assert request.config == ("--config.steps=3", "--config=pretrain/tiny:a", "--config.augment.crop=64")


@pytest.mark.parametrize(
    ("request_class", "argv", "flags"),
    [
        (Look, [], ()),
        (Look, ["--config=a", "--config.b=1"], ("--config=a", "--config.b=1")),
        (Preview, [], ("--config=pretrain/tiny",)),
        (Preview, ["--config.b=1"], ("--config=pretrain/tiny", "--config.b=1")),
        (Preview, ["--config=a"], ("--config=a",)),
    ],
)
def test_a_config_may_be_optional_or_have_a_default(request_class, argv, flags):
    assert CommandLine("look", "Looks.", request_class).parse(argv).config == flags


@pytest.mark.parametrize(
    ("request_class", "argv", "message"),
    [
        (Train, ["--workdir=w"], r"^--config is missing; give --config=FILE\[:ARG\], what to train"),
        (Look, ["--config.b=1"], r"^--config\.b=1 overrides a field, but there is no --config=FILE; see surgmotion x"),
        (Look, ["--config.b"], r"^--config\.b needs a value"),
        (Look, ["--confg=a"], r"Did you mean '--config'\?"),
    ],
)
def test_a_config_that_is_missing_is_told(request_class, argv, message):
    with pytest.raises(ValueError, match=message):
        CommandLine("x", "Does x.", request_class).parse(argv)


def test_the_help_is_made_from_the_declaration(capsys):
    assert BAKE.run(["rye", "-h"], lambda request: 7) == 0
    assert capsys.readouterr().out.splitlines() == [
        "usage: surgmotion bake RECIPE --out=DIR [flags]",
        "",
        "Bakes bread.",
        "",
        "  RECIPE        what to bake",
        "  EXTRA         what goes on top",
        "  --out=DIR     a new folder",
        "  --loaves=N    how many (default: 2)",
        "  --hours=H     in the oven",
        "  --flour=KIND  rye or wheat (default: rye)",
        "  --names=A,B   of the loaves",
        "  --guest=NAME  who eats (may be repeated)",
        "  --dry-run     heat nothing",
        "",
        "ovens: large, small",
    ]


def test_the_help_of_a_command_with_configs_says_where_fields_are_explained():
    text = TRAIN.help()
    assert "--crop=P " in text
    assert "short for --config.augment.crop" in text
    assert "pretrain/tiny" in text
    assert "evaluate/cholec80" not in text
    assert "surgmotion config" in text


def test_run_hands_the_request_to_the_action_and_returns_its_code():
    assert BAKE.run(["rye", "--out=d"], lambda request: request.loaves + 1) == 3
