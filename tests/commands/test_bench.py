"""`surgmotion bench`: what it prints and writes, and what bad input gets."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest

from surgmotion_jax.commands.bench import LINE, main, read_subject, request_of
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh, process_rows
from surgmotion_jax.pretrain.bench.steps import Compilation, OurStep, repeated, synthetic_clips
from surgmotion_jax.runs.benchmark import OURS, PROFILED_STEPS, loaded, measure, placed, subject_of
from tests.commands.conftest import SMALL

ARGUMENTS = [*SMALL, "--steps=2", "--warmup=1"]


PLAIN = "--against=plain:saliency.kind=none,loss.affinity.weight=0,data.canvas=(48,40)"


def untrained(config):
    """A subject whose steps are made and timed, but neither compiled nor trained."""

    def compiled(state, batch):
        assert batch.video_BxTxHxWx3.shape[2:4] == config.data.canvas
        return state, {"loss/total": 0.5}

    config, layout, program = placed(config)
    clips = repeated(synthetic_clips(config, process_rows(layout, config.optim.batch)))
    step = OurStep(compiled, Compilation(3.0, 10**6, 10**7), None, clips, layout, config.optim.batch)
    return subject_of(config, program, layout, step)


def test_a_bench_needs_no_data_and_says_where_the_time_goes(capsys, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    request = request_of(LINE.parse([*ARGUMENTS, PLAIN]))
    written = measure({name: untrained(config) for name, config in request.configs.items()}, request)
    printed = capsys.readouterr().out
    for text in ("clips/s", "host to device", "processor time", "0.010 GB temporaries", "compiled in 3.0 s"):
        assert text in printed
    assert "ours / plain: " in printed
    assert "GLIBC_TUNABLES=glibc.malloc.hugetlb=1" in printed, "what the times depend on is said"
    assert "MFU" not in printed, "a CPU has no known peak"
    assert list(written["subjects"]) == ["ours", "plain"]
    plain, ours = written["subjects"]["plain"], written["subjects"]["ours"]
    assert len(plain["steps"]) == 2
    assert list(plain["config"]["data"]["canvas"]) == [48, 40]
    assert plain["config"]["loss"]["affinity"]["weight"] == 0 != ours["config"]["loss"]["affinity"]["weight"]
    assert plain["flops"] != ours["flops"]
    assert ours["first_to_this"]["median"] == 1


def test_real_clips_come_from_the_loader(videos):
    request = request_of(LINE.parse([*ARGUMENTS, f"--data={videos}"]))
    config = request.configs[OURS]
    with ExitStack() as stack:
        clips = list(loaded(config, MeshLayout(make_mesh(config.parallel)), request, stack))
    assert len(clips) == 2 + 1 + PROFILED_STEPS
    assert {batch.video_BxTxHxWx3.shape for batch in clips} == {(8, 4, 40, 40, 3)}
    assert clips[1].index_B.tolist() == list(range(8, 16))


def test_rows_of_an_ablation_take_turns():
    request = request_of(LINE.parse([*ARGUMENTS, "--rows=plain,sigreg"]))
    assert list(request.configs) == ["plain", "sigreg"]
    assert request.configs["plain"].objective.source is not request.configs["sigreg"].objective.source
    with pytest.raises(ValueError, match=r"--rows names 'sigrag'.*Did you mean 'sigreg'"):
        request_of(LINE.parse([*ARGUMENTS, "--rows=sigrag"]))


@pytest.mark.slow
def test_steps_that_train_and_a_trace(videos, capsys, tmp_path):
    files = [f"--json={tmp_path / 'bench.json'}", f"--workdir={tmp_path / 'w'}"]
    assert main([*ARGUMENTS, PLAIN, f"--data={videos}", f"--profile={tmp_path}", *files]) == 0
    assert "3 steps of ours" in capsys.readouterr().out
    written = json.loads((tmp_path / "bench.json").read_text())
    assert json.loads((tmp_path / "w/bench.json").read_text()) == written
    assert list(written["subjects"]) == ["ours", "plain"]
    assert list(tmp_path.rglob("*.xplane.pb"))


def test_subjects_are_named_and_their_values_may_hold_commas():
    name, flags = read_subject("wide:data.canvas=(40,48),loss.motion.alpha=0")
    assert name == "wide"
    assert flags == ["--config.data.canvas=(40,48)", "--config.loss.motion.alpha=0"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--stpes=3"], "unknown argument '--stpes=3'"),
        (["--steps=0"], "--steps is 0; it must be at least 1"),
        (["--warmup=0"], "--warmup is 0; it must be at least 1"),
        (["--steps=many"], "--steps is 'many'; it must be a whole number"),
        (["--peer=torch"], "unknown argument '--peer=torch'"),
        (["--against=loss.motion.alpha=0"], "is not NAME:FIELD=VALUE"),
        (["--against=a:alpha"], "is not NAME:FIELD=VALUE"),
        (["--against=ours:loss.motion.alpha=0"], "there already is a subject 'ours'"),
        (["--against=a:loss.motion.alhpa=0"], "loss.motion has no field 'alhpa'.*Did you mean 'alpha'"),
        (["--threads=4096"], "--threads is 4096, but this process may use"),
    ],
)
def test_bad_input_is_named(flags, message):
    with pytest.raises(ValueError, match=message):
        main([*ARGUMENTS, *flags])


def test_help_names_flags_and_configs(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert "--against=NAME" in printed
    assert "bench/peer_tiny" in printed


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        ([], "--suite times one config and writes to --workdir=DIR; --workdir is missing"),
        (["--workdir=w", "--rows=plain"], "--suite times one config .*; --rows is given"),
    ],
)
def test_a_suite_is_of_one_config_and_has_a_place(flags, match):
    with pytest.raises(ValueError, match=match):
        main([*ARGUMENTS, "--suite", *flags])


@pytest.mark.slow
def test_a_suite_on_this_machine(videos, capsys, tmp_path):
    assert main([*ARGUMENTS, "--suite", f"--data={videos}", f"--workdir={tmp_path}"]) == 0
    found = json.loads((tmp_path / "bench.json").read_text())
    assert {part["name"] for part in found["parts"] if part["measured"]} >= {"prepare", "target encoder", "losses"}
    measured = sum(part["measured"] for part in found["parts"])
    assert 0.3 * found["seconds"]["median"] < measured < 10 * found["seconds"]["median"], "of all threads together"
    assert list(found["attention"]) == ["xla"]
    assert found["no_attention"]["cudnn"].endswith("needs a GPU, but the devices are 'cpu'")
    assert set(found["sweep"]) == {"vmap", "loop"}
    assert found["input_clips_per_s"] > 0
    assert str(videos) not in (tmp_path / "bench.json").read_text(), "a file to be sent names none of ours"
    assert "target encoder" in capsys.readouterr().out
    assert "<h2>Its parts</h2>" in (tmp_path / "bench.html").read_text()
