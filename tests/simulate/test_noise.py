"""Random fields: seamless, of unit deviation, the same scene at another resolution."""

from __future__ import annotations

import numpy as np
import pytest

from surgmotion_jax.simulate.noise import blurred, cell_distances, enlarged, octaves, smooth_noise, smoothstep

FIELDS = {
    "smooth": lambda rng: smooth_noise(rng, 128, 5),
    "octaves": lambda rng: octaves(rng, 128, (4, 9), 3),
    "nearest": lambda rng: cell_distances(rng, 128, 6)[0],
    "second": lambda rng: cell_distances(rng, 128, 6)[1],
    "blurred": lambda rng: blurred(octaves(rng, 128, 4, 2), 5),
}


@pytest.mark.parametrize("name", FIELDS)
def test_the_edges_meet(name):
    """The step across the seam is no larger than the steps inside."""
    field = FIELDS[name](np.random.default_rng(0))
    for axis in (0, 1):
        step = np.abs(np.roll(field, -1, axis) - field).max(axis=1 - axis)
        assert step[-1] <= 1.5 * step[:-1].max()


def test_noise_has_mean_0_and_deviation_1_and_follows_its_generator():
    values = np.array([smooth_noise(np.random.default_rng(n), 128, 16) for n in range(8)])
    assert abs(values.mean()) < 0.1
    assert 0.85 < values.std() < 1.15
    np.testing.assert_array_equal(values[3], smooth_noise(np.random.default_rng(3), 128, 16))
    assert (values[3] != values[4]).any()


def test_another_resolution_shows_the_same_field():
    coarse, fine = (octaves(np.random.default_rng(1), size, 4, 2) for size in (128, 512))
    assert np.abs(fine[::4, ::4] - coarse).max() < 0.05
    np.testing.assert_allclose(enlarged(coarse)[::2, ::2], coarse)


def test_blurring_keeps_the_mean_and_takes_away_contrast():
    field = np.random.default_rng(0).random((64, 64), np.float32)
    for radius in (1, 6):
        soft = blurred(field, radius)
        assert soft.mean() == pytest.approx(field.mean(), abs=1e-4)
        assert soft.std() < 0.5 * field.std()


def test_smoothstep_rises_from_0_to_1():
    share = smoothstep(np.linspace(-1, 3, 41), 0.0, 2.0)
    assert share[0] == 0
    assert share[-1] == 1
    assert (np.diff(share) >= 0).all()
    assert share[20] == pytest.approx(0.5)
