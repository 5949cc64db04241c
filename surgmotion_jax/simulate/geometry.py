"""The pinhole camera: rays out of the picture, points into it.

Letters: H rows, W columns, P pixels (H * W, row by row), N points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surgmotion_jax.simulate.case import Script


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole: where it is, its axes as columns (right, up, backwards), focal length and centre in pixels."""

    position_3: np.ndarray
    axes_3x3: np.ndarray
    focal: float
    height: int
    width: int

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of the optical axis in pixels; pixel (0, 0) has its middle at (0, 0)."""
        return (self.width - 1) / 2, (self.height - 1) / 2


def rotation(pitch: float, yaw: float, roll: float) -> np.ndarray:
    """Axes of a camera turned about x, then its own y, then its own optical axis; radians, right-handed."""
    (cp, cy, cr), (sp, sy, sr) = np.cos([pitch, yaw, roll]), np.sin([pitch, yaw, roll])
    return np.array(
        [
            [cy * cr, -cy * sr, sy],
            [cp * sr + sp * sy * cr, cp * cr - sp * sy * sr, -sp * cy],
            [sp * sr - cp * sy * cr, sp * cr + cp * sy * sr, cp * cy],
        ]
    )


def camera_at(script: Script, frame: int) -> Camera:
    """The camera of one frame."""
    config = script.config
    position_3 = np.asarray(script.camera_position_Tx3[frame], np.float64)
    axes_3x3 = rotation(*np.asarray(script.camera_angles_Tx3[frame], np.float64).tolist())
    return Camera(position_3, axes_3x3, script.focal * config.height, config.height, config.width)


def pixel_rays(camera: Camera) -> np.ndarray:
    """float32 [3, P] world directions, scaled so that a point at `position + depth * ray` has that depth in mm."""
    cx, cy = camera.centre
    right_W = (np.arange(camera.width) - cx) / camera.focal
    up_H = (cy - np.arange(camera.height)) / camera.focal
    ray_3xHxW = (
        camera.axes_3x3[:, 0, None, None] * right_W
        + camera.axes_3x3[:, 1, None, None] * up_H[:, None]
        - camera.axes_3x3[:, 2, None, None]
    )
    return ray_3xHxW.reshape(3, -1).astype(np.float32)


def project(camera: Camera, point_3xN: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixel x, pixel y and depth (mm along the optical axis) of world points; meaningless where depth <= 0."""
    offset = [point_3xN[i] - camera.position_3[i].astype(point_3xN.dtype) for i in range(3)]
    axes = camera.axes_3x3.astype(point_3xN.dtype)
    right, up, back = (axes[0, k] * offset[0] + axes[1, k] * offset[1] + axes[2, k] * offset[2] for k in range(3))
    depth = -back
    scale = camera.focal / np.where(depth > 1e-6, depth, 1e-6)
    cx, cy = camera.centre
    return cx + right * scale, cy - up * scale, depth


def looked_at(script: Script) -> np.ndarray:
    """[T, 2] where the optical axis meets the plane z = 0, mm."""
    angles_Tx3 = np.asarray(script.camera_angles_Tx3, np.float64)
    position_Tx3 = np.asarray(script.camera_position_Tx3, np.float64)
    pitch_T, yaw_T = angles_Tx3[:, 0], angles_Tx3[:, 1]
    down_T = np.maximum(np.cos(pitch_T) * np.cos(yaw_T), 0.2)
    x_T = position_Tx3[:, 0] - np.sin(yaw_T) / down_T * position_Tx3[:, 2]
    y_T = position_Tx3[:, 1] + np.sin(pitch_T) * np.cos(yaw_T) / down_T * position_Tx3[:, 2]
    return np.stack([x_T, y_T], axis=1)
