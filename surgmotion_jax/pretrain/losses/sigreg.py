"""SIGReg: features as an isotropic Gaussian, so that they cannot collapse (LeJEPA, arXiv 2511.08544).

Features are projected on random directions. In each, the Epps-Pulley statistic compares the empirical characteristic
function of the projections x with that of a standard normal variable, weighted by the latter:

  T = n int |1/n sum_j exp(i t x_j) - exp(-t^2/2)|^2 exp(-t^2/2) dt

The integral runs from -reach to reach. Its integrand is even, so the trapezoidal rule needs points from 0 on alone.

Letters: B batch, R tokens looked at of a clip, C feature width, S directions, Q points of the integral.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from surgmotion_jax.checks import at_least, one_of
from surgmotion_jax.models.transformer import normalise
from surgmotion_jax.pretrain.losses.term import Counts, Measured, Term, TermConfig, TermInputs, wide

NORM_EPS = 1e-5  # as in the norm of the targets
AT_A_TIME = 256  # directions: their projections stay in a CPU's cache over all points, and few loops are begun
SOURCES = ("context", "predictions", "targets")


@dataclass(frozen=True)
class SigregConfig(TermConfig):
    """SIGReg: features follow an isotropic Gaussian. With it an encoder may predict its own features."""

    weight: float = 0.0  # its weight in the total (LeJEPA: 0.02); 0 leaves it out
    of: str = "context"  # whose features: context (visible tokens), predictions, targets (without stop_gradient)
    slices: int = 1024  # random directions, drawn anew at each step
    reach: float = 3.0  # the characteristic functions are compared up to this argument
    points: int = 17  # at so many arguments from 0 on
    max_tokens: int = 64  # tokens of a clip that are looked at, evenly spaced; 0: all

    def __post_init__(self) -> None:
        at_least("loss.sigreg.weight", self.weight, 0)
        one_of("loss.sigreg.of", self.of, SOURCES)
        at_least("loss.sigreg.slices", self.slices, 1)
        at_least("loss.sigreg.points", self.points, 2)
        at_least("loss.sigreg.max_tokens", self.max_tokens, 0)
        if not self.reach > 0:
            raise ValueError(f"loss.sigreg.reach is {self.reach}; it must be positive, e.g. 3.")


class Quadrature(NamedTuple):
    """Where the integral is evaluated: `points` arguments from 0 to `reach`."""

    reach: float
    points: int

    @property
    def step(self) -> float:
        return self.reach / (self.points - 1)

    @property
    def arguments_Q(self) -> np.ndarray:
        return np.arange(self.points) * self.step

    @property
    def normal_Q(self) -> np.ndarray:
        """The characteristic function of a standard normal variable."""
        return np.exp(-0.5 * np.square(self.arguments_Q))

    @property
    def weights_Q(self) -> np.ndarray:
        """Of the trapezoidal rule, doubled for the negative arguments, times the weight of the statistic."""
        weights = np.full(self.points, 2 * self.step)
        weights[[0, -1]] /= 2
        return weights * self.normal_Q


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def characteristic_distance(rule: Quadrature, x_BxRxS: jax.Array, share_BxR: jax.Array) -> jax.Array:
    """The integral of every direction, [S], without the factor n. `share` are weights of the samples; they sum to 1.

    Sines and cosines of multiples follow from those of the first by the addition theorem. Two arrays of the size of x
    are kept for the gradient.
    """
    return _forward(rule, x_BxRxS, share_BxR)[0]


def _column(values_Q: np.ndarray, like: jax.Array) -> jax.Array:
    return jnp.asarray(values_Q, like.dtype)[:, None]


Angle = tuple[jax.Array, jax.Array]
"""Cosine and sine."""


def _first(rule: Quadrature, x_BxRxS: jax.Array) -> Angle:
    return jnp.cos(rule.step * x_BxRxS), jnp.sin(rule.step * x_BxRxS)


def _turned(angle: Angle, by: Angle) -> Angle:
    """The sum of two angles."""
    return angle[0] * by[0] - angle[1] * by[1], angle[1] * by[0] + angle[0] * by[1]


def _empirical(rule: Quadrature, first: Angle, share_BxR: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Real and imaginary part of the empirical characteristic function, each [Q,S]."""

    def at(angle: Angle, _: None) -> tuple[Angle, tuple[jax.Array, ...]]:
        of_clips = tuple(jnp.einsum("br,brs->bs", share_BxR, part, precision="highest") for part in angle)
        return _turned(angle, first), of_clips

    start = jnp.ones_like(first[0]), jnp.zeros_like(first[0])
    cosine_QxBxS, sine_QxBxS = jax.lax.scan(at, start, None, length=rule.points)[1]
    return cosine_QxBxS.sum(1), sine_QxBxS.sum(1)  # here, because clips may lie on several devices


Saved = tuple[Angle, jax.Array, jax.Array, jax.Array]


def _forward(rule: Quadrature, x_BxRxS: jax.Array, share_BxR: jax.Array) -> tuple[jax.Array, Saved]:
    first = _first(rule, x_BxRxS)
    cosine_QxS, sine_QxS = _empirical(rule, first, share_BxR)
    error_QxS = cosine_QxS - _column(rule.normal_Q, x_BxRxS)
    weights = _column(rule.weights_Q, x_BxRxS)
    distance_S = (weights * (jnp.square(error_QxS) + jnp.square(sine_QxS))).sum(0)
    slope = 2 * weights * _column(rule.arguments_Q, x_BxRxS)
    return distance_S, (first, share_BxR, slope * error_QxS, slope * sine_QxS)


def _backward(rule: Quadrature, saved: Saved, gradient_S: jax.Array) -> tuple[jax.Array, jax.Array]:
    """d distance / d x_j = share_j sum_q 2 w_q t_q (Im sum cos(t_q x_j) - (Re sum - normal) sin(t_q x_j)).

    The sum over q is the real part of a polynomial of exp(i t_1 x_j), evaluated by Horner's rule.
    """
    del rule
    first, share_BxR, real_QxS, imaginary_QxS = saved

    def add(higher: Angle, slopes: Angle) -> tuple[Angle, None]:
        real, imaginary = _turned(higher, first)
        real_S, imaginary_S = slopes
        return (real + imaginary_S, imaginary + real_S), None

    # At argument 0 every slope is 0.
    start = jnp.zeros_like(first[0]), jnp.zeros_like(first[0])
    polynomial, _ = jax.lax.scan(add, start, (real_QxS[1:], imaginary_QxS[1:]), reverse=True)
    return gradient_S * share_BxR[..., None] * _turned(polynomial, first)[0], jnp.zeros_like(share_BxR)


characteristic_distance.defvjp(_forward, _backward)


def directions(key: jax.Array, width: int, slices: int) -> jax.Array:
    """Random unit vectors, [C,S] float32."""
    drawn_CxS = jax.random.normal(key, (width, slices))
    return drawn_CxS / jnp.linalg.norm(drawn_CxS, axis=0)


def gaussian_distance(
    features_BxRxC: jax.Array, real_BxR: jax.Array, directions_CxS: jax.Array, rule: Quadrature
) -> jax.Array:
    """Mean over the directions of the distance of the features of the whole batch from a Gaussian; 0 if they are one.

    Of n independent Gaussian samples about 1.06 / n. Tokens that are not `real` count nowhere; without any it is 0.
    """
    features = wide(features_BxRxC)
    counted = real_BxR.astype(features.dtype)
    share_BxR = counted / jnp.maximum(counted.sum(), 1)

    def distance(some_Cxs: jax.Array) -> jax.Array:
        return characteristic_distance(rule, jnp.einsum("brc,cs->brs", features, some_Cxs), share_BxR)

    slices = directions_CxS.shape[1]
    distance_S = jax.lax.map(distance, _some_at_a_time(directions_CxS.astype(features.dtype))).reshape(-1)[:slices]
    return jnp.where(counted.sum() > 0, distance_S.mean(), 0.0)


def _some_at_a_time(directions_CxS: jax.Array) -> jax.Array:
    """Directions in groups [groups,C,s], the last one filled with zeros."""
    width, slices = directions_CxS.shape
    groups = -(-slices // AT_A_TIME)
    size = -(-slices // groups)
    padded = jnp.pad(directions_CxS, ((0, 0), (0, groups * size - slices)))
    return padded.reshape(width, groups, size).swapaxes(0, 1)


def measure(inputs: TermInputs, settings: SigregConfig) -> Measured:
    """n times the distance, as LeJEPA has it. The features are normed first, as the targets are."""
    features_BxRxC, real_BxR = _looked_at(inputs, settings)
    chosen = _evenly(features_BxRxC.shape[1], settings.max_tokens)
    features_BxRxC, real_BxR = features_BxRxC[:, chosen], real_BxR[:, chosen]
    ways = directions(inputs.key, features_BxRxC.shape[-1], settings.slices)
    normed = normalise(wide(features_BxRxC), NORM_EPS)
    distance = gaussian_distance(normed, real_BxR, ways, Quadrature(settings.reach, settings.points))
    return Measured(real_BxR.sum() * distance, {"gaussian_distance": distance})


def _looked_at(inputs: TermInputs, settings: SigregConfig) -> tuple[jax.Array, jax.Array]:
    """Features and which of their tokens are real."""
    if settings.of == "targets":
        return inputs.all_targets_BxNxD, inputs.real_BxN
    if settings.of == "predictions":
        return inputs.predicted_BxMxD, jnp.take_along_axis(inputs.real_BxN, inputs.mask.target_BxM, axis=1)
    return inputs.context_BxKxC, jnp.take_along_axis(inputs.real_BxN, inputs.mask.context_BxK, axis=1)


def _evenly(tokens: int, most: int) -> np.ndarray:
    """Numbers of at most `most` of so many tokens, evenly spaced; 0 takes all."""
    return np.arange(most) * tokens // most if 0 < most < tokens else np.arange(tokens)


def _compared(settings: SigregConfig, counts: Counts) -> int:
    there = {"context": counts.context, "predictions": counts.target, "targets": counts.tokens}[settings.of]
    return min(there, settings.max_tokens or there)


def flops(settings: SigregConfig, counts: Counts) -> float:
    """Projections with two gradients less one, and about 10 and 14 operations a point forward and backward."""
    tokens = _compared(settings, counts)
    return tokens * settings.slices * (2 * 2 * counts.width + 24 * settings.points)


def working_bytes(settings: SigregConfig, counts: Counts) -> float:
    """Two float32 arrays of projections, and four of those that are worked on."""
    return 4 * _compared(settings, counts) * (2 * settings.slices + 4 * min(settings.slices, AT_A_TIME))


def detail(settings: SigregConfig) -> str:
    """What the banner says beside the label."""
    return f"of {settings.of}, {settings.slices} directions"


SIGREG = Term(
    label="SIGReg",
    unit="n x distance",
    settings=SigregConfig,
    measure=measure,
    over_batch=True,
    detail=detail,
    flops=flops,
    working_bytes=working_bytes,
)
