"""An evaluation on eight devices is the evaluation on one: every number, every moment, at any batch size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from surgmotion_jax.evaluate.encoder.frozen import FrozenEncoder
from surgmotion_jax.evaluate.results import read_predictions
from surgmotion_jax.evaluate.run import evaluate
from surgmotion_jax.evaluate.source import Source
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh
from tests.benchmarks.simulated import make
from tests.evaluate.encoders import small_encoder
from tests.evaluate.evaluations import SMALL, changed, cholec80, read

CLOSE = 1e-6
EIGHT_HEADS = {"learning_rates": (3e-2, 1e-2, 3e-3, 1e-3), "weight_decays": (0.01, 0.1)}


@pytest.fixture(scope="module")
def sources():
    """The same encoder on one device and on eight."""
    encoder, found = small_encoder(), {}
    for devices in (1, 8):
        layout = MeshLayout(make_mesh(ParallelConfig(), jax.devices()[:devices]))
        params = jax.device_put(encoder.params, layout.replicated)
        found[devices] = Source(FrozenEncoder(encoder.config, params, encoder.origin, layout))
    return found


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested JSON with its path."""
    if isinstance(value, dict | list):
        for name, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(part, f"{path}/{name}")
    else:
        yield path, value


def assert_same_results(found: Path, wanted: Path) -> int:
    """All of `results.json` is equal: numbers to 1e-6, those above 1 (errors in millimetres, of float32 depths) to 1e-6
    of their size. Returns how many numbers are not whole."""
    one, other = (dict(leaves(read(folder / "results.json"))) for folder in (wanted, found))
    assert one.keys() == other.keys()
    for path, value in one.items():
        if isinstance(value, float):
            assert other[path] == pytest.approx(value, abs=CLOSE, rel=CLOSE), path
        elif path not in ("/config/cache/batch", "/predictions_sha256"):  # a digest of all digits
            assert other[path] == value, path
    return sum(isinstance(value, float) and value % 1 != 0 for value in one.values())


def assert_same_predictions(found: Path, wanted: Path) -> None:
    """Classes are equal, probabilities to 1e-6."""
    one, other = read_predictions(wanted), read_predictions(found)
    assert list(one) == list(other)
    for case, table in one.items():
        assert table.keys() == other[case].keys()
        for name, column in table.items():
            if column.dtype == object:
                assert (other[case][name] == column).all(), (case, name)
            else:
                np.testing.assert_allclose(other[case][name], column, rtol=0, atol=CLOSE, err_msg=name)


def run(config, source: Source, root: Path, folder: Path, wanted: str) -> Path:
    """Evaluates and checks that the sweep's plan says what devices shared out."""
    said: list[str] = []
    evaluate(config, source, str(root), folder, say=said.append)
    assert any(wanted in text for text in said), said
    return folder


@pytest.mark.parametrize(
    ("name", "head", "batch", "sweep", "shared"),
    [
        ("cholec80", "linear", 16, EIGHT_HEADS, "devices: 8, sharing out heads"),
        pytest.param("cholect50", "linear", 5, {"batch": 5}, "devices: 8, sharing out heads", marks=pytest.mark.slow),
        pytest.param("cholec80", "attentive", 5, {}, "devices: 8, sharing out rows", marks=pytest.mark.slow),
        pytest.param(
            "c3vd", "dense", 5, {"learning_rates": (3e-3, 1e-3)}, "devices: 8, sharing out rows", marks=pytest.mark.slow
        ),
    ],
)
def test_eight_devices_evaluate_as_one_does(tmp_path, sources, name, head, batch, sweep, shared):
    """Batches of 5 and 16 leave a remainder, and 5 rows are no multiple of the devices."""
    seconds, dense = (8.0, False) if name == "cholec80" else (4.0, head == "dense")
    root = cholec80(tmp_path / "set") if name == "cholec80" else make(name, tmp_path / "set", 6, seconds, fps=2)
    config = changed(
        SMALL,
        data={"benchmark": name, "frames": 1 if dense else 2},
        probe={"head": head, "layers": (1,) * dense, "width": 4},
        sweep=sweep,
    )
    one = run(config, sources[1], root, tmp_path / "one", "devices: 1, sharing out nothing")
    other = changed(config, cache={"batch": batch})
    eight = run(other, sources[8], root, tmp_path / "eight", shared)
    assert sum(len(table["time"]) for table in read_predictions(one).values()) % batch
    assert assert_same_results(eight, one) > 10
    if not dense:  # whose columns are totals over pixels
        assert_same_predictions(eight, one)


@pytest.mark.parametrize("batch", [5, 100])
def test_every_moment_is_scored_once_at_any_batch_size(tmp_path, sources, batch):
    """Five rows are padded to eight for the devices, and the last batch to five."""
    root = cholec80(tmp_path / "set")
    config = changed(SMALL, probe={"head": "knn"}, cache={"batch": batch})
    evaluate(config, sources[8], str(root), tmp_path / "run")
    lines = (tmp_path / "run" / "predictions.csv").read_text().splitlines()[1:]
    keys = [tuple(line.split(",")[:2]) for line in lines]
    assert keys == [(case, f"{second}.0") for case in ("video41", "video42", "video43") for second in range(8)]
