"""Training from records is training from the frames themselves: sample by sample, loss by loss, and when resumed."""

from __future__ import annotations

import pytest

import surgmotion_jax
from surgmotion_jax.data.records.jpeg import encode_jpeg
from tests.commands.runs import losses
from tests.corpus.scenes import scene, write_folder
from tests.corpus.stores import write_store

SIZE, RATE = (40, 48), 1.0
SMALL = {
    "steps": 4,
    "model.variant": "vit_nano",
    "model.depth": 1,
    "model.predictor.width": 48,
    "model.predictor.depth": 1,
    "model.predictor.heads": 2,
    "data.frames": 4,
    "data.canvas": (40, 40),
    "data.fps": 1.0,
    "augment.crop": 32,
    "mask.ratios": (0.5,),
    "optim.batch": 8,
    "optim.warmup_steps": 1,
    "heldout.every": 2,
    "heldout.clips": 8,
    "heldout.batch": 8,
    "checkpoint.every": 2,
    "run.log_every": 1,
    "run.tensorboard": "off",
}


@pytest.mark.slow
def test_losses_are_those_of_the_frames_and_of_an_interrupted_run(tmp_path):
    videos = {name: scene(n, 30 + n, RATE, SIZE) for n, name in enumerate("abc")}
    for name, video in videos.items():
        write_folder(tmp_path / "x" / name, video)
    files = {name: [encode_jpeg(picture, 90) for picture in video] for name, video in videos.items()}
    store = write_store(tmp_path / "store", files, SIZE, fps=RATE)

    def train(name: str, data: str, **more: object) -> dict[int, float]:
        surgmotion_jax.pretrain("pretrain/tiny", tmp_path / name, data=data, overrides={**SMALL, **more})
        return losses(tmp_path / name)

    expected = train("folders", str(tmp_path / "x"))
    assert len(expected) == 4
    assert train("records", f"records:{store}") == expected
    assert len(train("resumed", f"records:{store}", **{"run.stop_at_step": 2})) == 2
    assert train("resumed", f"records:{store}", **{"data.workers": 1}) == expected
