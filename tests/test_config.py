"""The door: ConfigDicts to dataclasses, flags, config files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

import pytest
from ml_collections import ConfigDict

from surgmotion_jax import config as door
from surgmotion_jax.config import ConfigError
from surgmotion_jax.differences import difference
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.sample.block_masks import BlockSet

TINY = "--config=pretrain/tiny"


@dataclass(frozen=True)
class Wheel:
    spokes: int = 8
    ratio: float = 1.5

    def __post_init__(self) -> None:
        if self.spokes < 3:
            raise ValueError(f"spokes is {self.spokes}; a wheel has at least 3.")


@dataclass(frozen=True)
class Bicycle:
    name: str = "red"
    steel: bool = True
    size: tuple[int, int] = (50, 60)
    kind: Literal["road", "track"] = "road"
    front: Wheel = field(default_factory=Wheel)
    spares: Mapping[str, Wheel] = field(default_factory=lambda: {"one": Wheel(12)})


@dataclass(frozen=True)
class Required:
    name: str


@pytest.fixture
def bicycle() -> ConfigDict:
    return door.defaults(Bicycle)


@pytest.mark.parametrize("cls", [Bicycle, PretrainConfig], ids=lambda cls: cls.__name__)
def test_building_the_defaults_gives_the_defaults(cls):
    if cls is PretrainConfig:  # its data names no videos, and must
        flags, _ = door.parse_flags([TINY])
        flags.unlock().data.sources = {"a": {"path": "a.mp4", "specialty": "general", "folder_fps": 1.0}}
        built = door.build(cls, flags)
        assert asdict(door.build(cls, ConfigDict(asdict(built)))) == asdict(built)
    else:
        assert door.build(cls, door.defaults(cls)) == cls()


def test_a_default_is_required_of_every_field():
    with pytest.raises(TypeError, match="name has no default"):
        door.defaults(Required)


def test_changes_arrive_in_the_dataclass(bicycle):
    bicycle.front.spokes = 20
    bicycle.size = [1, 2]
    bicycle.front.ratio = 2
    bicycle.spares = {"two": door.entry(Wheel, spokes=4)}
    built = door.build(Bicycle, bicycle)
    assert built == Bicycle(size=(1, 2), front=Wheel(20, 2.0), spares={"two": Wheel(4)})
    assert isinstance(built.front.ratio, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steel": 1}, r"config\.steel is 1 of type int; it must be of type bool"),
        ({"name": 3}, r"config\.name is 3 of type int; it must be of type str"),
        ({"front": {"spokes": "8"}}, r"config\.front\.spokes is '8' of type str; it must be of type int"),
        ({"front": {"spokes": True}}, r"config\.front\.spokes is True of type bool; it must be of type int"),
        ({"front": {"ratio": True}}, r"config\.front\.ratio is True of type bool; it must be of type float"),
        ({"size": 5}, r"config\.size is 5; it must be a tuple of int"),
        ({"size": "55"}, r"config\.size is '55'; it must be a tuple of int"),
        ({"size": (5, 0.5)}, r"config\.size\[1\] is 0\.5 of type float; it must be of type int"),
        ({"kind": "rod"}, r"config\.kind is 'rod'; it must be one of road, track"),
        ({"spares": {"one": {"spokes": None}}}, r"config\.spares\.one\.spokes must be given"),
        ({"steal": True}, r"config has no field 'steal'; it has name, steel, .*Did you mean 'steel'\?"),
        ({"front": {"zzz": 1}}, r"config\.front has no field 'zzz'; it has spokes, ratio\.$"),
        ({"front": {"spokes": 2}}, r"spokes is 2; a wheel has at least 3"),
    ],
    ids=str,
)
def test_a_field_that_does_not_fit_is_named(change, message):
    with pytest.raises(ConfigError, match=message):
        door.build(Bicycle, change)


def test_a_missing_field_is_named():
    with pytest.raises(ConfigError, match=r"config: .*missing.*'name'"):
        door.build(Required, {})


def test_entry_fills_in_defaults_and_refuses_unknown_names():
    assert door.entry(BlockSet, blocks=2).to_dict() == asdict(BlockSet(2))
    assert door.entry(Wheel, ratio=2.0).to_dict() == {"spokes": 8, "ratio": 2.0}
    with pytest.raises(ConfigError, match=r"Wheel has no field 'spoke'.*Did you mean 'spokes'"):
        door.entry(Wheel, spoke=2)
    with pytest.raises(TypeError, match="name has no default"):
        door.entry(Required)
    assert door.entry(Required, name="a").to_dict() == {"name": "a"}


@pytest.mark.parametrize(
    ("flag", "read", "want"),
    [
        ("--config.mask.ratios=(0.5,)", lambda c: c.mask.ratios, (0.5,)),
        ("--config.data.canvas=(64,96)", lambda c: c.data.canvas, (64, 96)),
        ("--config.run.accept_changes=True", lambda c: c.run.accept_changes, True),
        ("--config.model.predictor.zero_init=False", lambda c: c.model.predictor.zero_init, False),
        ("--config.optim.lr=2", lambda c: c.optim.lr, 2.0),
        ("--config.optim.lr=3e-4", lambda c: c.optim.lr, 3e-4),
        ("--config.steps=7", lambda c: c.steps, 7),
        ("--config.mask.kind=multiblock", lambda c: c.mask.kind, "multiblock"),
        ("--config.mask.sets.short.blocks=3", lambda c: c.mask.sets.short.blocks, 3),
    ],
)
def test_a_flag_overrides_its_field(flag, read, want):
    before, _ = door.parse_flags([TINY])
    config, rest = door.parse_flags(["--workdir=w", TINY, flag, "extra"])
    assert read(before) != want
    assert read(config) == want
    assert type(read(config)) is type(want)
    assert rest == ["--workdir=w", "extra"]
    changed = difference(before.to_dict(), config.to_dict())
    assert len(changed) == 1, "no other field may change"


def test_flags_of_one_command_do_not_reach_the_next():
    door.parse_flags([TINY, "--config.steps=7"])
    assert door.parse_flags([TINY])[0].steps == 600


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([TINY, "--config.optim.lrr=1"], r"config\.optim\.lrr=1.*lrr.*Did you mean \W*lr\b"),
        ([TINY, "--config.optimm.lr=1"], r"optimm"),
        ([TINY, "--config.steps=ten"], r"--config\.steps=ten"),
        ([TINY, "--config.optim=3"], r"--config\.optim=3"),
        (["--config.steps=1"], r"give exactly one --config=FILE \(shipped: .*pretrain/tiny.*\); got 0"),
        ([TINY, TINY], r"give exactly one --config=FILE .*got 2"),
        (["--config=pretrain/tin"], r"config 'pretrain/tin' is neither a file nor one of .*pretrain/tiny"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_line_that_cannot_be_used_is_refused(argv, message):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        door.parse_flags(argv)


@pytest.mark.parametrize("name", ["pretrain/tiny", "configs/pretrain/tiny", "configs/pretrain/tiny.py"])
def test_a_shipped_config_is_found_by_name_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert door.find_config(name).endswith("configs/pretrain/tiny.py")
    assert door.find_config(f"{name}:large").endswith("configs/pretrain/tiny.py:large")
    assert "pretrain/tiny" in door.config_names()


def test_a_config_is_found_by_path_and_gets_its_argument(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config(arg=None):\n"
        "    return ConfigDict({'arg': arg or 'none', 'depth': 1}).lock()\n"
    )
    assert door.find_config(f"{file}:deep") == f"{file}:deep"
    config, _ = door.parse_flags([f"--config={file}:deep", "--config.depth=2"])
    assert config.to_dict() == {"arg": "deep", "depth": 2}
    assert door.parse_flags([f"--config={file}"])[0].arg == "none"


def test_an_unknown_config_lists_the_shipped_ones():
    with pytest.raises(ConfigError, match=f"is neither a file nor one of {', '.join(door.config_names())}"):
        door.find_config("no/such")


def test_a_file_without_get_config_is_refused(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("depth = 1\n")
    with pytest.raises(ConfigError, match=r"mine\.py defines no get_config\(arg\)"):
        door.parse_flags([f"--config={file}"])
