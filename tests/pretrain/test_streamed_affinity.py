"""The streamed affinity term is the dense one: in value, in gradient, in time; and takes a tenth of its memory."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.pretrain.losses.affinity import AffinityLossConfig, affinity_loss

ROWS = AffinityLossConfig().rows


def dense(prediction, target, eligible):
    """The formula with whole M x M matrices, differentiated by JAX."""

    def log_affinity(z):
        u = z / jnp.sqrt(jnp.maximum(jnp.square(z).sum(-1, keepdims=True), 1e-16))
        logits = jnp.einsum("bmd,bnd->bmn", u, u, precision="highest") / 0.1
        return jax.nn.log_softmax(jnp.where(eligible[:, None, :], logits, -1e30), axis=-1)

    want, got = log_affinity(target), log_affinity(prediction)
    divergence_BxM = jnp.where(eligible, (jnp.exp(want) * (want - got)).sum(-1), 0.0)
    return (divergence_BxM.sum(-1) / jnp.maximum(eligible.sum(-1), 1)).mean()


def streamed(rows):
    return lambda prediction, target, eligible: affinity_loss(prediction, target, eligible, tau=0.1, rows=rows)


def features(tokens, width, dtype=np.float32, clips=2):
    rng = np.random.default_rng(0)
    target = rng.normal(size=(clips, tokens, width))
    prediction = 0.5 * target + rng.normal(size=(clips, tokens, width))
    eligible = rng.random((clips, tokens)) < 0.9
    return prediction.astype(dtype), target.astype(dtype), eligible


def difference(rows, inputs, differentiated):
    """Relative errors of value and of gradients, in the Euclidean norm."""
    (want, slopes), (got, streamed_slopes) = (
        jax.jit(jax.value_and_grad(fn, differentiated))(*inputs) for fn in (dense, streamed(rows))
    )
    pairs = zip(jax.tree.leaves(slopes), jax.tree.leaves(streamed_slopes), strict=True)
    return abs(float(got) / float(want) - 1), [np.linalg.norm(a - b) / np.linalg.norm(a) for a, b in pairs]


@pytest.mark.parametrize("rows", [512, 128, 100], ids=["whole", "blocks", "an overlapping last block"])
def test_value_and_gradient_are_the_dense_ones(rows):
    value, gradients = difference(rows, features(512, 64), (0, 1))
    assert value < 1e-5
    assert len(gradients) == 2
    assert max(gradients) < 1e-5


def test_in_double_precision_only_rounding_is_left():
    with jax.enable_x64(True):
        value, gradients = difference(48, features(130, 16, np.float64), (0, 1))
    assert max(value, *gradients) < 1e-12


def test_targets_alone_can_be_differentiated():
    value, gradients = difference(32, features(64, 16), 1)
    assert max(value, *gradients) < 1e-5


def test_small_and_zero_features_have_the_gradient_of_a_constant_divisor():
    prediction, target, eligible = features(24, 8)
    prediction[:, :4] *= 1e-10
    prediction[:, 4] = 0
    value, gradients = difference(7, (prediction, target, eligible), 0)
    assert max(value, *gradients) < 1e-5


def test_clips_without_eligible_tokens_count_as_zero():
    prediction, target, eligible = features(24, 8)
    eligible[0] = False
    value, slopes = jax.value_and_grad(streamed(7))(prediction, target, eligible)
    assert np.isfinite(slopes).all()
    assert not slopes[0].any()
    alone = streamed(7)(prediction[1:], target[1:], eligible[1:])
    np.testing.assert_allclose(value, alone / 2, rtol=1e-6)


def test_what_is_not_differentiated_costs_nothing():
    inputs = features(512, 64)

    def products(differentiated):
        step = jax.jit(jax.grad(streamed(128), differentiated))
        return step.lower(*inputs).compile().cost_analysis()["flops"]

    assert products(0) < 0.8 * products((0, 1))


def temporaries(fn, tokens, width):
    feature = jax.ShapeDtypeStruct((1, tokens, width), jnp.float32)
    eligible = jax.ShapeDtypeStruct((1, tokens), jnp.bool_)
    step = jax.jit(jax.value_and_grad(fn))
    return step.lower(feature, feature, eligible).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("width", [192, 1024], ids=["ViT-tiny", "ViT-L"])
def test_64_frames_take_a_tenth_of_the_dense_memory(width):
    """3/4 of the 32 x 16 x 16 tokens of 64 frames at 256 px are masked."""
    tokens = 6144
    whole = temporaries(dense, tokens, width)
    assert whole > 3 * 4 * tokens**2, "the dense form must hold matrices"
    assert temporaries(streamed(ROWS), tokens, width) <= whole / 10


@pytest.mark.slow  # a timing: alone on a machine
def test_it_is_not_slower_where_memory_is_no_matter():
    inputs = tuple(map(jnp.asarray, features(512, 384)))
    steps = {name: jax.jit(jax.value_and_grad(fn)) for name, fn in (("dense", dense), ("streamed", streamed(ROWS)))}
    spent = {name: [] for name in steps}
    for _ in range(12):
        for name, step in steps.items():
            before = time.process_time()
            jax.block_until_ready(step(*inputs))
            spent[name].append(time.process_time() - before)
    assert np.median(spent["streamed"][2:]) <= 1.2 * np.median(spent["dense"][2:]), spent


def test_a_subsample_is_the_same_tokens_of_both_sides():
    prediction, target, eligible = features(64, 16, clips=2)
    chosen = [0, 6, 12, 19, 25, 32, 38, 44, 51, 57]

    def some(p, t, e, most=10):
        return affinity_loss(p, t, e, tau=0.1, rows=7, max_tokens=most)

    picked = (x[:, np.array(chosen)] for x in (prediction, target, eligible))
    np.testing.assert_allclose(some(prediction, target, eligible), dense(*picked), rtol=1e-5)
    slope = np.abs(jax.grad(some)(prediction, target, eligible)).sum(-1)
    seen = np.isin(np.arange(64), chosen) & eligible
    assert (slope[~seen] == 0).all()
    assert (slope[seen] > 0).all()
    whole = streamed(7)(prediction, target, eligible)
    for most in (0, 64, 100):
        assert some(prediction, target, eligible, most) == whole


def test_one_token_has_no_affinity():
    with pytest.raises(ValueError, match=r"loss.affinity.max_tokens is 1, .* use 0 \(all\) or 2"):
        AffinityLossConfig(max_tokens=1)
