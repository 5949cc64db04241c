"""The attentive probe: parity with the released heads, and its laws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.models.attention import attend
from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.layout import SINGLE_DEVICE
from surgmotion_jax.models.probe import ProbeConfig, init_probe, probe_pooled
from surgmotion_jax.models.probe import probe as probe_eagerly
from surgmotion_jax.models.probe_names import facebook_probe_tensors, probe_from_facebook
from surgmotion_jax.models.reference_names import encoder_from_facebook, facebook_names
from tests.models.test_parity import MODEL, channels_last

GOLDEN = Path(__file__).parents[1] / "golden"
HEAD = ProbeConfig(width=48, outputs=5, heads=3, norm_eps=1e-6)
SMALL = ProbeConfig(width=12, outputs=3, depth=2, heads=2)

probe = jax.jit(probe_eagerly, static_argnums=0)


def weights(file):
    return {k.removeprefix("w/"): file[k] for k in file.files if k.startswith("w/")}


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "classifier_hf.npz")


@pytest.fixture(scope="module")
def head(golden):
    return probe_from_facebook(facebook_probe_tensors(weights(golden)), 3)


@pytest.fixture(scope="module")
def small():
    return random_parameters(SMALL)


@pytest.fixture(scope="module")
def tokens():
    return jax.random.normal(jax.random.key(1), (2, 7, 12))


def fresh(config):
    # This generator compiles fastest; nothing here depends on which numbers it draws.
    return jax.jit(init_probe, static_argnums=0)(config, jax.random.key(0, impl="unsafe_rbg"))


def random_parameters(config, lead=()):
    """Larger than fresh ones, so that every part has a say, and drawn without compiling anything."""
    shapes, rng = jax.eval_shape(lambda: init_probe(config, jax.random.key(0))), np.random.default_rng(3)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=(*lead, *x.shape)) / 5, jnp.float32), shapes)


def close(got, want):
    np.testing.assert_allclose(np.asarray(got), want, rtol=0, atol=2e-5)


def test_logits_and_pooled_of_the_released_head(golden, head):
    encoder = encoder_from_facebook(facebook_names(weights(np.load(GOLDEN / "core_hf.npz"))), 3, "encoder.")
    features = backbone_of(MODEL).encode(encoder, channels_last(golden["pixel_values_videos"])).tokens
    out = probe_pooled(HEAD, head, features)
    close(out.outputs, golden["logits"])
    close(out.pooled, golden["pooled"])


def test_epsilon_of_both_releases(golden, head):
    small = jnp.asarray(golden["tokens_small"])
    close(probe(HEAD, head, small), golden["logits_small_eps1e6"])
    facebook = probe(replace(HEAD, norm_eps=ProbeConfig.norm_eps), head, small)
    close(facebook, golden["logits_small_eps1e5_facebook"])
    assert np.abs(facebook - golden["logits_small_eps1e6"]).max() > 1, "small features tell the two apart"


def test_the_order_of_tokens_does_not_matter(small, tokens):
    close(probe(SMALL, small, tokens[:, ::-1]), probe(SMALL, small, tokens))


@pytest.mark.parametrize("changes", [{}, {"complete_block": False}, {"depth": 1, "queries": 2}])
def test_invalid_tokens_have_no_influence(tokens, changes):
    config = replace(SMALL, **changes)
    params, valid = random_parameters(config), jnp.array([[True] * 4 + [False] * 3, [True] * 7])
    out, whole = probe(config, params, tokens, valid), probe(config, params, tokens)
    other = jnp.where(valid[..., None], tokens, 100.0)
    np.testing.assert_array_equal(probe(config, params, other, valid), out)
    close(out[1:], whole[1:])
    assert np.abs(out[0] - whole[0]).max() > 1e-4
    assert out.shape == ((2, 2, 3) if config.queries == 2 else (2, 3))


def test_a_row_without_valid_tokens_stays_finite():
    def total(q):
        return attend(q, q, q, implementation="xla", layout=SINGLE_DEVICE, valid_BxN=jnp.zeros((1, 3), bool)).sum()

    value, slope = jax.jit(jax.value_and_grad(total))(jax.random.normal(jax.random.key(0), (1, 3, 1, 4)))
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


def test_many_probes_at_once_are_each_alone(tokens):
    stacked = random_parameters(SMALL, (2,))
    together = jax.jit(jax.vmap(lambda params: probe_eagerly(SMALL, params, tokens)))(stacked)
    for i in range(2):
        np.testing.assert_allclose(
            together[i], probe(SMALL, jax.tree.map(lambda x, i=i: x[i], stacked), tokens), atol=1e-5
        )
    assert np.abs(together[0] - together[1]).max() > 0.1


def test_initialisation_is_that_of_the_release():
    params = fresh(ProbeConfig(width=192, outputs=10, depth=4, heads=3))
    blocks, cross = params["trunk"]["blocks"], params["cross"]
    std = np.asarray(blocks["mlp"]["fc2"]["kernel"]).reshape(3, -1).std(1)
    np.testing.assert_allclose(std, 0.02 / np.sqrt([2, 4, 6]), rtol=0.03)
    # The queries' MLP counts as the last block, not as one after it.
    np.testing.assert_allclose(np.asarray(cross["mlp"]["fc2"]["kernel"]).std(), 0.02 / np.sqrt(6), rtol=0.03)
    np.testing.assert_allclose(np.asarray(cross["kv"]["kernel"]).std(), 0.02, rtol=0.03)
    assert np.abs(params["query"]).max() > 0
    lone = fresh(ProbeConfig(width=192, outputs=10, depth=1, heads=3))
    assert "trunk" not in lone
    np.testing.assert_allclose(np.asarray(lone["cross"]["mlp"]["fc2"]["kernel"]).std(), 0.02 / np.sqrt(2), rtol=0.03)


def test_fresh_parameters_have_the_tree_of_converted_ones(head):
    shapes = jax.eval_shape(lambda: init_probe(HEAD, jax.random.key(0)))
    assert jax.tree.map(lambda x: x.shape, shapes) == jax.tree.map(lambda x: x.shape, head)


def test_bfloat16_stays_close_and_returns_float32(small, tokens):
    low, high = probe(replace(SMALL, dtype="bfloat16"), small, tokens), probe(SMALL, small, tokens)
    assert low.dtype == jnp.float32
    assert 0 < np.abs(low - high).max() < 0.1


def test_what_does_not_fit_is_refused(small):
    with pytest.raises(ValueError, match=r"tokens are 10 wide, but probe.width is 12"):
        probe(SMALL, small, jnp.ones((1, 2, 10)))
    with pytest.raises(ValueError, match=r"width 12 is not divisible by 5 heads"):
        replace(SMALL, heads=5)
    with pytest.raises(ValueError, match=r"probe.depth is 0; it must be at least 1"):
        replace(SMALL, depth=0)
    with pytest.raises(ValueError, match=r"probe.norm_eps is 0; it must be positive"):
        replace(SMALL, norm_eps=0)
    q = jnp.ones((1, 2, 1, 4))
    with pytest.raises(ValueError, match=r"attention 'splash' cannot leave out invalid tokens; use 'xla'"):
        attend(q, q, q, implementation="splash", layout=SINGLE_DEVICE, valid_BxN=jnp.ones((1, 2), bool))
