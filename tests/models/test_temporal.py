"""Temporal heads: what comes later changes nothing, what is not valid changes nothing else."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.models.temporal import TemporalConfig, init_temporal
from surgmotion_jax.models.temporal import temporal as temporal_eagerly

HEADS = {
    "tcn": TemporalConfig(width=6, outputs=4, hidden=8, depth=3),
    "gru": TemporalConfig(width=6, outputs=4, kind="gru", hidden=8, depth=2),
}
temporal = jax.jit(temporal_eagerly, static_argnums=0)


def random_parameters(config):
    """Larger than fresh ones, so that every part has a say, and drawn without compiling anything."""
    shapes, rng = jax.eval_shape(lambda: init_temporal(config, jax.random.key(0))), np.random.default_rng(3)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape) / 3, jnp.float32), shapes)


@pytest.fixture(scope="module", params=HEADS)
def head(request):
    config = HEADS[request.param]
    return config, random_parameters(config)


@pytest.fixture(scope="module")
def features():
    return np.random.default_rng(0).normal(size=(2, 20, 6)).astype(np.float32)


def changed(features, moments):
    other = features.copy()
    other[:, moments] *= -2.0  # a constant added would be taken away by the first norm
    return other


ALL = np.ones((2, 20), bool)


@pytest.mark.parametrize("moment", [0, 7, 19])
def test_a_moment_changes_itself_and_later_ones_only(head, features, moment):
    config, params = head
    before, after = (np.asarray(temporal(config, params, x, ALL)) for x in (features, changed(features, moment)))
    np.testing.assert_array_equal(after[:, :moment], before[:, :moment])
    assert np.abs(after[:, moment] - before[:, moment]).min(axis=0).max() > 1e-4
    reach = config.reach or 20
    seen = np.abs(after - before).max(axis=(0, 2))[moment : moment + reach]
    assert (seen > 1e-7).all(), "every moment within reach must change"
    np.testing.assert_array_equal(after[:, moment + reach :], before[:, moment + reach :])


def test_moments_that_are_not_valid_change_no_other(head, features):
    config, params = head
    valid = ALL.copy()
    valid[:, [3, 4, 15]] = False
    before, after = (np.asarray(temporal(config, params, x, valid)) for x in (features, changed(features, [3, 4, 15])))
    np.testing.assert_array_equal(after[valid], before[valid])
    assert np.abs(before - temporal(config, params, features, ALL)).max() > 1e-3


def test_videos_do_not_mix_and_all_are_valid_by_default(head, features):
    config, params = head
    other = features.copy()
    other[1] *= -2.0
    whole = np.asarray(temporal(config, params, features, ALL))
    np.testing.assert_allclose(temporal(config, params, other, ALL)[0], whole[0], atol=1e-6)
    np.testing.assert_allclose(temporal(config, params, features), whole, atol=1e-6)


def test_fresh_heads_answer_finitely_for_a_video_shorter_than_the_kernel():
    config = HEADS["tcn"]
    params = jax.jit(init_temporal, static_argnums=0)(config, jax.random.key(0, impl="unsafe_rbg"))
    out = temporal(config, params, np.ones((1, 1, 6), np.float32))
    assert out.shape == (1, 1, 4)
    assert np.isfinite(out).all()
    assert replace(config, depth=8).reach == 511


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "lstm"}, r"temporal.kind is 'lstm'; it must be one of tcn, gru"),
        ({"hidden": 0}, r"temporal.hidden is 0; it must be at least 1"),
        ({"dtype": "float16"}, r"temporal.dtype is 'float16'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(HEADS["tcn"], **changes)


@pytest.mark.parametrize("shape", [(2, 20, 5), (2, 6)])
def test_other_features_are_refused(shape):
    with pytest.raises(ValueError, match=r"a temporal head takes \[videos, moments, 6\]"):
        temporal_eagerly(HEADS["tcn"], {}, np.ones(shape, np.float32))
