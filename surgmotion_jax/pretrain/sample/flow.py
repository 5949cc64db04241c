"""What changes in a clip that the camera's own flow does not explain, as a saliency score.

An alternative to the score of SurgMotion (arXiv 2602.05638), which a moving camera, smoke and glints raise as well. For
each pair of neighbouring frames:

  1. Luminance at a quarter of a patch, less its local mean and over its local deviation: haze and changes of light that
     are smooth over a few patches leave it as it is. Glints and all outside the field of view count as nothing.
  2. The displacement of blocks by exhaustive search on halved frames; the camera's affine motion fitted robustly to it;
     the second frame warped back by it; the same again at full detail over a short range.
  3. The score is the mean absolute difference that is left: in units of local contrast, so roughly the speed against
     the camera, in widths of the texture that moves.

The displacement that is left could be the score itself, and is there to be had (`displacements`). It finds a
simulated tool as well as the difference does, but a tool over real tissue worse: tissue of little texture and tissue
at other depths have displacements, large and doubtful, but change little.

All on device, per sample, in float32, without gathers and without communication.

Letters: B batch, T frames, H rows, W columns, F pairs of frames, h and w rows and columns of working pixels, m and n
rows and columns of blocks (half of h and w), r and c rows and columns of patches, U tubes of a clip.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from surgmotion_jax.models.config import ModelConfig
from surgmotion_jax.pretrain.sample.block_match import blocks, match
from surgmotion_jax.pretrain.sample.camera_motion import camera_field, fit_camera, warp
from surgmotion_jax.pretrain.sample.saliency_kind import Clips, Saliency, SaliencyConfig, check_unit

PER_PATCH = 4  # working pixels along a side of a patch
COARSE, FINE, OWN = 6, 3, 6  # pixels searched: of halved frames, after the first warp, after the second
GLINT = 0.9  # a pixel whose darkest channel exceeds this is a reflection of the lamp
WINDOW = 11  # working pixels of the local mean and deviation
FLAT = 0.05  # added to the deviation: what has less contrast than this counts for less
CLIP = 3.0  # largest feature, in local deviations
CLIPS_AT_ONCE = 8  # on a device: the costs of all shifts are held for these


class Aligned(NamedTuple):
    """Neighbouring frames of a clip as features, the second without the camera's motion."""

    camera_Fx2xA: jax.Array  # the camera's motion in working pixels, as `fit_camera` has it
    first_Fxhxw: jax.Array
    second_Fxhxw: jax.Array
    seen_Fxhxw: jax.Array  # 1 where both show tissue or tool, 0 at glints and outside the field of view


def flow_score(video01_BxTxHxWx3: jax.Array, inside_BxHxW: jax.Array, patch: int, tubelet: int, unit: str) -> jax.Array:
    """Score [B,U] of every tube, float32, finite for any clip and 0 where nothing changes.

    Args:
      video01_BxTxHxWx3: in [0, 1]; one frame alone scores 0.
      inside_BxHxW: pixels inside the field of view, bool.
      patch: pixels; a multiple of 4.
      tubelet: frames.
      unit: what a tube is, 'column' or 'tubelet'; a tubelet's score is that of the pairs that start in it.
    """
    batch, frames, height, width, _ = video01_BxTxHxWx3.shape
    if frames < 2:
        return jnp.zeros((batch, frames // tubelet * (height // patch) * (width // patch)))

    at_once = max(n for n in range(1, CLIPS_AT_ONCE + 1) if batch % n == 0)

    def some(clips: tuple[jax.Array, jax.Array]) -> jax.Array:
        change_Fxrxc = unexplained_change(align(*clips, patch))
        return over_time(change_Fxrxc.reshape(at_once, -1, *change_Fxrxc.shape[1:]), tubelet, unit)

    inputs = (video01_BxTxHxWx3.astype(jnp.float32), inside_BxHxW)
    parts = [x.reshape(-1, at_once, *x.shape[1:]) for x in inputs]
    return jax.lax.map(some, tuple(parts)).reshape(batch, -1)  # type: ignore[arg-type]


def align(video01_BxTxHxWx3: jax.Array, inside_BxHxW: jax.Array, patch: int) -> Aligned:
    """Finds the camera's motion between the neighbouring frames of clips and undoes it; F counts all pairs."""
    batch, frames, height, width, _ = video01_BxTxHxWx3.shape
    inside = jnp.broadcast_to(inside_BxHxW[:, None], (batch, frames, height, width))
    found = _features(video01_BxTxHxWx3.reshape(-1, height, width, 3), inside.reshape(-1, height, width), patch)
    feature_BxTxhxw, seen_BxTxhxw = (x.reshape(batch, frames, *x.shape[1:]) for x in found)

    def pairs(x_BxTxhxw: jax.Array) -> tuple[jax.Array, jax.Array]:
        before, after = x_BxTxhxw[:, :-1], x_BxTxhxw[:, 1:]
        return before.reshape(-1, *before.shape[2:]), after.reshape(-1, *after.shape[2:])

    (first, second), (seen_first, seen) = pairs(feature_BxTxhxw), pairs(seen_BxTxhxw)
    coarse = match(_pooled(first, 2), _pooled(second, 2), COARSE, dense=True)
    camera = fit_camera(2 * coarse.shift_Fxmxnx2, coarse.firm_Fxmxnx2, (4.0, 2.0, 2.0, 1.0, 1.0))
    fine = match(first, _undone(second, seen, camera)[0], FINE)
    camera = camera + fit_camera(fine.shift_Fxmxnx2, fine.firm_Fxmxnx2, (2.0, 1.0, 1.0, 0.5, 0.5))
    back, seen_back = _undone(second, seen, camera)
    return Aligned(camera, first, back, seen_first * seen_back)


def unexplained_change(aligned: Aligned) -> jax.Array:
    """Mean absolute difference of the aligned features over each patch, [F,r,c]; what is not seen counts as 0."""
    return _pooled(blocks(jnp.abs(aligned.first_Fxhxw - aligned.second_Fxhxw) * aligned.seen_Fxhxw), PER_PATCH // 2)


def displacements(aligned: Aligned, patch: int) -> tuple[jax.Array, jax.Array]:
    """(the camera's displacement, what a block moves beside it), each [F,m,n,2] pixels of the video, right and down."""
    scale = patch // PER_PATCH
    own = match(aligned.first_Fxhxw, aligned.second_Fxhxw, OWN).shift_Fxmxnx2
    return scale * camera_field(aligned.camera_Fx2xA, *own.shape[1:3]), scale * own


def _features(video01_TxHxWx3: jax.Array, inside_TxHxW: jax.Array, patch: int) -> tuple[jax.Array, jax.Array]:
    """Locally normalised luminance [T,h,w], 0 where nothing is seen, and where something is seen, 0 or 1."""
    scale = patch // PER_PATCH
    seen = inside_TxHxW & (video01_TxHxWx3.min(-1) < GLINT)
    light_Txhxw = _pooled(video01_TxHxWx3.mean(-1), scale)
    seen_Txhxw = (_pooled(seen.astype(jnp.float32), scale) > 0.6).astype(jnp.float32)
    count = jnp.maximum(_around(seen_Txhxw), 1)
    away = seen_Txhxw * (light_Txhxw - _around(seen_Txhxw * light_Txhxw) / count)
    deviation = jnp.sqrt(_around(jnp.square(away)) / count)
    return jnp.clip(away / (deviation + FLAT), -CLIP, CLIP), seen_Txhxw


def _undone(feature_Fxhxw: jax.Array, seen_Fxhxw: jax.Array, camera: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Features with the camera's motion undone, and where they are seen, 0 or 1."""
    share = warp(seen_Fxhxw, camera)
    seen = share > 0.5
    return jnp.where(seen, warp(feature_Fxhxw, camera) / jnp.maximum(share, 0.5), 0.0), seen.astype(jnp.float32)


def over_time(score_BxFxrxc: jax.Array, tubelet: int, unit: str) -> jax.Array:
    """Scores of tubes [B,U] from those of pairs: mean over all of them, or over those that start in each tubelet."""
    batch, pairs, rows, columns = score_BxFxrxc.shape
    if unit == "column":
        return score_BxFxrxc.mean(1).reshape(batch, -1)
    padded = jnp.pad(score_BxFxrxc, ((0, 0), (0, 1), (0, 0), (0, 0))).reshape(batch, -1, tubelet, rows * columns)
    started = jnp.minimum(tubelet, pairs - tubelet * jnp.arange(padded.shape[1]))
    return (padded.sum(2) / started[:, None]).reshape(batch, -1)


def _pooled(x_Txhxw: jax.Array, scale: int) -> jax.Array:
    frames, height, width = x_Txhxw.shape
    return x_Txhxw.reshape(frames, height // scale, scale, width // scale, scale).mean((2, 4))


def _around(x_Txhxw: jax.Array) -> jax.Array:
    """Sum over the window around each working pixel."""
    window = (1, WINDOW, WINDOW)
    return jax.lax.reduce_window(x_Txhxw, 0.0, jax.lax.add, window, (1, 1, 1), "SAME")


def score(clips: Clips, settings: SaliencyConfig, model: ModelConfig) -> jax.Array:
    """`flow_score` as the table asks for it."""
    return flow_score(clips.video01_BxTxHxWx3, clips.pixels_BxHxW, model.patch, model.tubelet, settings.unit)


def check(settings: SaliencyConfig, model: ModelConfig) -> None:
    """Raises ValueError for patches that have no quarters, and for tubes that are too short to move."""
    check_unit(settings, model)
    if model.patch % PER_PATCH:
        raise ValueError(
            f"saliency.kind 'flow' looks at a patch in quarters, but model.patch is {model.patch}; use a multiple of "
            f"{PER_PATCH} or --config.saliency.kind=paper."
        )


FLOW = Saliency(score, SaliencyConfig, check)
