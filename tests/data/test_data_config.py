"""The data configuration refuses values by field name, and defines the budget."""

import pytest

from surgmotion_jax.data import DataConfig, SourceConfig

SOURCES = {"d": SourceConfig("videos")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": {}}, "field sources: found {}, allowed is at least one"),
        ({"sources": {"d": "videos"}}, r"field sources\['d'\]: found 'videos', allowed is a SourceConfig"),
        ({"sources": {"a/b": SOURCES["d"]}}, "field sources: found 'a/b'"),
        ({"frames": 0}, "field frames: found 0, allowed is a whole number of at least 1"),
        ({"frames": 16.0}, "field frames: found 16.0"),
        ({"fps": 0.0}, "field fps: found 0.0, allowed is a finite number above 0"),
        ({"fps": float("nan")}, "field fps: found nan"),
        ({"canvas": (256,)}, r"field canvas: found \(256,\)"),
        ({"canvas": (256, 0)}, "field canvas"),
        ({"short": "drop"}, r"field short: found 'drop', allowed is pad \| skip"),
        ({"holdout": 1.0}, r"field holdout: found 1.0, allowed is a fraction in \[0, 1\)"),
        ({"holdout_by": "frame"}, r"field holdout_by: found 'frame', allowed is time \| case"),
        ({"bad_budget": -0.1}, "field bad_budget: found -0.1"),
        ({"memory_gb": -1.0}, "field memory_gb: found -1.0"),
        ({"workers": -1}, "field workers: found -1"),
        ({"threads": 0}, "field threads: found 0"),
        ({"prefetch": 0}, "field prefetch: found 0"),
        ({"max_pixels": 0}, "field max_pixels: found 0"),
        ({"max_duration_s": 0.0}, "field max_duration_s: found 0.0"),
        ({"max_streams": 0}, "field max_streams: found 0"),
    ],
)
def test_bad_values_name_the_field(change, message):
    with pytest.raises(ValueError, match=message):
        DataConfig(**{"sources": SOURCES, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": ""}, "field path"),
        ({"path": "x", "specialty": ""}, "field specialty"),
        ({"path": "x", "folder_fps": 0.0}, "field folder_fps"),
    ],
)
def test_bad_source_values_name_the_field(change, message):
    with pytest.raises(ValueError, match=message):
        SourceConfig(**change)


def test_budget_is_a_fraction_but_at_least_one_file_unless_zero():
    config = DataConfig(sources=SOURCES, bad_budget=0.05)
    assert [config.bad_allowed(n) for n in (1, 20, 39, 40, 1000)] == [1, 1, 1, 2, 50]
    assert DataConfig(sources=SOURCES, bad_budget=0.0).bad_allowed(1000) == 0


def test_span_is_first_frame_to_last():
    assert DataConfig(sources=SOURCES, frames=16, fps=4.0).span_s == 3.75
