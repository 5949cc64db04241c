"""Commands by name: resolution, hints, help, and that every entry leads somewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from surgmotion_jax import registry
from surgmotion_jax.__main__ import main


@pytest.mark.parametrize(
    ("argv", "name", "rest"),
    [
        (["pretrain", "--workdir=w"], "pretrain", ["--workdir=w"]),
        (["data", "preview", "--out=a.png"], "data preview", ["--out=a.png"]),
        (["report", "data"], "report", ["data"]),
        (["doctor"], "doctor", []),
    ],
)
def test_nested_commands_resolve_first_and_the_rest_is_left(argv, name, rest):
    assert registry.resolve(argv) == (name, rest)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["pretain"], r"unknown command 'pretain'; there are pretrain, .*Did you mean 'pretrain'\?"),
        (["data", "previw"], r"unknown command 'data previw'.*Did you mean 'data preview'\?"),
        (["data"], r"unknown command 'data'"),
        (["zzzz", "preview"], r"unknown command 'zzzz'; there are [^?]*$"),
        ([], r"unknown command ''"),
    ],
)
def test_an_unknown_command_names_the_nearest(argv, message):
    with pytest.raises(ValueError, match=message):
        registry.resolve(argv)


@pytest.mark.parametrize("name", registry.COMMANDS)
def test_every_command_loads_and_explains_itself(name, capsys):
    assert callable(registry.load(name))
    assert main([*name.split(), "--help"]) == 0
    assert f"surgmotion {name}" in capsys.readouterr().out


def test_overview_lists_all_commands_or_those_under_a_prefix():
    assert all(f"  {name} " in registry.overview() for name in registry.COMMANDS)
    under = registry.overview("data")
    assert "data preview" in under
    assert "pretrain" not in under


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"]])
def test_without_a_command_the_overview_is_shown(argv, capsys):
    assert main(argv) == 0
    assert "usage: surgmotion COMMAND" in capsys.readouterr().out


def test_bad_input_ends_in_one_line_and_code_2(capsys):
    assert main(["pretain"]) == 2
    assert capsys.readouterr().err.startswith("surgmotion: unknown command 'pretain'")


@pytest.mark.parametrize("argv", [["--help"], ["data", "check"]])
def test_a_reader_that_has_gone_ends_the_command_quietly(argv):
    """`surgmotion ... | head -0`: the pipe is closed before anything is written to it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "surgmotion_jax", *argv],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 141


def test_a_pipe_that_breaks_elsewhere_is_told(monkeypatch, capsys):
    def fail(argv):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(registry, "load", lambda name: fail)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().err == "surgmotion: Broken pipe\n"


def test_sigterm_ends_a_command_as_an_error_does(monkeypatch, capsys):
    """What the command opened is closed, and the handler of before is back."""
    closed = []

    def command(argv):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        finally:
            closed.append(True)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(registry, "load", lambda name: command)
    assert main(["doctor"]) == 143
    assert closed == [True]
    assert capsys.readouterr().err == "surgmotion: stopped by SIGTERM\n"
    assert signal.getsignal(signal.SIGTERM) is before
