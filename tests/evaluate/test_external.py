"""Features from files: those of `surgmotion extract` are the evaluation's own; grids; what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from surgmotion_jax.benchmarks.benchmark import Case, ImageFrames, VideoFrames
from surgmotion_jax.data.sources import VideoFile
from surgmotion_jax.data.write_video import VideoWriter
from surgmotion_jax.evaluate.config import CacheConfig, DataConfig
from surgmotion_jax.evaluate.features.cache import ComputedFeatures, Encoding, Wanted
from surgmotion_jax.evaluate.features.external import ExternalFeatures
from surgmotion_jax.evaluate.features.extract import ExtractSettings, Machine, extract
from surgmotion_jax.evaluate.features.files import feature_writer, to_npz
from surgmotion_jax.evaluate.features.windows import WindowPlan
from surgmotion_jax.evaluate.features.windows_of_cases import Position, in_order
from tests.evaluate.encoders import small_encoder

PLAN = WindowPlan(frames=4, fps=2.0, stride_s=1.0)
DATA = DataConfig(frames=4, fps=2.0, size=16)


@pytest.fixture(scope="module")
def encoder():
    return small_encoder()


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """A whole video of 4.2 s, scored every second, and a stretch of it from 1.5 s to 3.9 s."""
    path = tmp_path_factory.mktemp("videos") / "v.mp4"
    frames = np.random.default_rng(0).integers(0, 255, (42, 3, 4, 3), dtype=np.uint8)
    with VideoWriter(path, 10) as writer:
        for frame in frames:
            writer.add(frame.repeat(8, 0).repeat(8, 1))
    whole = Case("whole", "v", VideoFrames(path), np.arange(5.0))
    return whole, Case("part", "v", VideoFrames(path, 1.5, 3.9), np.arange(3.0))


def extracted(cases, out, encoder, **settings):
    files = [
        VideoFile("d", str(case.frames.path), case.id, "general", 1.0, case.frames.start_s, case.frames.end_s)
        for case in cases
    ]
    settings = ExtractSettings(PLAN, DATA.size, DATA.resize, **settings)
    assert not extract(files, out, encoder, settings, machine=Machine(batch=4)).faults
    return str(out)


def own(cases, encoder, kind):
    encoding = Encoding(encoder, Wanted(kind), DATA, CacheConfig(kind="none", batch=4))
    rows = ComputedFeatures(cases, encoding).rows(in_order(cases))
    return rows.reshape(len(rows), -1, rows.shape[-1]) if kind == "tokens" else rows


def difference(found, wanted):
    assert found.shape == wanted.shape
    return abs(found - wanted).max()


@pytest.mark.parametrize(
    ("form", "pool", "kind"), [("npz", "none", "tokens"), ("array_record", "none", "pooled"), ("npz", "mean", "pooled")]
)
def test_windows_extracted_by_moments_give_the_features_of_an_evaluation(cases, encoder, tmp_path, form, pool, kind):
    folder = extracted(cases, tmp_path, encoder, pool=pool, form=form, ending=True)
    found = ExternalFeatures(folder, cases, kind).rows(in_order(cases))
    wanted = own(cases, encoder, kind)
    assert difference(found, wanted) < 2e-5
    assert difference(found[:-1], wanted[1:]) > 1e-2  # moments differ by more than rounding


@pytest.mark.parametrize("form", ["npz", "array_record"])
def test_a_window_that_slides_counts_from_its_last_frame(cases, encoder, tmp_path, form):
    """Four frames, 0.5 s apart: the first window ends at 1.5 s, and none near the first second."""
    folder = extracted(cases, tmp_path, encoder, form=form)
    with pytest.raises(ValueError, match=rf"whole\.{form}: no feature within 0.5 s of .* at 0 s; .* --moments=1"):
        ExternalFeatures(folder, cases, "pooled")
    times = {"whole": np.array([1.5, 2.5]), "part": np.array([1.5])}
    due = [Case(case.id, "v", case.frames, times[case.id]) for case in cases]
    found = ExternalFeatures(folder, due, "pooled").rows(in_order(due))
    assert difference(found, own(due, encoder, "pooled")) < 2e-5


def test_a_window_longer_than_its_clip_ends_with_the_clip(cases, encoder, tmp_path):
    clip = Case("clip", "v", VideoFrames(cases[0].frames.path, 0.0, 1.0), np.array([0.9]))
    assert ExternalFeatures(extracted([clip], tmp_path, encoder), [clip], "pooled").rows(in_order([clip])).shape == (
        1,
        48,
    )


def test_a_plain_npz_is_read_by_its_times(cases, tmp_path):
    rng = np.random.default_rng(0)
    features = {case.id: rng.normal(size=(6, 3, 8)).astype(np.float32) for case in cases}
    order = np.array([3, 0, 5, 1, 4, 2])
    for case in cases:
        np.savez(tmp_path / f"{case.id}.npz", features=features[case.id][order], time=order + 0.2)
    tokens = ExternalFeatures(str(tmp_path), cases, "tokens").rows(in_order(cases))
    np.testing.assert_array_equal(tokens, np.concatenate([features["whole"][:5], features["part"][:3]]))
    pooled = ExternalFeatures(str(tmp_path), cases, "pooled").rows(in_order(cases))
    np.testing.assert_allclose(pooled, tokens.mean(1), atol=1e-6)


@pytest.mark.parametrize(
    ("time", "match"),
    [
        ([0.0, np.nan, 2.0, 3.0, 4.0], r"whole\.npz: time of row 1 is nan; give each row's seconds"),
        ([np.nan] * 5, "time of row 0 is nan"),
        ([0.0, 1.0, 2.0, 3.0, np.inf], "time of row 4 is inf"),
        (["0", "1", "2", "3", "4"], r"whole\.npz: time is of type <U1"),
    ],
)
def test_a_time_that_is_no_number_is_refused(cases, tmp_path, time, match):
    np.savez(tmp_path / "whole.npz", features=np.zeros((5, 2), np.float32), time=time)
    with pytest.raises(ValueError, match=match):
        ExternalFeatures(str(tmp_path), cases[:1], "pooled")


def test_an_archive_that_would_swell_is_refused(cases, tmp_path):
    np.savez_compressed(tmp_path / "whole.npz", features=np.zeros((5, 4_000_000), np.float32), time=np.arange(5.0))
    with pytest.raises(ValueError, match=r"whole\.npz: not a sound npz \(member 'features\.npy' would grow .* bomb"):
        ExternalFeatures(str(tmp_path), cases[:1], "pooled")


def test_an_extracted_file_that_does_not_say_where_it_starts_is_refused(cases, tmp_path):
    arrays = {name: np.zeros(1) for name in ("start_s", "end_s")} | {
        name: np.zeros((1, 1)) for name in ("time_s", "valid")
    }
    with feature_writer(tmp_path / "whole.npz", "npz", {"source": {"name": "v.mp4"}}) as writer:
        writer.add({"features": np.zeros((1, 2), np.float32), **arrays})
    with pytest.raises(
        ValueError, match=r"whole\.npz: its metadata have no source.start_s; extract the features again"
    ):
        ExternalFeatures(str(tmp_path), cases[:1], "pooled")


def test_grids_of_another_encoder_serve_masks_and_depth(tmp_path):
    case = Case("a", "a", ImageFrames(()), np.arange(3.0))
    grid = np.arange(3 * 2 * 4 * 5.0).reshape(3, 2, 4, 5)
    for features, layers in ((grid, 1), (np.stack([grid, -grid], 1), 2)):
        (tmp_path / "a.npz").write_bytes(to_npz({"features": features[::-1], "time": case.times_N[::-1]}))
        found = ExternalFeatures(str(tmp_path), [case], "layers")
        assert found.shape == (layers, 1, 2, 4, 5)
        np.testing.assert_array_equal(found.rows([Position(0, 1)])[0, :, 0], features.reshape(3, layers, 2, 4, 5)[1])
    (tmp_path / "a.npz").write_bytes(to_npz({"features": grid.reshape(3, -1, 5), "time": case.times_N}))
    with pytest.raises(
        ValueError, match=r"a.npz: features \(3, 8, 5\); masks and depth are read from grids of patches"
    ):
        ExternalFeatures(str(tmp_path), [case], "layers")
