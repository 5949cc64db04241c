"""The camera's share of the motion between two frames: an affine map fitted robustly, and frames warped by it.

Six numbers a pair: a shift and a linear map of the picture, which holds pan, zoom, roll and shear. Places run from -1
to 1 over the picture, motion is in pixels, right and down.

Letters: F pairs of frames, h and w rows and columns of a frame, m and n rows and columns of blocks, A = 3 numbers along
one axis (at the centre, per x, per y), i and j pixels of the input.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

EXACT = "highest"  # precision of products whose results are places in a picture
LEAST = 1e-3  # added to the normal equations: no evidence, no motion
STIFF = 10.0  # what keeps the linear part at 0 at first, of the same


def _places(rows: int, columns: int) -> jax.Array:
    """What multiplies the three numbers of an axis at each place, [rows, columns, A]."""
    y = (jnp.arange(rows) + 0.5) * 2 / rows - 1
    x = (jnp.arange(columns) + 0.5) * 2 / columns - 1
    ones = jnp.ones((rows, columns))
    return jnp.stack([ones, ones * x, ones * y[:, None]], axis=-1)


def camera_field(camera_Fx2xA: jax.Array, rows: int, columns: int) -> jax.Array:
    """Motion of every place, [F, rows, columns, 2]."""
    return jnp.einsum("rca,fda->frcd", _places(rows, columns), camera_Fx2xA, precision=EXACT)


def fit_camera(shift_Fxmxnx2: jax.Array, firm_Fxmxnx2: jax.Array, scales: Sequence[float]) -> jax.Array:
    """The affine motion that most of the picture follows, [F,2,A].

    Iterated reweighted least squares: a block counts by how firmly it is matched along each axis, and by
    1 / (1 + r^2 / s^2)^2 (Geman and McClure) for its distance r from the model so far, s shrinking through `scales`
    (pixels), so that what moves by itself loses its vote. A first round finds the shift alone: with all six numbers
    free from the start, a large tool in a corner is taken for zoom. Where nothing is matched the motion is 0.
    """
    places = _places(*shift_Fxmxnx2.shape[1:3])
    scatter = jnp.einsum("mna,mnb->mnab", places, places, precision=EXACT)

    def again(camera: jax.Array, round_2: jax.Array) -> tuple[jax.Array, None]:
        scale, stiff = round_2
        away = shift_Fxmxnx2 - camera_field(camera, *shift_Fxmxnx2.shape[1:3])
        trust = jnp.square(1 / (1 + jnp.square(away / scale).sum(-1)))
        weight = trust[..., None] * firm_Fxmxnx2
        normal_Fx2xAxA = jnp.einsum("fmnd,mnab->fdab", weight, scatter, precision=EXACT)
        right_Fx2xA = jnp.einsum("fmnd,mna->fda", weight * shift_Fxmxnx2, places, precision=EXACT)
        total = jnp.trace(normal_Fx2xAxA, axis1=-2, axis2=-1)[..., None, None]
        ridge = LEAST * (1 + total) * jnp.eye(3) + stiff * total * jnp.diag(jnp.array([0.0, 1.0, 1.0]))
        return _solve_3(normal_Fx2xAxA + ridge, right_Fx2xA), None

    rounds = [(scale, STIFF) for scale in scales] + [(scale, 0.0) for scale in scales]
    camera, _ = jax.lax.scan(again, jnp.zeros((*shift_Fxmxnx2.shape[:1], 2, 3)), jnp.array([(1e3, STIFF), *rounds]))
    return camera


def _solve_3(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """x of `matrix @ x = right` for symmetric positive 3 x 3 matrices [..., 3, 3], by Cramer's rule, on device."""
    a, b, c = (matrix[..., i] for i in range(3))
    across = jnp.stack([_cross(b, c), _cross(c, a), _cross(a, b)], axis=-2)
    determinant = (a * across[..., 0, :]).sum(-1, keepdims=True)
    return jnp.einsum("...ij,...j->...i", across, right, precision=EXACT) / determinant


def _cross(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.stack([a[..., i - 2] * b[..., i - 1] - a[..., i - 1] * b[..., i - 2] for i in range(3)], axis=-1)


def warp(frame_Fxhxw: jax.Array, camera_Fx2xA: jax.Array) -> jax.Array:
    """The frames as they look with the camera's motion undone, [F,h,w]: out(p) = frame(p + motion(p)), 0 beyond it.

    Bilinear in two passes, along columns and then along rows (Catmull and Smith, 1980): products with matrices of
    weights, where a gather would be slow.
    """
    _, rows, columns = frame_Fxhxw.shape
    right, down = jnp.moveaxis(camera_field(camera_Fx2xA, rows, columns), -1, 0)
    # After the first pass a pixel still has the column it came from, where motion along the column is slightly other.
    per_column = camera_Fx2xA[:, 1, 1, None, None] * 2 / columns
    from_row = jnp.arange(rows)[:, None] + down - per_column * right
    from_column = jnp.arange(columns) + right
    tall = jnp.einsum("frci,fic->frc", _hats(from_row, rows), frame_Fxhxw, precision=EXACT)
    return jnp.einsum("frcj,frj->frc", _hats(from_column, columns), tall, precision=EXACT)


def _hats(place: jax.Array, length: int) -> jax.Array:
    """Weights of linear interpolation, [..., length]."""
    return jnp.maximum(0.0, 1 - jnp.abs(place[..., None] - jnp.arange(length)))
