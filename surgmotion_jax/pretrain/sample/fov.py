"""Field of view of an endoscope, found on device, static over a clip.

Letters: B batch, T frames, H rows, W columns, h and w rows and columns of patches.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

# A border is darker than a quarter of the clip's mean brightness, between limits that leave sensor noise dark and
# dim tissue bright. Measured on sinus endoscopy the border stays under .06, and limits of .08 to .16 agree.
RELATIVE_DARKNESS, LEAST_DARK, MOST_DARK = 0.25, 0.03, 0.1
SMOOTHING = 5


def field_of_view(video01_BxTxHxWx3: jax.Array) -> jax.Array:
    """Pixels inside the field of view, [B,H,W] bool.

    A pixel is outside when it lies on a run of dark pixels that starts at the left or right border of its row *and* on
    one from the top or bottom of its column; dark means dark in every frame. For a convex field of view (round,
    rectangular, cut by the crop) this is exact, and dark tissue inside it stays inside. Text burnt into the border is
    taken for picture.
    """
    bright_BxHxW = video01_BxTxHxWx3.max(axis=(1, 4))
    window = (1, SMOOTHING, SMOOTHING)
    total = jax.lax.reduce_window(bright_BxHxW, 0.0, jax.lax.add, window, (1, 1, 1), "SAME")
    count_HxW = np.outer(*(_window_counts(length) for length in bright_BxHxW.shape[1:]))
    limit_B = jnp.clip(RELATIVE_DARKNESS * bright_BxHxW.mean((1, 2)), LEAST_DARK, MOST_DARK)
    # A lone bright pixel in the border does not count, nor does a dark one for being beside the picture.
    lit_BxHxW = (jnp.minimum(bright_BxHxW, total / count_HxW) > limit_B[:, None, None]).astype(jnp.int32)

    def reached(axis: int) -> jax.Array:
        first = jax.lax.cummax(lit_BxHxW, axis=axis) == 0
        last = jax.lax.cummax(lit_BxHxW, axis=axis, reverse=True) == 0
        return first | last

    return ~(reached(1) & reached(2))


def _window_counts(length: int) -> np.ndarray:
    """Entries that a smoothing window holds at each place of an axis; fewer at its ends."""
    return np.convolve(np.ones(length, np.float32), np.ones(SMOOTHING, np.float32), mode="same")


def patches_inside(inside_BxHxW: jax.Array, patch: int, edge: int) -> jax.Array:
    """Patches at least `edge` pixels away from everything outside, [B,h,w] bool; the picture's border is no edge."""
    outside = (~inside_BxHxW).astype(jnp.float32)
    window, step = (1, patch + 2 * edge, patch + 2 * edge), (1, patch, patch)
    padding = ((0, 0), (edge, edge), (edge, edge))
    return jax.lax.reduce_window(outside, 0.0, jax.lax.max, window, step, padding) == 0
