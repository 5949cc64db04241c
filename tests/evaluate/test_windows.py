"""Laws of sliding windows, over random plans and durations."""

from __future__ import annotations

import numpy as np
import pytest

from surgmotion_jax.evaluate.features.windows import (
    WindowPlan,
    due_times,
    plan_windows,
    real_frames,
    shown_times,
    step_times,
    step_valid,
    window_starts,
)


def random_plans(count: int = 400):
    rng = np.random.default_rng(0)
    for _ in range(count):
        plan = WindowPlan(int(rng.integers(1, 40)), float(rng.uniform(0.5, 30)), float(rng.uniform(0.05, 6)))
        start = float(rng.choice([0.0, rng.uniform(0, 50)]))
        yield plan, start, start + float(rng.uniform(0.01, 60))


def test_windows_cover_the_stretch_and_only_the_last_passes_its_end():
    gaps = 0
    for plan, start, end in random_plans():
        start_W = window_starts(start, end, plan)
        stop_W = start_W + plan.span_s
        assert start_W[0] == start
        np.testing.assert_allclose(np.diff(start_W), plan.stride_s, atol=1e-9)
        assert (start_W < end).all()
        assert (stop_W[:-1] < end).all()
        if plan.stride_s <= plan.span_s:
            assert stop_W[-1] >= end - 2e-6
        else:  # a stride longer than a window leaves gaps, but no further window would start before the end
            gaps += 1
            assert stop_W[-1] >= end - 2e-6 or start_W[-1] + plan.stride_s >= end - 2e-6
    assert 20 < gaps < 380


def test_a_longer_stretch_only_adds_windows():
    for plan, start, end in random_plans(100):
        short, long = window_starts(start, end, plan), window_starts(start, end + 3.0, plan)
        np.testing.assert_array_equal(short, long[: len(short)])


def test_frames_past_the_end_repeat_the_last_one_before_it():
    repeated = 0
    for plan, start, end in random_plans():
        due_WxT = due_times(window_starts(start, end, plan), plan)
        real, shown = real_frames(due_WxT, end), shown_times(due_WxT, end)
        np.testing.assert_array_equal(shown[real], due_WxT[real])
        assert (shown < end).all()
        assert (np.diff(shown, axis=1) >= 0).all()
        assert real[:-1].all()
        repeated += int((~real).sum())
    assert repeated > 100


@pytest.mark.parametrize(
    ("duration", "settings", "starts"),
    [
        (8.0, {}, [0, 4]),  # exactly two windows
        (8.1, {}, [0, 4, 8]),  # a tenth of a second needs a third
        (3.0, {}, [0]),
        (4.0, {"overlap": 0.5}, [0]),
        (5.0, {"overlap": 0.5}, [0, 2]),
        (8.0, {"overlap": 0.5}, [0, 2, 4]),
        (10.0, {"stride_s": 5.0}, [0, 5]),  # gaps from 4 to 5 and from 9 to 10
        (10.1, {"stride_s": 5.0}, [0, 5, 10]),
    ],
)
def test_windows_by_hand(duration, settings, starts):
    np.testing.assert_array_equal(window_starts(0.0, duration, plan_windows(16, 4.0, **settings)), starts)


def test_a_token_step_is_between_its_frames():
    plan = WindowPlan(4, 2.0, 2.0)
    due_WxT = due_times(window_starts(1.0, 4.2, plan), plan)
    np.testing.assert_allclose(due_WxT, [[1, 1.5, 2, 2.5], [3, 3.5, 4, 4.5]])
    np.testing.assert_allclose(step_times(due_WxT, 2), [[1.25, 2.25], [3.25, 4.25]])
    np.testing.assert_array_equal(step_valid(due_WxT, 4.2, 2), [[True, True], [True, False]])
    np.testing.assert_allclose(step_times(due_WxT[:, :1], 2), [[1], [3]])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"frames": 0}, "frames is 0; a window has at least 1"),
        ({"fps": 0.0}, "fps is 0.0; it must be a finite number above 0"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"stride_s": -1.0}, "stride_s is -1.0"),
        ({"overlap": 1.0}, "overlap is 1.0; it is the shared fraction"),
        ({"overlap": 0.5, "stride_s": 1.0}, "stride 1 s and overlap 0.5 are both given"),
    ],
)
def test_plans_out_of_range_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        plan_windows(**{"frames": 16, "fps": 4.0} | settings)


def test_an_empty_stretch_is_refused():
    with pytest.raises(ValueError, match="from 5 s to 5 s is empty"):
        window_starts(5.0, 5.0, WindowPlan())
