"""A head that an evaluation chose says what is left out: the seconds of classes that are not named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import surgmotion_jax
from surgmotion_jax.corpus.config import IngestConfig, Thresholds
from surgmotion_jax.corpus.engine import LocalEngine
from surgmotion_jax.corpus.judge import Judge
from surgmotion_jax.corpus.losses import read_losses
from surgmotion_jax.corpus.pipeline import LOSSES, ingest
from surgmotion_jax.data import SourceConfig
from surgmotion_jax.evaluate.applied import load_classifier
from surgmotion_jax.evaluate.cohort import read_cohort
from surgmotion_jax.evaluate.features.windows_of_cases import WindowReader
from surgmotion_jax.evaluate.results import read_predictions
from tests.corpus.scenes import scene, write_file, write_folder
from tests.corpus.stores import files

FPS, SIZE = 8.0, (64, 80)
KEEP_ALL = Thresholds(black=0, frozen=0, blurred=0, colours=0, tissue=0, cut=1)
CONFIG = IngestConfig(fps=4.0, size=64, frames=8, shard_mb=0.15, least_s=1, thresholds=KEEP_ALL)
SMALL = {
    "data.frames": 2,
    "data.size": 32,
    "data.fps": 1.0,
    "data.protocol": "loco_e",
    "probe.head": "linear",
    "sweep.learning_rates": (3e-2,),
    "sweep.weight_decays": (0.01,),
    "sweep.epochs": 20,
    "sweep.batch": 8,
    "report.resamples": 10,
}


def painted(seed: int, seconds: str) -> np.ndarray:
    """An operation whose seconds are bright blue where `seconds` has an o, as it would be outside."""
    video = scene(seed, len(seconds), FPS, SIZE)
    for number, letter in enumerate(seconds):
        if letter == "o":
            video[round(number * FPS) : round((number + 1) * FPS)] = (40, 90, 220)
    return video


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> Path:
    """An evaluation of what is outside, on frames of our own, one a second."""
    root = tmp_path_factory.mktemp("own")
    lines = ["case,frame,label"]
    for number, case in enumerate("abcde"):
        seconds = ("iiooiioo" * 2)[number:][:12]
        write_folder(root / "frames" / case, painted(number, seconds)[:: round(FPS)])
        names = sorted(path.name for path in (root / "frames" / case).iterdir())
        lines += [
            f"{case},{name},{'outside' if letter == 'o' else 'inside'}"
            for name, letter in zip(names, seconds, strict=True)
        ]
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    surgmotion_jax.evaluate(
        "evaluate/own_frames", checkpoint="random:vit_nano", root=root, workdir=root / "run", overrides=SMALL
    )
    return root / "run"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> dict[str, SourceConfig]:
    """Two recordings, one of which is outside from second 8 to 13."""
    root = tmp_path_factory.mktemp("recordings")
    write_file(root / "out.mp4", painted(11, "i" * 8 + "o" * 5 + "i" * 9), FPS)
    write_file(root / "in.mp4", painted(12, "i" * 16), FPS)
    return {"x": SourceConfig(str(root))}


def test_seconds_of_other_classes_are_left_out(evaluated, recordings, tmp_path):
    out, judge = tmp_path / "store", Judge(str(evaluated), ("inside",))
    made = ingest(recordings, str(out), CONFIG, LocalEngine(), judge=judge)
    (loss,) = read_losses(out / LOSSES)
    assert (loss.case, loss.reason) == ("out", "judged outside")
    assert abs(loss.start_s - 8) <= 1
    assert abs(loss.end_s - 13) <= 1
    assert made.manifest.settings["judge"] == {"head": judge.classifier.key, "kept": ["inside"]}
    both = ingest(
        recordings, str(tmp_path / "both"), CONFIG, LocalEngine(), judge=Judge(str(evaluated), ("inside", "outside"))
    )
    assert not both.losses


def test_processes_write_the_same_store(evaluated, recordings, tmp_path):
    judge = Judge(str(evaluated), ("inside",))
    ingest(recordings, str(tmp_path / "one"), CONFIG, LocalEngine(), judge=judge)
    with LocalEngine(2) as engine:
        ingest(recordings, str(tmp_path / "two"), CONFIG, engine, judge=judge)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_the_classifier_says_what_the_evaluation_says(evaluated):
    """On the case that was tested, moment by moment."""
    classifier = load_classifier(evaluated)
    cohort = read_cohort(classifier.data, str(evaluated.parent))
    (case,) = cohort.test
    share_NxC = classifier(np.stack(list(WindowReader(classifier.data).case_windows(case))))
    (table,) = read_predictions(evaluated).values()
    np.testing.assert_allclose(share_NxC, np.stack([table["p0"], table["p1"]], axis=1), atol=1e-5)
    assert {0, 1} == set(table["predicted"].tolist())


@pytest.mark.parametrize(
    ("kept", "message"), [((), "needs --keep-classes"), (("insid",), "knows inside, outside. Did you mean 'inside'")]
)
def test_classes_that_the_head_has_not_are_refused(evaluated, kept, message):
    with pytest.raises(ValueError, match=message):
        Judge(str(evaluated), kept).check()


def test_another_encoder_is_refused(evaluated):
    with pytest.raises(ValueError, match="name that encoder"):
        load_classifier(evaluated, checkpoint="random:vit_nano:1")


def test_an_encoder_that_is_gone_is_asked_for(evaluated, tmp_path):
    shutil.copytree(evaluated, tmp_path / "moved")
    told = json.loads((tmp_path / "moved/run.json").read_text())
    (tmp_path / "moved/run.json").write_text(json.dumps(told | {"checkpoint": "/nowhere"}))
    with pytest.raises(ValueError, match="is not at /nowhere"):
        load_classifier(tmp_path / "moved")
    assert load_classifier(tmp_path / "moved", checkpoint="random:vit_nano").key == load_classifier(evaluated).key
