"""Training from records is training from the frames themselves: sample by sample, loss by loss, on any number of hosts,
with other workers, and when resumed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from surgmotion_jax.data.records.jpeg import encode_jpeg
from tests.commands.group import Run, losses
from tests.commands.runs import VERY_SMALL
from tests.corpus.scenes import scene, write_folder
from tests.corpus.stores import write_store

SIZE, RATE, STEPS = (40, 48), 1.0, 4
SMALL = (
    "--config=pretrain/tiny",
    *VERY_SMALL,
    f"--config.steps={STEPS}",
    "--config.data.fps=1.0",
    "--config.run.log_every=1",
)


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, str]:
    """The same JPEG files as frame folders and as records."""
    root = tmp_path_factory.mktemp("data")
    videos = {name: scene(n, 30 + n, RATE, SIZE) for n, name in enumerate("abc")}
    for name, video in videos.items():
        write_folder(root / "x" / name, video)
    files = {name: [encode_jpeg(picture, 90) for picture in video] for name, video in videos.items()}
    store = write_store(root / "store", files, SIZE, fps=RATE)
    return {"folders": str(root / "x"), "records": f"records:{store}"}


def train(folder: Path, data: str, *more: str, processes: int = 1, steps: int = STEPS) -> tuple[dict[int, float], list]:
    """Losses by step, and the numbers of the samples of the last steps' batches."""
    arguments = [*SMALL, f"--data={data}", f"--workdir={folder / 'w'}", *more]
    with Run(folder / "logs", [arguments] * processes) as run:
        run.finish()
        return losses(folder / "w"), run.rows(steps).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_samples_and_losses_are_those_of_the_frames(places, tmp_path, processes):
    expected = train(tmp_path / "folders", places["folders"], processes=processes)
    assert sorted(expected[0]) == list(range(1, STEPS + 1))
    assert len(np.unique(expected[1])) > 8
    assert train(tmp_path / "records", places["records"], processes=processes) == expected
    assert train(tmp_path / "workers", places["records"], "--config.data.workers=1", processes=processes) == expected


@pytest.mark.slow
def test_a_run_goes_on_from_records_as_it_would_have_from_frames(places, tmp_path):
    expected = train(tmp_path / "folders", places["folders"])
    begun = train(tmp_path / "records", places["records"], "--config.run.stop_at_step=2", steps=2)
    resumed = train(tmp_path / "records", places["records"], "--config.data.workers=1", steps=2)
    assert resumed[0] == expected[0]
    assert begun[1] + resumed[1] == expected[1]
