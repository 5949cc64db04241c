"""Every command of README and docs: it is one that exists, its config builds, and it runs at a small size."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from surgmotion_jax import config as door
from surgmotion_jax import registry
from surgmotion_jax.evaluate.config import EvaluateConfig
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.runs.configuration import with_data
from surgmotion_jax.runs.study.config import StudyConfig
from tests.checkpoints import foreign_weights
from tests.commands.conftest import write_video
from tests.commands.runs import VERY_SMALL
from tests.commands.test_convert import facebook_file, torch_file, transformers_folder
from tests.docs.pages import PAGES, PROGRAMS, ROOT, Command, all_commands, blocks

COMMANDS = all_commands()
OURS = [command for command in COMMANDS if command.words[0] == "surgmotion"]
SECTIONS = {
    "pretrain": PretrainConfig,
    "ablate": PretrainConfig,
    "bench": PretrainConfig,
    "evaluate": EvaluateConfig,
    "study run": StudyConfig,
}

# The same run in seconds: appended to every command that trains an encoder.
SMALL_RUN = (
    *VERY_SMALL,
    "--config.model.dtype=float32",
    "--config.model.remat=none",
    "--config.steps=2",
    "--config.data.fps=12.5",
)
# As many blocks as levels.
VJEPA21 = ("--config.model.depth=4", "--config.images.batch=8", "--config.images.canvas=(40,40)")
SMALL_EVALUATION = (
    "--config.sweep.epochs=1",
    "--config.data.frames=4",
    "--config.data.size=32",
    "--config.data.train_windows=8",
    "--config.report.resamples=50",
)
# Cases and minutes of sets whose folds want clips of each action, or videos that are named.
CASES = {"surgicalactions160": ("160", "0.01"), "cholect50": ("25", "0.05")}
# What the weights of the releases are in the tests: three blocks of width 48.
RELEASED = ("--config.model.width=48", "--config.model.depth=3", "--config.model.heads=3", "--config.model.mlp=192")
RELEASED_PREDICTOR = (
    "--config.model.patch=8",
    "--config.model.predictor.width=32",
    "--config.model.predictor.depth=2",
    "--config.model.predictor.heads=2",
    "--config.model.predictor.mask_tokens=3",
)


def test_the_pages_hold_commands_of_every_kind():
    assert len(OURS) > 30
    assert {command.words[0] for command in COMMANDS} <= set(PROGRAMS)
    shown = {registry.resolve(command.words[1:])[0] for command in OURS}
    assert set(registry.COMMANDS) - shown == set(), "a command that no page shows"


def of_config(command: Command) -> tuple[str, list[str]] | None:
    """The name of a command and its config flags, or None where it takes no config."""
    name, rest = registry.resolve(command.words[1:])
    flags = [word for word in rest if re.match(r"--config[=.]", word)]
    return (name, flags) if flags and flags[0].startswith("--config=") else None


@pytest.mark.parametrize("command", [c for c in OURS if of_config(c)], ids=str)
def test_the_config_of_a_shown_command_builds(command):
    name, flags = of_config(command)
    config, rest = door.parse_flags(flags)
    assert not rest
    section = EvaluateConfig if "--encoder=" in str(command) else SECTIONS.get(name, PretrainConfig)
    filled = with_data(config, "VIDEOS") if section is PretrainConfig else config
    assert isinstance(door.build(section, filled), section)


def test_extras_that_are_named_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {name for page in PAGES for name in re.findall(r"'\.\[([\w,]+)\]'", page.read_text())}
    assert {part for names in named for part in names.split(",")} <= set(extras)
    line = next(line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("pip install -e"))
    assert set(re.findall(r"\w+", line.partition("extras:")[2])) <= set(extras)


def test_scripts_and_test_programs_that_are_named_exist():
    for command in COMMANDS:
        if command.words[0] == "bash":
            assert (ROOT / command.words[1]).exists(), command
        if command.words[:2] == ("python", "-m") and command.words[2].startswith("tests."):
            assert (ROOT / command.words[2].replace(".", "/")).with_suffix(".py").exists(), command


# ---- running them ----


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder in which everything that the pages name can be found or made."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "VIDEOS").mkdir()
    for seed in range(2):
        write_video(folder / "VIDEOS" / f"case{seed}.mp4", seed)
    facebook_file(folder / "vitl.pt")
    encoder = foreign_weights.prefixed("module.backbone.", foreign_weights.facebook_encoder(seed=3))
    torch_file(folder / "SurgMotion-vitl.pt", target_encoder=encoder)
    (folder / "hub").mkdir()
    transformers_folder(folder / "hub" / "vjepa2-vitl-fpc64-256")
    return folder


def replaced(words: list[str], changes: dict[str, str]) -> list[str]:
    """Flags with the values of `changes`; those that are not there are appended."""
    given = {word.partition("=")[0] for word in words}
    kept = [f"{name}={changes[name]}" if (name := word.partition("=")[0]) in changes else word for word in words]
    return kept + [f"{name}={value}" for name, value in changes.items() if name not in given]


def with_flags(words: list[str], flags: tuple[str, ...]) -> list[str]:
    """`flags`, without those that the words set themselves."""
    given = {word.partition("=")[0] for word in words}
    return [*words, *(flag for flag in flags if flag.partition("=")[0] not in given)]


def small_pretraining(line: list[str]) -> list[str]:
    if "--config.loss.motion.scope=topk" in line:
        line = [*line, "--config.loss.motion.top_k=2"]  # a mask hides as few of the small grid
    if any("vjepa21" in word for word in line):
        line = with_flags(line, VJEPA21)
    started = any(word.startswith("--config.init.checkpoint=") for word in line)
    return with_flags(with_flags(line, (*RELEASED, *RELEASED_PREDICTOR)) if started else line, SMALL_RUN)


def small_conversion(line: list[str]) -> list[str]:
    foreign = not any(word.startswith("runs/") for word in line)
    return [*line, "--heads=3", "--predictor-heads=2"] if foreign else line


def small_plan(line: list[str]) -> list[str]:
    """For GPUs, by formula. The plan of an evaluation needs a compiler: tests/evaluate/test_plan.py has one."""
    if any(word.startswith("--encoder=") for word in line):
        return ["plan", "--help"]
    return with_flags(replaced(line, {"--topology": "gpu:h100x8"}), SMALL_RUN)


def small_ablation(line: list[str]) -> list[str]:
    """Two rows: tests/commands/test_arms.py runs each of the others."""
    many = any(word.startswith("--rows=") and word.count(",") > 1 for word in line)
    rows = {"--rows": "pixel,salt"} if many else {}
    return with_flags(replaced(line, rows), (*SMALL_RUN, "--rows=plain,all"))


def small_simulation(line: list[str]) -> list[str]:
    layout = next(word.partition("=")[2] for word in line if word.startswith("--layout="))
    cases, minutes = CASES.get(layout, ("6", "0.1"))
    return replaced(line, {"--cases": cases, "--minutes": minutes, "--size": "48", "--workers": "1"})


def small_evaluation(line: list[str]) -> list[str]:
    few = {"--finetune": "last:1"} if "--finetune=last:2" in line else {}  # the small encoder has one block
    return with_flags(replaced(line, few), SMALL_EVALUATION)


SHRUNK = {
    "pretrain": small_pretraining,
    "ablate": small_ablation,
    # Compiling for TPUs takes minutes: tests/commands/test_plan.py does.
    "plan": small_plan,
    "bench": lambda line: with_flags(replaced(line, {"--steps": "2"}), SMALL_RUN),
    "simulate": small_simulation,
    "evaluate": small_evaluation,
    "data preview": lambda line: with_flags(line, SMALL_RUN),
    "study headroom": lambda line: [*line, *(flag.replace("--config.", "--set=") for flag in SMALL_EVALUATION)],
    "study run": lambda line: replaced(line, {"--config": "study/laptop:small", "--hours": "0.01"}),
    "data ingest": lambda line: with_flags(line, ("--keep-outside", "--least-s=0.5", "--fps=12.5")),
    "convert": small_conversion,
    "extract": lambda line: replaced(line, {"--frames": "4", "--size": "32"}),
    "export": lambda line: replaced(line, {"--frames": "4", "--size": "32"}),
}


def small(words: tuple[str, ...]) -> list[str]:
    """The arguments of `surgmotion` for the same command at a small size."""
    name, rest = registry.resolve(words[1:])
    shrink = SHRUNK.get(name, lambda line: line)
    return shrink([*name.split(), *rest])


def environment(arguments: list[str], world: Path) -> dict[str, str]:
    """One device for each process, or eight where a mesh is asked for; programs are kept for the commands after it."""
    devices = 8 if any(word.startswith("--config.parallel.") for word in arguments) else 1
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    cache = {"JAX_COMPILATION_CACHE_DIR": str(world / "programs"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, **cache}


def early(command: Command) -> int:
    """What makes weights of released ones comes first, as other pages read them; first of all, what only looks."""
    converts = command.words[1] == "convert" and not command.words[2].startswith("runs/")
    return converts + ("--dry-run" in command.words)


def remove_output(arguments: list[str], world: Path) -> None:
    """Several pages make the same set, weights or features, and nothing is overwritten."""
    if arguments[0] in ("simulate", "extract"):
        out = next(word.partition("=")[2] for word in arguments if word.startswith("--out="))
    elif arguments[0] == "convert":
        out = arguments[2]
    else:
        return
    shutil.rmtree(world / out, ignore_errors=True)


@pytest.mark.slow
def test_every_command_of_the_pages_runs_at_a_small_size(world):
    """Each in a process of its own, as a reader runs them, one after another; released weights are converted first."""
    failed = []
    for command in sorted(OURS, key=early, reverse=True):
        arguments = small(command.words)
        remove_output(arguments, world)
        line = [sys.executable, "-m", "surgmotion_jax", *arguments]
        ended = subprocess.run(
            line, check=False, cwd=world, env=environment(arguments, world), capture_output=True, text=True
        )
        if ended.returncode:
            failed.append(f"{command}: code {ended.returncode}, {ended.stderr[-500:]}")
    assert not failed, "\n".join(failed)


@pytest.mark.slow
def test_the_python_of_the_readme_runs(world, monkeypatch):
    monkeypatch.chdir(world)
    config, _ = door.parse_flags(["--config=pretrain/tiny", *SMALL_RUN])
    names = {"config": config, "video": np.zeros((1, 4, 32, 32, 3), np.uint8)}
    for block in blocks(ROOT / "README.md", "python"):
        assert '"pretrain/tiny"' in block
        exec(block.replace('"pretrain/tiny"', "config"), names)
    assert Path("runs/mine").is_dir()
