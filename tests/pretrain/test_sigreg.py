"""SIGReg against its integral in float64, its gradient by differences, and what it must notice."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.pretrain.losses.sigreg import (
    SIGREG,
    Quadrature,
    SigregConfig,
    characteristic_distance,
    directions,
    gaussian_distance,
)

RULE = Quadrature(3.0, 17)


def plain_distance(x_RxS, reach=3.0, points=17):
    """The integral from -reach to reach by the trapezoidal rule, straight from its definition."""
    t_Q = np.linspace(-reach, reach, 2 * points - 1)
    empirical_QxS = np.exp(1j * t_Q[:, None, None] * x_RxS).mean(1)
    normal_Q = np.exp(-(t_Q**2) / 2)
    integrand_QxS = np.abs(empirical_QxS - normal_Q[:, None]) ** 2 * normal_Q[:, None]
    return np.trapezoid(integrand_QxS, t_Q, axis=0)


@pytest.mark.parametrize(("reach", "points"), [(3.0, 17), (5.0, 9), (1.0, 2)])
def test_the_integral_is_that_of_the_definition(reach, points):
    x = np.random.default_rng(0).normal(0.3, 1.7, (40, 5))
    share = jnp.full((4, 10), 1 / 40, jnp.float32)
    found = characteristic_distance(Quadrature(reach, points), jnp.asarray(x.reshape(4, 10, 5), jnp.float32), share)
    np.testing.assert_allclose(found, plain_distance(x, reach, points), rtol=1e-5, atol=1e-6)


def test_the_gradient_is_that_of_finite_differences():
    rng = np.random.default_rng(1)
    features, ways = rng.normal(0.2, 1.3, (2, 6, 4)), rng.normal(size=(4, 7))
    ways /= np.linalg.norm(ways, axis=0)
    real = np.ones((2, 6), bool)
    real[1, 4:] = False
    given = jnp.asarray(real), jnp.asarray(ways, jnp.float32)
    gradient = jax.grad(lambda z: gaussian_distance(z, *given, RULE))(jnp.asarray(features, jnp.float32))

    def plain(z):
        return plain_distance(z[real] @ ways).mean()

    expected, h = np.zeros_like(features), 1e-5
    for place in np.ndindex(features.shape):
        step = np.zeros_like(features)
        step[place] = h
        expected[place] = (plain(features + step) - plain(features - step)) / (2 * h)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(gradient, expected, atol=2e-6)
    assert (np.asarray(gradient)[~real] == 0).all(), "padding takes no part"


@jax.jit
def distance_of(features_RxC):
    ways = directions(jax.random.key(0), features_RxC.shape[1], 64)
    real = jnp.ones((1, len(features_RxC)), bool)
    return gaussian_distance(features_RxC[None].astype(jnp.float32), real, ways, RULE)


def test_gaussian_features_are_near_zero_and_each_kind_of_collapse_is_noticed():
    rng = np.random.default_rng(2)
    samples, width = 8192, 8
    gaussian = rng.normal(size=(samples, width))
    near = float(distance_of(gaussian))
    assert near == pytest.approx(1.06 / samples, rel=0.3), "what chance leaves of n independent samples"
    side = rng.choice([-1, 1], samples)

    def dead(share):
        return gaussian * np.array([1 - share] + [1] * (width - 1))

    def tails(degrees):
        return rng.standard_t(degrees, (samples, width)) / np.sqrt(degrees / (degrees - 2))

    def clusters(apart):
        return np.sqrt(1 - apart**2) * gaussian + apart * np.outer(side, np.eye(width)[0])

    growing = {
        "constant features": [(1 - share) * gaussian + share for share in (0.3, 0.6, 1.0)],
        "a dead dimension": [dead(share) for share in (0.3, 0.6, 1.0)],
        "heavy tails": [tails(degrees) for degrees in (10, 5, 3)],
        "two clusters": [clusters(apart) for apart in (0.5, 0.8, 0.95)],
    }
    for name, kinds in growing.items():
        values = [near, *(float(distance_of(kind)) for kind in kinds)]
        assert values == sorted(values), (name, values)
        assert values[-1] > 4 * near, (name, values)


def test_the_term_looks_at_normed_tokens_of_real_frames_and_counts_them():
    rng = np.random.default_rng(3)
    context, real = rng.normal(2, 3, (2, 6, 5)), np.ones((2, 9), bool)
    real[1, 4:] = False
    ids = np.tile([0, 1, 3, 5, 6, 8], (2, 1))
    inputs = SimpleNamespace(
        context_BxKxC=jnp.asarray(context, jnp.float32),
        real_BxN=jnp.asarray(real),
        mask=SimpleNamespace(context_BxK=jnp.asarray(ids)),
        key=jax.random.key(5),
    )
    settings = SigregConfig(weight=0.02, slices=4, max_tokens=3)
    found = SIGREG.measure(inputs, settings)
    seen = context[:, [0, 2, 4]][np.take_along_axis(real, ids, 1)[:, [0, 2, 4]]]
    assert len(seen) == 5
    normed = (seen - seen.mean(-1, keepdims=True)) / np.sqrt(seen.var(-1, keepdims=True) + 1e-5)
    distance = plain_distance(normed @ np.asarray(directions(inputs.key, 5, 4), np.float64)).mean()
    assert float(found.gauges["gaussian_distance"]) == pytest.approx(distance, rel=1e-4)
    assert float(found.value) == pytest.approx(5 * distance, rel=1e-4)
    assert SIGREG.detail(settings) == "of context, 4 directions"
    inputs.real_BxN = jnp.zeros((2, 9), bool)
    assert float(SIGREG.measure(inputs, settings).value) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"of": "pixels"}, r"loss.sigreg.of is 'pixels'"),
        ({"points": 1}, r"loss.sigreg.points"),
        ({"reach": 0.0}, r"loss.sigreg.reach is 0.0; it must be positive"),
    ],
)
def test_settings_that_cannot_be(change, message):
    with pytest.raises(ValueError, match=message):
        SigregConfig(**change)
