"""The affinity divergence of SurgMotion (arXiv 2602.05638), exact without ever holding an M x M matrix.

With unit features u and logits s_ij = u_i . u_j / tau, the divergence of a clip is

  f = sum_i e_i sum_j a_ij (log a_ij - ahat-log_ij),   a = softmax_j(s) of the targets,  ahat of the predictions,

and its derivatives by the logits of row i need that row alone:

  df/dshat_ij = e_i (ahat_ij - a_ij),   df/ds_ij = e_i a_ij (log a_ij - log ahat_ij - KL_i).

So one pass over blocks of rows gives value and gradient together. The gradient is computed in the forward pass, where
the block is at hand: recomputing it backward would double the matrix products that dominate. What is kept for the
backward pass is the gradient itself, [B,M,D] for each input that is differentiated.

Letters: B batch, M masked tokens of a clip, D feature width, R rows of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import CustomVJPPrimal

MASKED = -1e30  # logit of a token that is not eligible; finite, so that a clip without any gives no NaN


Gradients = tuple[jax.Array | None, ...]  # by predictions and by targets [B,M,D], None where not asked for


class Affinity(NamedTuple):
    """Constants: temperature, rows of a block, smallest norm that is divided by."""

    tau: float
    rows: int
    eps: float


class _Sums(NamedTuple):
    """Running divergence [B], and its gradients by unit features [B,M,D] (None where not asked for)."""

    divergence_B: jax.Array
    prediction_BxMxD: jax.Array | None
    target_BxMxD: jax.Array | None


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def affinity_divergence(
    constants: Affinity, prediction_BxMxD: jax.Array, target_BxMxD: jax.Array, eligible_BxM: jax.Array
) -> jax.Array:
    """Divergence of each clip summed over its eligible tokens, [B]; differentiable in predictions and targets."""
    return _sums(constants, prediction_BxMxD, target_BxMxD, eligible_BxM, (False, False)).divergence_B


def _inverse_norm(x_BxMxD: jax.Array, eps: float) -> jax.Array:
    return 1 / jnp.sqrt(jnp.maximum(jnp.square(x_BxMxD).sum(-1), eps * eps))


def _sums(
    constants: Affinity,
    prediction_BxMxD: jax.Array,
    target_BxMxD: jax.Array,
    eligible_BxM: jax.Array,
    differentiate: tuple[bool, bool],
) -> _Sums:
    """The sums over all blocks of rows. Gradients are by the unit features."""
    count, rows = prediction_BxMxD.shape[1], constants.rows
    inputs = (prediction_BxMxD, target_BxMxD)
    # Features stay as they came: the norms are applied to the logits, so that no unit copy of them is held.
    inverse = [_inverse_norm(x, constants.eps) for x in inputs]

    def add_block(sums: _Sums, first: jax.Array) -> tuple[_Sums, None]:
        # The last block starts early enough to be whole; rows that an earlier block had do not count again.
        start = jnp.minimum(first, count - rows)

        def block(x: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(x, start, rows, axis=1)

        new_R = start + jnp.arange(rows) >= first
        counts_BxR = block(eligible_BxM) & new_R
        log_hat, log_want = (
            _log_affinity(block(x), x, block(inv), inv, eligible_BxM, constants.tau)
            for x, inv in zip(inputs, inverse, strict=True)
        )
        want_BxRxM = jnp.exp(log_want)
        ratio_BxRxM = log_want - log_hat
        divergence_BxR = (want_BxRxM * ratio_BxRxM).sum(-1)
        slopes = (
            (jnp.exp(log_hat) - want_BxRxM) if differentiate[0] else None,
            want_BxRxM * (ratio_BxRxM - divergence_BxR[..., None]) if differentiate[1] else None,
        )
        gradients = [
            total if slope is None else _add_slope(total, slope * counts_BxR[..., None], x, inv, block, start)
            for total, slope, x, inv in zip(sums[1:], slopes, inputs, inverse, strict=True)
        ]
        return _Sums(sums.divergence_B + jnp.where(counts_BxR, divergence_BxR, 0.0).sum(-1), *gradients), None

    zeros = [jnp.zeros_like(x) if wanted else None for x, wanted in zip(inputs, differentiate, strict=True)]
    begin = _Sums(jnp.zeros_like(prediction_BxMxD[:, 0, 0]), *zeros)
    if rows == count:
        return add_block(begin, jnp.zeros((), jnp.int32))[0]
    return jax.lax.scan(add_block, begin, jnp.arange(0, count, rows))[0]


def _log_affinity(
    rows_BxRxD: jax.Array,
    all_BxMxD: jax.Array,
    inverse_BxR: jax.Array,
    inverse_BxM: jax.Array,
    eligible_BxM: jax.Array,
    tau: float,
) -> jax.Array:
    """Log-softmax over eligible tokens of the cosines of a block of rows with all tokens, [B,R,M]."""
    scaled_BxRxD = rows_BxRxD * (inverse_BxR / tau)[..., None]
    cosine_BxRxM = jnp.einsum("brd,bmd->brm", scaled_BxRxD, all_BxMxD, precision="highest") * inverse_BxM[:, None, :]
    return jax.nn.log_softmax(jnp.where(eligible_BxM[:, None, :], cosine_BxRxM, MASKED), axis=-1)


def _add_slope(
    total_BxMxD: jax.Array | None,
    slope_BxRxM: jax.Array,
    x_BxMxD: jax.Array,
    inverse_BxM: jax.Array,
    block: Callable[[jax.Array], jax.Array],
    start: jax.Array,
) -> jax.Array:
    """Adds to the gradient by unit features what the slopes of a block of rows by its logits contribute."""
    product = partial(jnp.einsum, precision="highest")
    if slope_BxRxM.shape[1] == slope_BxRxM.shape[2]:  # all rows at once: both sides of the product in one
        both = (slope_BxRxM + slope_BxRxM.mT) * inverse_BxM[:, None, :]
        return product("bnm,bmd->bnd", both, x_BxMxD)
    assert total_BxMxD is not None, "what has slopes is summed"
    here = product("brm,bmd->brd", slope_BxRxM * inverse_BxM[:, None, :], x_BxMxD)
    total_BxMxD = jax.lax.dynamic_update_slice_in_dim(total_BxMxD, block(total_BxMxD) + here, start, axis=1)
    return _add_columns(total_BxMxD, slope_BxRxM, block(x_BxMxD) * block(inverse_BxM)[..., None])


def _add_columns(total_BxMxD: jax.Array, slope_BxRxM: jax.Array, unit_BxRxD: jax.Array) -> jax.Array:
    """Adds slope^T @ unit, some rows at a time: the whole product would be another [B,M,D]."""
    count, rows = total_BxMxD.shape[1], unit_BxRxD.shape[1]

    def add_some(total: jax.Array, first: jax.Array) -> tuple[jax.Array, None]:
        start = jnp.minimum(first, count - rows)
        some = jax.lax.dynamic_slice_in_dim(slope_BxRxM, start, rows, axis=2)
        some *= start + jnp.arange(rows) >= first
        product = jnp.einsum("brm,brd->bmd", some, unit_BxRxD, precision="highest")
        before = jax.lax.dynamic_slice_in_dim(total, start, rows, axis=1)
        return jax.lax.dynamic_update_slice_in_dim(total, before + product, start, axis=1), None

    return jax.lax.scan(add_some, total_BxMxD, jnp.arange(0, count, rows))[0]


def _through_norm(gradient_BxMxD: jax.Array, x_BxMxD: jax.Array, constants: Affinity) -> jax.Array:
    """Gradient by features from the gradient by unit features (not yet divided by tau)."""
    inverse_BxMx1 = _inverse_norm(x_BxMxD, constants.eps)[..., None]
    unit = x_BxMxD * inverse_BxMx1
    # Below the smallest norm the divisor is a constant, and nothing flows through it.
    norm_moves = jnp.square(x_BxMxD).sum(-1, keepdims=True) > constants.eps**2
    along = jnp.where(norm_moves, (gradient_BxMxD * unit).sum(-1, keepdims=True), 0.0)
    return (gradient_BxMxD - along * unit) * (inverse_BxMx1 / constants.tau)


def _forward(
    constants: Affinity, prediction: CustomVJPPrimal, target: CustomVJPPrimal, eligible: CustomVJPPrimal
) -> tuple[jax.Array, Gradients]:
    """Value, and the gradients by those inputs that are differentiated: targets usually are not."""
    inputs = (prediction.value, target.value)
    wanted = (prediction.perturbed, target.perturbed)
    sums = _sums(constants, *inputs, eligible.value, wanted)
    gradients = tuple(
        None if g is None else _through_norm(g, x, constants) for g, x in zip(sums[1:], inputs, strict=True)
    )
    return sums.divergence_B, gradients


def _backward(
    constants: Affinity, gradients: Gradients, slope_B: jax.Array
) -> tuple[jax.Array | None, jax.Array | None, None]:
    del constants
    prediction, target = (None if g is None else slope_B[:, None, None] * g for g in gradients)
    return prediction, target, None


affinity_divergence.defvjp(_forward, _backward, symbolic_zeros=True)
