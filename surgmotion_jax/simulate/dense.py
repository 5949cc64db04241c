"""What every pixel shows, and from two such pictures the flow between them and what gets hidden.

Letters: P pixels (row by row), N some of them, H rows, W columns, M instruments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surgmotion_jax.simulate.case import Script
from surgmotion_jax.simulate.geometry import Camera, camera_at, pixel_rays, project
from surgmotion_jax.simulate.instruments import (
    Cone,
    Pose,
    colour_of,
    cones_of,
    meet_cone,
    poses_at,
    shaft_of,
    widening_of,
)
from surgmotion_jax.simulate.surface import Motion, Surface, lesion_share, look_up, meet, motion_at, where

_PARTS = 3  # rigid parts of an instrument
_NEAR = 0.02  # of the camera's height above the tissue: nothing nearer is drawn


@dataclass(eq=False)
class Sight:
    """What each pixel of a frame shows. Filled tissue first, then instruments over it."""

    number: int
    camera: Camera
    motion: Motion
    poses: dict[int, Pose]
    ray_3xP: np.ndarray
    depth_P: np.ndarray  # float32 mm
    label_P: np.ndarray  # int16: 0 tissue, 1 + slot * 3 + part on instruments
    normal_3xP: np.ndarray  # towards the outside
    colour_Px3: np.ndarray  # sRGB 0..255
    material_2xP: np.ndarray  # mm: material point of the tissue, seen or behind an instrument
    tissue_Px8: np.ndarray  # channels of the tissue
    rest_P: np.ndarray  # mm: height of the tissue at rest

    @property
    def point_3xP(self) -> np.ndarray:
        """World position of what is seen."""
        return self.camera.position_3.astype(np.float32)[:, None] + self.depth_P * self.ray_3xP

    @property
    def slot_P(self) -> np.ndarray:
        """uint8: 0 tissue, slot + 1 otherwise."""
        return ((self.label_P + _PARTS - 1) // _PARTS).astype(np.uint8)


def see(surface: Surface, script: Script, frame: int) -> Sight:
    """Everything that the pixels of a frame show, before light and nuisances."""
    camera, motion, poses = camera_at(script, frame), motion_at(surface, script, frame), poses_at(script, frame)
    ray = pixel_rays(camera)
    depth, x, y = meet(surface, motion, camera, ray)
    tissue, rest = look_up(surface, x, y)
    label = np.zeros(depth.shape, np.int16)
    normal = _tissue_normal(camera, ray, depth)
    colour = _with_blood(tissue, float(script.blood_T[frame]))
    material = np.stack([x, y])
    sight = Sight(frame, camera, motion, poses, ray, depth, label, normal, colour, material, tissue, rest)
    for pose in poses.values():
        for cone in [shaft_of(pose, widening_of(script.config.specialty)), *cones_of(pose)]:
            _draw_cone(sight, pose, *cone)
    return sight


def flow_between(now: Sight, then: Sight) -> tuple[np.ndarray, np.ndarray]:
    """Flow [P, 2] in pixels (right, down) of what `now` shows, and whether `then` hides it, bool [P].

    A point is hidden when it leaves the picture, when its instrument is withdrawn, or when most of the four pixels
    around its new place show something else: another instrument, or another depth.
    """
    x, y = now.material_2xP
    before = where(now.motion, x, y, now.rest_P, now.tissue_Px8[:, 3])
    after = where(then.motion, x, y, now.rest_P, now.tissue_Px8[:, 3])
    gone = np.zeros(now.label_P.shape, bool)
    for pose in now.poses.values():
        seen = np.flatnonzero(now.slot_P == pose.slot + 1)
        before[:, seen] = after[:, seen] = now.point_3xP[:, seen]
        if pose.slot not in then.poses:
            gone[seen] = True
            continue
        for part in range(_PARTS):
            own = seen[now.label_P[seen] == 1 + pose.slot * _PARTS + part]
            after[:, own] = _carried(pose, then.poses[pose.slot], part, before[:, own])
    x_now, y_now, _ = project(now.camera, before)
    x_then, y_then, depth_then = project(then.camera, after)
    flow = np.stack([x_then - x_now, y_then - y_now], axis=1)
    columns, rows = np.meshgrid(np.arange(now.camera.width), np.arange(now.camera.height))
    to_x, to_y = columns.ravel() + flow[:, 0], rows.ravel() + flow[:, 1]
    return flow.astype(np.float32), gone | _hidden(then, now.slot_P, to_x, to_y, depth_then)


def tips(script: Script, sight: Sight) -> np.ndarray:
    """float32 [M, 2] pixels (x, y) of the tool tips, NaN where not inserted or behind the camera."""
    tip_3xM = np.asarray(script.tip_TxMx3[sight.number], np.float64).T
    x, y, depth = project(sight.camera, tip_3xM)
    shown = script.visible_TxM[sight.number] & (depth > 0)
    return np.where(shown[:, None], np.stack([x, y], axis=1), np.nan).astype(np.float32)


def lesion_of(surface: Surface, sight: Sight) -> np.ndarray:
    """bool [P]: pixels that show the lesion."""
    return lesion_share(surface, *sight.material_2xP) & (sight.label_P == 0)


def _with_blood(tissue_Px8: np.ndarray, formed: float) -> np.ndarray:
    """Colour [P, 3] of tissue with the share `formed` of its blood pools."""
    colour = tissue_Px8[:, :3].copy()
    if formed > 0:
        share = np.clip((np.float32(formed) - tissue_Px8[:, 4]) * 9, 0, 1)[:, None] * np.float32(0.86)
        colour += share * (np.array([112, 10, 10], np.float32) - colour)
    return colour


def _tissue_normal(camera: Camera, ray_3xP: np.ndarray, depth_P: np.ndarray) -> np.ndarray:
    """Normals [3, P] from differences between the points that neighbouring pixels show."""
    point = (depth_P * ray_3xP).reshape(3, camera.height, camera.width)
    across, down = np.empty_like(point), np.empty_like(point)
    across[:, :, 1:-1] = point[:, :, 2:] - point[:, :, :-2]
    across[:, :, 0], across[:, :, -1] = across[:, :, 1], across[:, :, -2]
    down[:, 1:-1] = point[:, 2:] - point[:, :-2]
    down[:, 0], down[:, -1] = down[:, 1], down[:, -2]
    normal = np.stack([
        down[1] * across[2] - down[2] * across[1],
        down[2] * across[0] - down[0] * across[2],
        down[0] * across[1] - down[1] * across[0],
    ])  # fmt: skip
    normal /= np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2) + np.float32(1e-12)
    return normal.reshape(3, -1)


def _draw_cone(
    sight: Sight, pose: Pose, cone: Cone, start_3: np.ndarray, end_3: np.ndarray, start_radius: float, end_radius: float
) -> None:
    """Writes a cone into `sight` wherever it lies in front of what is there."""
    camera = sight.camera
    near = _NEAR * float(camera.position_3[2])
    index = _pixels_near(camera, start_3, end_3, max(start_radius, end_radius), near)
    if not index.size:
        return
    depth, normal = meet_cone(camera.position_3, sight.ray_3xP[:, index], start_3, end_3, (start_radius, end_radius))
    ahead = (depth > near) & (depth < sight.depth_P[index])
    index, depth, normal = index[ahead], depth[ahead], normal[:, ahead]
    sight.depth_P[index] = depth
    sight.label_P[index] = 1 + pose.slot * _PARTS + cone.part
    sight.normal_3xP[:, index] = normal
    point = camera.position_3.astype(np.float32)[:, None] + depth * sight.ray_3xP[:, index]
    sight.colour_Px3[index] = colour_of(pose, cone, _own(pose, cone.part, point))


def _pixels_near(camera: Camera, start_3: np.ndarray, end_3: np.ndarray, radius: float, near: float) -> np.ndarray:
    """Indices of the pixels that a ball of `radius` moved from start to end may cover."""
    depth_2 = -(np.stack([start_3, end_3]) - camera.position_3) @ camera.axes_3x3[:, 2]
    if depth_2.max() <= near:
        return np.zeros(0, np.int64)
    # The part behind the camera is cut off; the cut end is as wide as the picture's scale there makes it.
    share = np.clip((near - depth_2[0]) / (depth_2[1] - depth_2[0]), 0, 1) if depth_2.min() < near else 0.0
    cut = start_3 + share * (end_3 - start_3)
    ends = (cut, end_3) if depth_2[0] < near else ((start_3, cut) if depth_2[1] < near else (start_3, end_3))
    x, y, depth = project(camera, np.stack(ends, axis=1))
    # A ball seen obliquely covers more than its radius over its depth.
    wide = 1.4 * camera.focal * radius / np.maximum(depth - radius, 0.5 * near) + 1.5
    low_x, high_x = (x - wide).min(), (x + wide).max()
    low_y, high_y = (y - wide).min(), (y + wide).max()
    columns = np.arange(max(0, int(np.floor(max(low_x, 0)))), min(camera.width, int(min(high_x, camera.width)) + 1))
    rows = np.arange(max(0, int(np.floor(max(low_y, 0)))), min(camera.height, int(min(high_y, camera.height)) + 1))
    if not columns.size or not rows.size:
        return np.zeros(0, np.int64)
    dx, dy = x[1] - x[0], y[1] - y[0]
    long2 = dx * dx + dy * dy + 1e-9
    px, py = columns[None] - x[0], rows[:, None] - y[0]
    along = np.clip((px * dx + py * dy) / long2, 0, 1)
    off_x, off_y = px - along * dx, py - along * dy
    inside = off_x * off_x + off_y * off_y < (wide[0] + along * (wide[1] - wide[0])) ** 2
    row, column = np.nonzero(inside)
    return rows[row] * camera.width + columns[column]


def _own(pose: Pose, part: int, point_3xN: np.ndarray) -> np.ndarray:
    """World points in the part's own frame."""
    away = point_3xN - pose.origin_3x3[part].astype(np.float32)[:, None]
    axes = pose.axes_3x3x3[part].astype(np.float32)
    return np.stack([axes[0, k] * away[0] + axes[1, k] * away[1] + axes[2, k] * away[2] for k in range(3)])


def _carried(now: Pose, then: Pose, part: int, point_3xN: np.ndarray) -> np.ndarray:
    """Where points fixed to a part are once the part has moved to its later pose."""
    own = _own(now, part, point_3xN)
    axes, origin = then.axes_3x3x3[part].astype(np.float32), then.origin_3x3[part].astype(np.float32)
    return np.stack([axes[k, 0] * own[0] + axes[k, 1] * own[1] + axes[k, 2] * own[2] + origin[k] for k in range(3)])


def _hidden(then: Sight, slot_P: np.ndarray, x: np.ndarray, y: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Whether less than half of the pixels around each place, weighed as by bilinear lookup, show the same thing."""
    width, height = then.camera.width, then.camera.height
    outside = (x < -0.5) | (y < -0.5) | (x > width - 0.5) | (y > height - 0.5) | (depth <= 0)
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    column = np.minimum(x.astype(np.int32), width - 2)
    row = np.minimum(y.astype(np.int32), height - 2)
    right, down = x - column, y - row
    slot_then = then.slot_P
    # A surface of slope 1 seen obliquely changes by about two pixels' worth of mm from one pixel to the next.
    bound = np.float32(2.5 / then.camera.focal) * depth
    found = np.zeros(slot_P.shape)
    for i, j, share in (
        (0, 0, (1 - right) * (1 - down)),
        (0, 1, right * (1 - down)),
        (1, 0, (1 - right) * down),
        (1, 1, right * down),
    ):
        index = (row + i) * width + (column + j)
        found += share * ((np.abs(then.depth_P[index] - depth) < bound) & (slot_then[index] == slot_P))
    return outside | (found < 0.5)
