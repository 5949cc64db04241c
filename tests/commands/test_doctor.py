"""The doctor: what it shows, and what it calls a problem."""

from __future__ import annotations

import os
import re

import jax
import pytest

from surgmotion_jax.__main__ import main
from surgmotion_jax.commands import doctor
from surgmotion_jax.doctor import machine
from tests.commands.conftest import SMALL, write_video


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """The default compilation cache lies in the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def examine(capsys):
    """Runs the command; returns (exit code, its lines)."""

    def run(*argv: object) -> tuple[int, list[str]]:
        code = main(["doctor", *map(str, argv)])
        return code, capsys.readouterr().out.splitlines()

    return run


def labelled(lines, label):
    return [line.split(maxsplit=len(label.split()))[-1] for line in lines if line.strip().startswith(label + " ")]


def problems(lines):
    return [line for line in lines if line.startswith("PROBLEM ")]


def test_without_arguments_it_shows_the_machine(examine, home):
    code, lines = examine()
    assert code == 0
    assert lines[-1] == "all fine"
    assert labelled(lines, "jax") == [jax.__version__]
    assert all(
        labelled(lines, name)
        for name in ("python", "package", "flax", "optax", "orbax", "grain", "av", "host", "torch")
    )
    assert labelled(lines, "devices")[0].startswith("8 x cpu (cpu)")
    assert labelled(lines, "cache") == [f"{home}/.cache/surgmotion_jax/compilation, writable"]


def test_a_config_gives_the_banner_and_compiles_nothing(examine, monkeypatch):
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda *_: pytest.fail("compiled"))
    code, lines = examine(*SMALL, "--config.run.compilation_cache=")
    assert code == 0
    assert "GB state + " in labelled(lines, "memory")[0]
    assert "1 x 192" in labelled(lines, "encoder")[0]
    assert labelled(lines, "cache") == ["none: every start compiles anew"]
    assert not labelled(lines, "decoding"), "no data was named"


def test_data_is_opened_listed_and_timed(examine, videos, tmp_path):
    for video in videos.iterdir():
        (tmp_path / video.name).symlink_to(video)
    (tmp_path / "cut.mp4").write_bytes(b"not a video")
    code, lines = examine(f"--data={tmp_path}")
    assert code == 0, "one broken file is within the budget"
    assert "2 files, 2 cases" in labelled(lines, "data data")[0]
    assert "1 unreadable" in labelled(lines, "data data")[0]
    assert labelled(lines, "unreadable")[0].startswith(f"{tmp_path / 'cut.mp4'}: ")
    milliseconds, unit, *rest = labelled(lines, "decoding")[0].split()
    assert int(milliseconds) >= 0
    assert (unit, " ".join(rest[:6])) == ("ms", "a clip of 16 frames at")


def test_videos_named_by_the_config_are_opened(examine, videos, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from surgmotion_jax.config import entry, load_config\n"
        "from surgmotion_jax.data import SourceConfig\n"
        "def get_config(arg=None):\n"
        "    c = load_config('pretrain/tiny')\n"
        "    with c.unlocked():\n"
        f"        c.data.sources['mine'] = entry(SourceConfig, path={str(videos)!r}, specialty='eye')\n"
        "    return c\n"
    )
    code, lines = examine(f"--config={file}", *SMALL[1:])
    assert code == 0
    assert "specialty eye" in labelled(lines, "data mine")[0]
    assert " 4 frames at 12.5 fps, 40 x 40 px" in labelled(lines, "decoding")[0]


def test_videos_too_short_for_a_clip_are_listed(examine, videos, tmp_path):
    for video in videos.iterdir():
        (tmp_path / video.name).symlink_to(video)
    write_video(tmp_path / "brief.mp4", 0, frames=4)
    code, lines = examine(*SMALL, f"--data={tmp_path}", "--config.data.short=skip", "--config.data.frames=8")
    assert code == 0
    assert labelled(lines, "left out")[0].startswith(f"{tmp_path / 'brief.mp4'}: 0.16 s")
    assert "1 too short, 0 unreadable" in labelled(lines, "data data")[0]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--config.model.variant=vit_larg",), "config: model.variant is 'vit_larg'"),
        (("--config.optim.lrr=1",), "config: .*has no field 'lrr'.*Did you mean 'lr'"),
        (("--config.parallel.data=3",), "config: parallel.data=3"),
        (("--config.optim.batch=12",), "config: optim.batch 12 is not divisible by 8"),
        (("--config.model.attention=splash",), "config: .*needs a TPU"),
        (("--config.distributed.processes=2",), "devices: distributed.coordinator=''"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_a_config_that_could_not_run_is_a_problem(examine, flags, message):
    code, lines = examine(*SMALL, *flags)
    assert code == 1
    assert len(problems(lines)) == 1
    assert re.match(f"PROBLEM {message}", problems(lines)[0])
    assert lines[-1] == "1 problem"
    assert labelled(lines, "jax"), "the rest is shown all the same"


def test_data_that_cannot_be_read_is_a_problem(examine, tmp_path):
    for i in range(3):
        (tmp_path / f"broken{i}.mp4").write_text(f"not video {i}")
    code, lines = examine(f"--data={tmp_path}")
    assert code == 1
    assert problems(lines)[0].startswith("PROBLEM data: 3 of 3 files are unreadable")
    assert all(any(f"broken{i}.mp4" in line for line in lines) for i in range(3))
    code, lines = examine("--data=/nowhere/at/all")
    assert code == 1
    assert problems(lines) == [next(line for line in lines if "/nowhere/at/all: it does not exist" in line)]


def test_nothing_to_hold_out_is_a_problem_of_a_run_only(examine, videos):
    code, lines = examine(*SMALL, f"--data={videos}", "--config.data.holdout=0.0")
    assert code == 1
    assert "holdout is 0" in problems(lines)[0]
    assert examine(f"--data={videos}")[0] == 0


def test_a_config_and_data_may_both_be_broken(examine):
    code, lines = examine(*SMALL, "--config.model.variant=vit_larg", "--data=/nowhere/at/all")
    assert code == 1
    assert [line.split()[1] for line in problems(lines)] == ["config:", "data:"]
    assert lines[-1] == "2 problems"


def test_a_missing_package_is_a_problem_and_a_missing_extra_only_if_asked_for(examine, monkeypatch):
    monkeypatch.setattr(machine, "version", lambda name: None if name == "grain" else "1.0")
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    code, lines = examine(*SMALL)
    assert code == 1
    assert problems(lines) == ["PROBLEM package grain is not installed; pip install grain"]
    assert "pip install -e '" in labelled(lines, "torch")[0], "this is a checkout, and no registry is asked for it"
    assert labelled(lines, "torch")[0].endswith("[torch]')")
    _, lines = examine(*SMALL, "--config.run.tensorboard=on")
    assert "PROBLEM run.tensorboard is 'on' but tensorboardX is not installed" in problems(lines)[1]


def test_devices_that_do_not_start_are_a_problem(examine, monkeypatch):
    def fail() -> None:
        raise RuntimeError("Unable to initialize backend 'tpu'")

    monkeypatch.setattr(jax, "local_devices", fail)
    code, lines = examine()
    assert code == 1
    assert problems(lines) == ["PROBLEM devices: Unable to initialize backend 'tpu'"]


def test_a_cache_that_cannot_be_written_is_no_problem(examine, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, lines = examine(*SMALL, f"--config.run.compilation_cache={tmp_path / 'file' / 'cache'}")
    assert code == 0
    assert labelled(lines, "cache")[0].startswith("not writable, every start compiles anew: ")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--dta=x"], r"unknown argument '--dta=x'; see surgmotion doctor --help"),
        (["--dat=x"], r"unknown argument '--dat=x'"),
        (["--data"], r"--data needs a value: --data=PATH, "),
        (["--config.steps=1"], r"--config\.steps=1 overrides a field, but there is no --config=FILE"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_refused(argv, message):
    with pytest.raises(ValueError, match=message):
        doctor.main(argv)


def test_help_names_the_configs(examine):
    code, lines = examine("--help")
    assert code == 0
    assert any(line.startswith("shipped configs:") and "pretrain/tiny" in line for line in lines)


def test_an_extra_is_installed_by_its_packages_where_there_is_no_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "a" / "b" / "machine.py"))
    assert machine.install(machine.EXTRAS["torch"]) == "pip install torch transformers safetensors"


def write_to_stderr_as_a_library_does() -> None:
    os.write(2, b"E0000 no TPU\n" * 50)


def test_a_library_for_tpus_without_a_tpu_is_one_line(monkeypatch, capfd):
    devices = jax.local_devices
    monkeypatch.setattr(machine, "version", lambda name: "0.1")
    monkeypatch.setattr(jax, "local_devices", lambda: write_to_stderr_as_a_library_does() or devices())
    assert doctor.main([]) == 0
    told = capfd.readouterr()
    assert "no TPU" not in told.err
    assert "0.1, but no TPU was found: runs use cpu" in told.out


def test_what_other_libraries_say_while_devices_start_is_not_lost(monkeypatch, capfd):
    devices = jax.local_devices
    monkeypatch.setattr(machine, "version", lambda name: None if name == "libtpu" else "0.1")
    monkeypatch.setattr(jax, "local_devices", lambda: write_to_stderr_as_a_library_does() or devices())
    assert doctor.main([]) == 0
    assert capfd.readouterr().err.count("no TPU") == 50

    def fail() -> None:
        write_to_stderr_as_a_library_does()
        raise RuntimeError("no device at all")

    monkeypatch.setattr(jax, "local_devices", fail)
    assert doctor.main([]) == 1
    told = capfd.readouterr()
    assert told.err.count("no TPU") == 50
    assert "PROBLEM devices: no device at all" in told.out
