"""The ablation command: rows train side by side under one budget, resume, and refuse what cannot be compared."""

from __future__ import annotations

import io
import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from surgmotion_jax import config as door
from surgmotion_jax.commands import ablate, pretrain
from surgmotion_jax.data.config import SourceConfig
from surgmotion_jax.differences import difference
from surgmotion_jax.evaluate.encoder.frozen import load_encoder, load_pretraining
from surgmotion_jax.models.config import ModelConfig, PredictorSettings
from surgmotion_jax.pretrain.config import InitConfig, PretrainConfig
from surgmotion_jax.pretrain.rows import DEFAULT_ROWS, ROWS, config_of
from surgmotion_jax.pretrain.setup.initial import plan_initial
from surgmotion_jax.records import read_metrics
from surgmotion_jax.runs import ablation
from surgmotion_jax.runs.ablation import Ablated
from surgmotion_jax.runs.ending import Ending
from tests.pretrain.fixtures import small_config

STEPS = "--config.steps=2"
DECODER = (
    "--config.objective.decoder.width=48",
    "--config.objective.decoder.depth=1",
    "--config.objective.decoder.heads=3",
)


ENCODERS = {"params/encoder": "params/encoder", "target": "target"}


def small_model(workdir):
    """The model of a row."""
    predictor = json.loads((workdir / "config.json").read_text())["model"]["predictor"]
    return ModelConfig(variant="vit_nano", depth=1, predictor=PredictorSettings(**predictor))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("ablation")


@pytest.fixture
def arguments(command, workdir):
    return [*command(workdir, STEPS), *DECODER, "--rows=pixel"]


@pytest.fixture
def done(workdir, arguments, capsys):
    """One row of two steps, trained once."""
    if not (workdir / "results.json").exists():
        assert ablate.main(arguments) == 0
        capsys.readouterr()
    return workdir


@pytest.mark.slow
def test_rows_share_budget_and_batches_and_end_in_one_table(done, arguments, tmp_path, capsys):
    done = shutil.copytree(done, tmp_path / "both")
    given = [a for a in arguments if not a.startswith(("--rows", "--workdir"))]
    for rows in ("plain,pixel", "plain"):  # rows that finished earlier stay in the table
        assert ablate.main([*given, f"--workdir={done}", f"--rows={rows}"]) == 0
    assert "2 of 2, pixel: finished before" in capsys.readouterr().out
    results = json.loads((done / "results.json").read_text())
    plain, pixel = results["rows"]
    assert [plain["row"], pixel["row"]] == ["plain", "pixel"]
    assert plain["step"] == pixel["step"] == 2
    assert plain["error"] != pixel["error"]
    assert plain["heldout"] != pixel["heldout"]
    assert min(plain["gflop"], pixel["gflop"], plain["rankme"], pixel["rankme"]) > 0
    configs = [json.loads((done / name / "config.json").read_text()) for name in ("plain", "pixel")]
    assert difference(*configs) == ["objective.kind: 'latent' -> 'pixel'"]
    assert "plain V-JEPA" in (done / "table.txt").read_text()
    assert (done / "results.md").read_text().count("\n| ") == 3
    begun = [read_metrics(done / name)[1]["metrics"] for name in ("plain", "pixel")]
    for gauge in ("gauge/rankme", "gauge/target_std", "gauge/context_target_cosine"):
        np.testing.assert_allclose(
            begun[1][gauge], begun[0][gauge], rtol=1e-4, err_msg="the same encoder, clips, masks"
        )
    crossed = plan_initial(InitConfig(str(done / "plain")), small_model(done / "plain"), "decoder")
    assert crossed.filled == ENCODERS
    assert "decoder: freshly initialised (none in the checkpoint)" in crossed.told


def test_a_row_of_pixels_logs_its_terms_and_fills_the_table(done):
    (row,) = json.loads((done / "results.json").read_text())["rows"]
    assert (row["row"], row["step"], row["error"]) == ("pixel", 2, "squares of pixels")
    assert min(row["gflop"], row["rankme"], row["prediction_std"], row["heldout"]) > 0
    assert "| pixel | pixels |" in (done / "results.md").read_text()
    logged = {m for r in read_metrics(done / "pixel") if r["kind"] == "train" for m in r["metrics"]}
    assert "loss/pixel" in logged
    assert not logged & {"loss/affinity", "loss/diversity", "loss/motion"}


def test_repeating_trains_nothing_and_keeps_the_table(done, arguments, capsys):
    before = (done / "results.json").read_text()
    metrics = (done / "pixel" / "metrics.jsonl").stat().st_mtime_ns
    assert ablate.main(arguments) == 0
    told = capsys.readouterr().out
    assert "1 of 1, pixel: finished before" in told
    assert "held-out error" in told
    assert (done / "results.json").read_text() == before
    assert (done / "pixel" / "metrics.jsonl").stat().st_mtime_ns == metrics, "a finished row was trained again"


@pytest.mark.parametrize(
    ("kinds", "code"),
    [
        ((), 0),
        (("finished", "nothing-to-do"), 0),
        (("alarm", "finished"), 3),
        (("nonfinite", "interrupted"), 130),
        (("stopped",), 75),
        (("unsaved",), 4),
    ],
)
def test_the_exit_code_is_that_of_the_row_that_matters(kinds, code):
    endings = {f"row {number}": Ending(kind, 1, Path("runs/row")) for number, kind in enumerate(kinds)}
    config = small_config(**{"run.stopped_code": 75})
    assert ablate.exit_code(Ablated(endings, ""), config) == code


def test_a_row_of_another_config_is_refused_before_anything_runs(done, arguments):
    for more, line in (
        ("--config.optim.lr=0.5", "optim.lr: 0.001 -> 0.5"),
        ("--config.heldout.clips=16", "heldout.clips"),
    ):
        given = [a for a in arguments if a.split("=")[0] != more.split("=")[0]]
        with pytest.raises(ValueError, match=rf"pixel holds a run of another config.*\n  {line}"):
            ablate.main([*given, more])
    with pytest.raises(ValueError, match="'pixls'.*Did you mean 'pixel'"):
        ablate.main([*arguments[:-1], "--rows=plain,pixls"])
    with pytest.raises(ValueError, match="unknown argument '--row=plain'; see surgmotion ablate --help"):
        ablate.main([*arguments[:-1], "--row=plain"])
    with pytest.raises(
        ValueError, match=r"runs its rows in one process.*\n  pixel: --config.objective.kind=pixel --config.loss.mot"
    ):
        ablate.main(
            [
                *arguments,
                "--config.distributed.coordinator=localhost:1",
                "--config.distributed.processes=2",
                "--config.distributed.process=0",
            ]
        )


class Impatient(io.StringIO):
    """Presses Ctrl-C when the second step is reported."""

    def write(self, text):
        if text.startswith("step 2/"):
            signal.raise_signal(signal.SIGINT)
        return super().write(text)


@pytest.mark.slow
def test_an_interrupted_row_ends_the_ablation(command, tmp_path):
    config, _ = pretrain.read_command_line([*command(tmp_path, "--config.steps=9"), *DECODER])
    ablated = ablation.ablate(config, tmp_path, ("plain", "pixel"), stream=Impatient())
    assert {name: ending.kind for name, ending in ablated.endings.items()} == {"plain": "interrupted"}
    assert 2 <= ablated.endings["plain"].step < 9
    assert not ablated.table
    assert not (tmp_path / "results.json").exists()


@pytest.mark.slow
def test_a_row_that_diverges_does_not_stop_the_others(command, tmp_path, capsys):
    flags = ("--config.steps=6", "--config.optim.lr=1e38", "--config.alarms.nonfinite_steps=2")
    assert ablate.main([*command(tmp_path, *flags), *DECODER, "--rows=plain,pixel"]) == pretrain.HALTED
    told = capsys.readouterr()
    assert "2 of 2, pixel" in told.out
    assert "row pixel: 2 updates in a row" in told.err
    assert not (tmp_path / "results.json").exists()


def test_the_encoder_of_a_pixel_run_is_loaded_as_any_other(done):
    clip = np.random.default_rng(0).integers(0, 255, (1, 4, 32, 32, 3), np.uint8)
    target, online = (np.asarray(load_encoder(done / "pixel", weights=name)(clip)) for name in ("target", "online"))
    assert target.shape == online.shape == (1, 2, 2, 2, 192)
    assert np.abs(target - online).max() > 0, "the average lags behind"
    with pytest.raises(
        ValueError,
        match="has no predictor weights; it holds target, online; it was trained to predict pixels.*use load_encoder",
    ):
        load_pretraining(done / "pixel")


def as_pretrain(arguments, workdir, *more):
    return [a for a in arguments if not a.startswith(("--rows", "--workdir"))] + [f"--workdir={workdir}", *more]


def test_a_pixel_run_is_not_resumed_as_another(done, arguments):
    off = ("--config.loss.affinity.weight=0", "--config.loss.diversity.weight=0", "--config.loss.motion.alpha=0")
    for more in ((), ("--config.run.accept_changes=True",)):
        with pytest.raises(ValueError, match=r"another architecture.*\n  objective.kind: 'pixel' -> 'latent'"):
            pretrain.main(as_pretrain(arguments, done / "pixel", *off, *more))
        wider = "--config.objective.decoder.width=96"
        with pytest.raises(ValueError, match=r"another architecture.*\n  objective.decoder.width: 48 -> 96"):
            pretrain.main(as_pretrain(arguments, done / "pixel", "--config.objective.kind=pixel", *off, wider, *more))


def test_starting_from_the_other_objective_leaves_the_head_fresh(done):
    model = small_model(done / "pixel")
    back = plan_initial(InitConfig(str(done / "pixel")), model)
    assert back.filled == ENCODERS
    assert "predictor: freshly initialised (none in the checkpoint)" in back.told
    onward = plan_initial(InitConfig(str(done / "pixel"), optimizer=True), model, "decoder")
    assert onward.filled == ENCODERS | {"params/decoder": "params/decoder", "opt_state": "opt_state"}


def test_the_shipped_ablation_builds_every_row():
    config = door.load_config("ablate/tiny")
    assert config.is_locked
    with config.unlocked():
        config.data.sources["data"] = door.entry(SourceConfig, path="/videos")
    built = door.build(PretrainConfig, config)
    assert len({repr(config_of(ROWS[name], built)) for name in ROWS}) == len(ROWS) > len(DEFAULT_ROWS)
    head, rival = built.model.predictor_trunk, config_of(ROWS["pixel"], built).objective.head_model(built.model)
    assert head == rival.predictor_trunk, "predictor and decoder differ in what they predict alone"
    with pytest.raises(ValueError, match="takes no argument; found 'x'"):
        door.load_config("ablate/tiny:x")


def test_help_says_the_rows(capsys):
    assert ablate.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ROWS)
